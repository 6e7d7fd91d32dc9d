"""Which clients stand out from the rest in a round: their norms, how they agree, how far they are from the middle.

Numbers are compared by the modified z-score: the distance from the median over 1.4826 times the median absolute
deviation. Above 3.5 a number stands out (Iglewicz, B. and Hoaglin, D. C.: How to detect and handle outliers. ASQC
Quality Press, 1993). With few clients, or unlike ones, honest clients stand out too: it is a hint, no proof.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Literal

import torch
from torch import Tensor

from fedloom.functional.norms import unit
from fedloom.functional.robust import combine
from fedloom.functional.voting import vote_sums

OUTLYING = 3.5
FEWEST = 3  # of fewer clients, nobody can say which is the odd one
Side = Literal["low", "high", "both"]


def stands_out(
    numbers: Sequence[float | None], side: Side, *, relative: bool = False, least: float = 0.1
) -> list[bool]:
    """Which of the clients' numbers stand out; None, of a client without one, never does.

    Args:
        numbers: one a client.
        side: below the others, above them, or both.
        relative: compare logarithms: numbers that are not negative, and stand out by a factor.
        least: smallest deviation that counts as usual, so that clients that are almost alike do not stand out.

    Returns:
        A truth value a client; none is true for fewer than three numbers.
    """
    found = [None if x is None or not math.isfinite(x) else _log(x) if relative else x for x in numbers]
    known = [x for x in found if x is not None]
    if len(known) < FEWEST:
        return [False] * len(found)
    centre = median(known)
    usual = max(1.4826 * median(abs(x - centre) for x in known), least)
    scores = [0.0 if x is None else (x - centre) / usual for x in found]
    return [(side != "low" and z > OUTLYING) or (side != "high" and z < -OUTLYING) for z in scores]


def _log(x: float) -> float:
    return math.log(max(x, 1e-30))


@torch.no_grad()
def label_agreement(labels: Tensor, classes: int) -> list[float | None]:
    """Share of a client's labels that most of the others give too: of (K, S), -1 where absent, K numbers.

    Samples on which the others do not agree on one class are left out; None without any other.
    """
    found: list[float | None] = []
    once = torch.ones(labels.shape, device=labels.device)
    counts = vote_sums(labels, once, classes) if len(labels) else once
    for own in labels:
        rest = counts - vote_sums(own[None], once[:1], classes)
        most = rest.max(1, keepdim=True).values
        clear = (own >= 0) & (most[:, 0] > 0) & ((rest == most).sum(1) == 1)
        found.append(float((rest.argmax(1) == own)[clear].float().mean()) if clear.any() else None)
    return found


@torch.no_grad()
def row_agreement(values: Tensor, present: Tensor) -> list[float | None]:
    """Mean cosine of a client's rows with the sum of the others' unit rows: of (K, N, D), bool (K, N), K numbers.

    None of a client that is alone on all its samples.
    """
    z = unit(values.masked_fill(~present[..., None], 0.0).double())
    rest = z.sum(0) - z
    both = present & (present.sum(0) > 1)
    cosines = (unit(rest) * z).sum(-1)
    return [float(c[b].mean()) if b.any() else None for c, b in zip(cosines, both)]


@torch.no_grad()
def row_norms(values: Tensor, present: Tensor) -> list[float | None]:
    """Root mean square over its samples of the lengths of a client's rows: of (K, N, D), bool (K, N), K numbers."""
    squares = values.masked_fill(~present[..., None], 0.0).double().square().sum(-1)
    return [math.sqrt(float(s[p].mean())) if p.any() else None for s, p in zip(squares, present)]


@torch.no_grad()
def row_distances(values: Tensor, present: Tensor) -> list[float | None]:
    """The same of the distance from the clients' median, component by component."""
    z = values.masked_fill(~present[..., None], 0.0).double()
    return row_norms(z - combine(z, "median", present=present), present)
