"""Eq. 13's alignment term."""

from __future__ import annotations

import math

from reference.vectors import Vector, cosine, layer_norm, log_sum_exp, unit


def align(
    g: list[Vector], target: list[Vector], kind: str, direction: str, temperature: float, normalise: str
) -> float:
    norm = {"layer": layer_norm, "l2": unit, "none": list}[normalise]
    each = []
    for own, wanted in zip(g, target, strict=True):
        q, p = norm(own), norm(wanted)
        if kind == "mse":
            each.append(math.fsum((a - b) ** 2 for a, b in zip(q, p, strict=True)) / len(q))
        elif kind == "cos":
            each.append(1 - cosine(q, p))
        else:
            q, p = ([x / temperature for x in v] for v in (q, p))
            q, p = ([x - log_sum_exp(v) for x in v] for v in (q, p))
            if direction == "reverse":
                q, p = p, q
            each.append(temperature**2 * math.fsum(math.exp(b) * (b - a) for a, b in zip(q, p, strict=True)))
    return math.fsum(each) / len(each)
