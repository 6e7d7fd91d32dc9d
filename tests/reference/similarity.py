"""FedAFD's ensemble, with the whole P x P matrix.

z[k][i] is client k's vector for sample i; here[k][i] its presence.
"""

from __future__ import annotations

import math

from reference.vectors import Vector, add, dot, log_sum_exp, scaled, softmax

Stack = list[list[Vector]]
Presence = list[list[bool]]


def weights(z: Stack, bank: list[Vector], temperature: float, here: Presence) -> list[Vector]:
    """w[k][i]; rows of unit length."""
    out = [[0.0] * len(bank) for _ in z]
    for i in range(len(bank)):
        found = {}
        for k, own in enumerate(z):
            if here[k][i]:
                row = [dot(own[i], g) / temperature for g in bank]
                found[k] = row[i] - log_sum_exp(row)
        if found:
            for k, w in zip(found, softmax(list(found.values())), strict=True):
                out[k][i] = w
    return out


def aggregate(z: Stack, w: list[Vector], here: Presence) -> list[Vector]:
    out = []
    for i in range(len(w[0])):
        row = [0.0] * len(z[0][0])
        for k in range(len(z)):
            if here[k][i]:
                row = add(row, scaled(z[k][i], w[k][i]))
        out.append(row)
    return out


def entropy(column: Vector) -> float:
    return -math.fsum(w * math.log(w) for w in column if w > 0)


def distance(a: list[Vector], b: list[Vector], kind: str) -> float:
    squares = [math.fsum((x - y) ** 2 for x, y in zip(u, v, strict=True)) for u, v in zip(a, b, strict=True)]
    if kind == "mse":
        return math.fsum(squares) / (len(a) * len(a[0]))
    return math.fsum(map(math.sqrt, squares)) / len(a)
