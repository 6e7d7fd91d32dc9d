"""Robust averages of points, one sample at a time, in plain numbers. points[k]: client k's vector."""

from __future__ import annotations

import math

Point = list[float]


def median(points: list[Point], weights: list[float]) -> Point:
    """Of each component: mean of the smallest and the largest number with at most half of the weight on either side."""
    total, found = math.fsum(weights), []
    for d in range(len(points[0])):
        numbers = [p[d] for p in points]

        def fair(x: float, numbers: list[float] = numbers) -> bool:
            less = math.fsum(w for v, w in zip(numbers, weights) if v < x)
            more = math.fsum(w for v, w in zip(numbers, weights) if v > x)
            return max(less, more) <= total / 2 * (1 + 1e-9)

        middle = [x for x in numbers if fair(x)]
        found.append((min(middle) + max(middle)) / 2)
    return found


def trimmed(points: list[Point], weights: list[float], byzantine: float) -> Point:
    """Of each component: weighted mean without the smallest and the largest."""
    cut = math.floor(byzantine * len(points) + 1e-9)
    found = []
    for d in range(len(points[0])):
        rows = sorted((p[d], w) for p, w in zip(points, weights))[cut : len(points) - cut]
        found.append(math.fsum(v * w for v, w in rows) / math.fsum(w for _, w in rows))
    return found


def spread(points: list[Point], weights: list[float], v: Point) -> float:
    """What the geometric median makes least: the weighted sum of distances."""
    return math.fsum(w * math.dist(p, v) for p, w in zip(points, weights))


def multi_krum(points: list[Point], weights: list[float], byzantine: float) -> Point:
    """Weighted mean of those with the least sum of squared distances to their nearest others."""
    n = len(points)
    hostile = math.floor(byzantine * n + 1e-9)
    near = max(1, n - hostile - 2)
    scores = []
    for i, p in enumerate(points):
        apart = sorted(math.dist(p, q) ** 2 for j, q in enumerate(points) if j != i)
        scores.append((math.fsum(apart[:near]), i))
    chosen = [i for _, i in sorted(scores)[: n - hostile]]
    total = math.fsum(weights[i] for i in chosen)
    return [math.fsum(weights[i] * points[i][d] for i in chosen) / total for d in range(len(points[0]))]
