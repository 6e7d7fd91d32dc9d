"""Eqs. 6-10, 28-30 and 33, with absent clients. z[k][i] is client k's vector for sample i; here[k][i] its presence."""

from __future__ import annotations

import math

from reference.vectors import (
    Vector,
    add,
    cosine,
    dot,
    layer_norm,
    log_sum_exp,
    mean,
    scaled,
    softmax,
    unit,
)

Stack = list[list[Vector]]
Presence = list[list[bool]]


def mean_over(z: Stack, here: Presence) -> list[Vector]:
    """Mean over present clients; zeros where there are none."""
    out = []
    for i in range(len(z[0])):
        rows = [z[k][i] for k in range(len(z)) if here[k][i]]
        out.append(mean(rows) if rows else [0.0] * len(z[0][0]))
    return out


def attend(r: list[Vector], context: list[Vector], mode: str, temperature: float, heads: int) -> list[Vector]:
    """Eqs. 6-7, one client."""
    d = len(r[0])
    out = []
    for i, own in enumerate(r):
        if mode == "paired":
            heard = unit(context[i])
        elif mode == "batch":
            a = softmax([dot(unit(own), unit(c)) / temperature for c in context])
            assert abs(sum(a) - 1) < 1e-12
            heard = [math.fsum(a[j] * unit(context[j])[n] for j in range(len(context))) for n in range(d)]
        elif mode == "chunk":
            width = d // heads
            pieces = [slice(h * width, (h + 1) * width) for h in range(heads)]
            q, c = scaled(unit(own), math.sqrt(d)), scaled(unit(context[i]), math.sqrt(d))
            heard = []
            for p in pieces:
                a = softmax([dot(q[p], c[o]) / math.sqrt(width) for o in pieces])
                heard += [math.fsum(a[o] * unit(context[i])[pieces[o]][n] for o in range(heads)) for n in range(width)]
        else:  # mha with identity maps: each head attends over the samples with its own slice
            width = d // heads
            heard = []
            for h in range(heads):
                p = slice(h * width, (h + 1) * width)
                q = scaled(unit(own), math.sqrt(d))[p]
                a = softmax([dot(q, scaled(unit(c), math.sqrt(d))[p]) / math.sqrt(width) for c in context])
                heard += [math.fsum(a[j] * unit(context[j])[p][n] for j in range(len(context))) for n in range(width)]
        out.append(layer_norm(scaled(add(unit(own), heard), math.sqrt(d))))
    return out


def scores(
    z: list[Vector],
    anchors: list[Vector],
    temperature: float = 1.0,
    include_self: bool = False,
    raw: bool = False,
) -> Vector:
    """Eq. 8, one client."""
    alike = dot if raw else cosine
    if len(z) == 1:
        return [0.0]
    out = []
    for i, own in enumerate(z):
        others = [alike(own, a) / temperature for j, a in enumerate(anchors) if include_self or j != i]
        out.append(alike(own, anchors[i]) / temperature - log_sum_exp(others))
    return out


def weights(s: list[Vector], here: Presence) -> list[Vector]:
    """Eq. 9: s[k][i] to alpha[k][i]."""
    out = [[0.0] * len(s[0]) for _ in s]
    for i in range(len(s[0])):
        k_here = [k for k in range(len(s)) if here[k][i]]
        if k_here:
            for k, a in zip(k_here, softmax([s[k][i] for k in k_here]), strict=True):
                out[k][i] = a
    return out


def fuse(z: Stack, alpha: list[Vector]) -> list[Vector]:
    """Eq. 10."""
    out = []
    for i in range(len(z[0])):
        row = [0.0] * len(z[0][0])
        for k in range(len(z)):
            if alpha[k][i]:
                row = add(row, scaled(z[k][i], alpha[k][i]))
        out.append(row)
    return out


def fuse_modalities(
    image: Stack,
    text: Stack,
    image_here: Presence,
    text_here: Presence,
    mode: str,
    anchor: str,
    balance: bool,
    temperature: float,
    include_self: bool,
    attention_temperature: float,
    heads: int,
) -> tuple[list[Vector], list[Vector]]:
    """Eqs. 6-10: R and alpha."""

    mean_image, mean_text = mean_over(image, image_here), mean_over(text, text_here)
    image = [attend(r, mean_text, mode, attention_temperature, heads) for r in _zero_where_absent(image, image_here)]
    text = [attend(r, mean_image, mode, attention_temperature, heads) for r in _zero_where_absent(text, text_here)]
    if anchor == "enhanced":
        mean_image, mean_text = mean_over(image, image_here), mean_over(text, text_here)
    s = [scores(r, mean_text, temperature, include_self) for r in image]
    s += [scores(r, mean_image, temperature, include_self) for r in text]
    here = image_here + text_here
    if balance:
        for k in range(len(s)):
            own = image_here if k < len(image) else text_here
            s[k] = [x - math.log(max(1, sum(row[i] for row in own))) for i, x in enumerate(s[k])]
    alpha = weights(s, here)
    return fuse(image + text, alpha), alpha


def fuse_views(z: Stack, augmented: Stack, here: Presence) -> tuple[list[Vector], list[Vector]]:
    """Eqs. 33, 9, 10."""
    anchors = mean_over(augmented, here)
    alpha = weights([scores(r, anchors) for r in _zero_where_absent(z, here)], here)
    return fuse(z, alpha), alpha


def _zero_where_absent(z: Stack, here: Presence) -> Stack:
    """NaN of absent clients would stop the sums; what they hold must not matter."""
    return [
        [v if ok else [0.0] * len(v) for v, ok in zip(rows, present, strict=True)]
        for rows, present in zip(z, here, strict=True)
    ]


def fuse_logits(logits: Stack, modality: list[str], centre: bool) -> list[Vector]:
    """Eqs. 28-30, all present."""
    z = [[[x - math.fsum(v) / len(v) for x in v] if centre else v for v in row] for row in logits]
    s = []
    for k, own in enumerate(modality):
        others = [z[j] for j, m in enumerate(modality) if m != own] or z
        s.append(scores(z[k], mean_over(others, [[True] * len(z[0])] * len(others))))
    return fuse(logits, weights(s, [[True] * len(z[0])] * len(z)))
