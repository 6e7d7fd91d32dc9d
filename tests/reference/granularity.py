"""FedAFD's fusion on (B, L, D) nested lists, from the weights of a module's state."""

from __future__ import annotations

import math
from typing import Any

from reference.vectors import Vector, add, dot, layer_norm, mean

Weights = dict[str, Any]  # names of a module's state -> nested lists
EPS = 1e-5


def _affine(row: Vector, weight: Vector, bias: Vector) -> Vector:
    return [a * x + b for a, x, b in zip(weight, row, bias, strict=True)]


def _normed(rows: list[Vector], state: Weights, name: str, norm: str, training: bool) -> list[Vector]:
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    if norm == "layer":
        return [_affine(layer_norm(row, EPS), weight, bias) for row in rows]
    centre, variance = mean(rows), mean([[x * x for x in row] for row in rows])
    variance = [v - m * m for v, m in zip(variance, centre, strict=True)]
    if not training:
        centre, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    out = []
    for row in rows:
        there = [(x - m) / math.sqrt(v + EPS) for x, m, v in zip(row, centre, variance, strict=True)]
        out.append(_affine(there, weight, bias))
    return out


def _branch(rows: list[Vector], state: Weights, name: str, norm: str, training: bool) -> list[Vector]:
    for linear, after in ((0, 1), (3, 4)):
        weight, bias = state[f"{name}.{linear}.weight"], state[f"{name}.{linear}.bias"]
        rows = [[dot(w, row) + b for w, b in zip(weight, bias, strict=True)] for row in rows]
        rows = _normed(rows, state, f"{name}.{after}", norm, training)
        if linear == 0:
            rows = [[max(v, 0.0) for v in row] for row in rows]
    return rows


def _gate(
    z: list[list[Vector]], state: Weights, local: int, overall: int, norm: str, training: bool
) -> list[list[Vector]]:
    length = len(z[0])
    fine = _branch([row for sample in z for row in sample], state, f"local_branches.{local}", norm, training)
    coarse = _branch([mean(sample) for sample in z], state, f"global_branches.{overall}", norm, training)
    return [
        [[1 / (1 + math.exp(-v)) for v in add(fine[b * length + p], coarse[b])] for p in range(length)]
        for b in range(len(z))
    ]


def _mixed(x: Any, g: Any, gate: Any) -> Any:
    if isinstance(x, list):
        return [_mixed(*each) for each in zip(x, g, gate, strict=True)]
    return gate * x + (1 - gate) * g


def fused(
    x: list[list[Vector]],
    g: list[list[Vector]],
    state: Weights,
    norm: str = "batch",
    share: bool = False,
    training: bool = True,
) -> list[list[Vector]]:
    total = [[add(u, v) for u, v in zip(own, other, strict=True)] for own, other in zip(x, g, strict=True)]
    h = _mixed(x, g, _gate(total, state, 0, 0, norm, training))
    return _mixed(x, g, _gate(h, state, 1, 0 if share else 1, norm, training))
