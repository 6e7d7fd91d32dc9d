"""A MobileNet's graph, one output position at a time, in double precision.

Its arguments are NumPy arrays, not lists: loops over channels would take hours.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def forward(graph: dict[str, Any], arrays: dict[str, np.ndarray], picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features and logits of one picture: uint8 (H, W, 3)."""
    x = (picture.transpose(2, 0, 1).astype(float) - graph["input_zero_point"]) * graph["input_scale"]
    tensors = {graph["input_tensor"]: x}
    features = x
    for op in graph["graph"]:
        given = [tensors[i] for i in op["inputs"]]
        if op["op"] in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            y = convolve(given[0], arrays[op["weight"]], arrays[op["bias"]], op["stride"], op["op"] == "CONV_2D")
        elif op["op"] == "ADD":
            y = given[0] + given[1]
        elif op["op"] == "AVERAGE_POOL_2D":
            y = given[0].mean((1, 2), keepdims=True)
            features = y
        else:
            break
        if op.get("act", 0):
            y = np.maximum(y, 0)
        if op.get("act", 0) == 3:
            y = np.minimum(y, 6)
        tensors[op["output"]] = y
    return features[:, 0, 0], y[:, 0, 0]


def convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int, mixes: bool) -> np.ndarray:
    """SAME convolution of x (C, H, W); `mixes`: every output sees all channels, else its own."""
    channels, height, width = x.shape
    weight, bias, k = weight.astype(float), bias.astype(float), weight.shape[2]
    rows, columns = -(-height // stride), -(-width // stride)
    extra_rows = max((rows - 1) * stride + k - height, 0)
    extra_columns = max((columns - 1) * stride + k - width, 0)
    padded = np.zeros((channels, height + extra_rows, width + extra_columns))
    top, left = extra_rows // 2, extra_columns // 2
    padded[:, top : top + height, left : left + width] = x
    out = np.zeros((len(weight), rows, columns))
    for i in range(rows):
        for j in range(columns):
            patch = padded[:, i * stride : i * stride + k, j * stride : j * stride + k]
            if mixes:
                out[:, i, j] = (weight * patch).sum((1, 2, 3)) + bias
            else:
                out[:, i, j] = (weight[:, 0] * patch).sum((1, 2)) + bias
    return out
