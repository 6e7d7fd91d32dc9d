"""Soft pairwise matching in its two directions, and the spread of class weights."""

from __future__ import annotations

import math

from reference.vectors import Vector, dot, log_sum_exp


def logit(x: Vector, y: Vector, scale: float, shift: float) -> float:
    return shift - scale * math.sqrt(math.fsum((u - v) ** 2 for u, v in zip(x, y, strict=True)) + 1e-6)


def probability(x: Vector, y: Vector, scale: float, shift: float) -> float:
    l = logit(x, y, scale, shift)  # noqa: E741
    return math.exp(l) / (math.exp(l) + math.exp(-l))


def loss(x: list[Vector], y: list[Vector], scale: float, shift: float) -> float:
    total = []
    for queries, candidates in ((x, y), (y, x)):
        for i, query in enumerate(queries):
            for j, candidate in enumerate(candidates):
                l = logit(query, candidate, scale, shift)  # noqa: E741
                total.append(log_sum_exp([l, -l]) - (l if i == j else -l))
    return math.fsum(total)


def class_spread(w: list[Vector], coefficient: float) -> float:
    v = [[max(x, 0.0) for x in row] for row in w]
    each = [log_sum_exp([dot(own, other) for other in v]) - dot(own, own) for own in v]
    return coefficient * math.fsum(each) / len(each)


def margin(logits: list[Vector], labels: list[int], margin: float) -> float:
    each = []
    for row, y in zip(logits, labels, strict=True):
        lowered = [x - margin if c == y else x for c, x in enumerate(row)]
        each.append(log_sum_exp(lowered) - lowered[y])
    return math.fsum(each) / len(each)
