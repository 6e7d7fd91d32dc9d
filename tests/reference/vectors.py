"""Vectors as lists of floats."""

from __future__ import annotations

import math

Vector = list[float]


def dot(a: Vector, b: Vector) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def unit(a: Vector) -> Vector:
    n = max(math.sqrt(dot(a, a)), 1e-8)
    return [x / n for x in a]


def cosine(a: Vector, b: Vector) -> float:
    return dot(unit(a), unit(b))


def layer_norm(a: Vector, eps: float = 1e-8) -> Vector:
    mean = math.fsum(a) / len(a)
    variance = math.fsum((x - mean) ** 2 for x in a) / len(a)
    return [(x - mean) / math.sqrt(variance + eps) for x in a]


def add(a: Vector, b: Vector) -> Vector:
    return [x + y for x, y in zip(a, b, strict=True)]


def scaled(a: Vector, s: float) -> Vector:
    return [x * s for x in a]


def softmax(a: Vector) -> Vector:
    top = max(a)
    e = [math.exp(x - top) for x in a]
    return [x / math.fsum(e) for x in e]


def log_sum_exp(a: Vector) -> float:
    top = max(a)
    return top + math.log(math.fsum(math.exp(x - top) for x in a))


def mean(rows: list[Vector]) -> Vector:
    """Mean of the rows; the caller makes sure that there is one."""
    return [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]
