"""The smallest MobileNet as it is stored, and a learner on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedloom.models.clients.mobilenet import FeatureClientModel, load_mobilenet

CLASSES, WIDTH, SIDE = 3, 8, 32


def convolution(n: int, kind: str, stride: int, act: int, inputs: int, output: int) -> dict[str, Any]:
    names = {"weight": f"op{n:02}.weight", "bias": f"op{n:02}.bias", "padding": "SAME"}
    return {"op": kind, "inputs": [inputs], "output": output, "stride": stride, "act": act, **names}


def tiny(version: int = 1) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The smallest MobileNet of a version, as it is stored: F = 64 or 1280."""
    last, expanded = (64, 0) if version == 1 else (1280, 48)
    # outputs, inputs, kind, stride, activation
    shapes: list[tuple[int, int, str, int, int]] = [(8, 3, "CONV_2D", 2, 3)]
    adds = []  # after which convolutions
    if version == 1:
        widths = [max(depth // 16, 8) for depth in (32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)]
        for before, after, stride in zip(widths, widths[1:], [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]):
            shapes += [(before, 1, "DEPTHWISE_CONV_2D", stride, 3), (after, before, "CONV_2D", 1, 3)]
    else:
        shapes += [(8, 1, "DEPTHWISE_CONV_2D", 1, 3), (8, 8, "CONV_2D", 1, 0)]
        for n, stride in enumerate([2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]):
            out = 16 if n == 15 else 8
            shapes += [(expanded, 8, "CONV_2D", 1, 3), (expanded, 1, "DEPTHWISE_CONV_2D", stride, 3)]
            shapes += [(out, expanded, "CONV_2D", 1, 0)]
            adds += [len(shapes) - 1] * (stride == 1 and out == 8)
        shapes += [(last, 16, "CONV_2D", 1, 3)]
    rng, graph, arrays = np.random.default_rng(0), [], {}
    at = block = 7  # the tensors that the next operation, and the next shortcut, begin with
    for n, (out, inputs, kind, stride, act) in enumerate([*shapes, (5, last, "CONV_2D", 1, 0)]):
        if n == len(shapes):
            graph.append({"op": "AVERAGE_POOL_2D", "inputs": [at], "output": 200})
            at = 200
        side = 1 if kind == "CONV_2D" and n else 3
        graph.append(convolution(n, kind, stride, act, at, 10 + n))
        arrays[f"op{n:02}.weight"] = rng.normal(0, 2 / np.sqrt(inputs * side**2), (out, inputs, side, side))
        arrays[f"op{n:02}.bias"] = rng.normal(0, 0.1, out)
        at = 10 + n
        if n in adds:
            graph.append({"op": "ADD", "inputs": [at, block], "output": 100 + n})
            at = 100 + n
        if version == 2 and act == 0:
            block = at
    graph += [{"op": kind, "inputs": [at + i], "output": at + i + 1} for i, kind in enumerate(["RESHAPE", "SOFTMAX"])]
    head = {"input_size": 16, "input_scale": 1 / 128, "input_zero_point": 128, "input_tensor": 7}
    return {**head, "graph": graph}, {key: value.astype(np.float16) for key, value in arrays.items()}


def write(prefix: Path, graph: dict[str, Any], arrays: dict[str, np.ndarray]) -> Path:
    np.savez(f"{prefix}.npz", **arrays)
    Path(f"{prefix}.json").write_text(json.dumps(graph))
    return prefix


def pictures(n: int, height: int = 16, width: int = 16, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def learner_on(stored: Path, seed: int = 0) -> FeatureClientModel:
    torch.manual_seed(seed)
    return FeatureClientModel(load_mobilenet(stored), CLASSES, WIDTH, SIDE)
