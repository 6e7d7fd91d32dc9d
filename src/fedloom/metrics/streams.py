"""How well a two-stream model tells classes by both kinds of data, by either, and where one is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

RIDGE = 1.0  # of the probe, on standardised features: a sample's worth of shrinkage a direction


def stream_scores(
    model: Any, features: Mapping[Any, Tensor], present: Tensor, labels: Tensor
) -> tuple[dict[str, float | None], dict[str, list[float | None]]]:
    """Scores of a two-stream model (`MultimodalClassifier`, wrapped or not) on test samples, without gradient.

    Args:
        features: h (N, d) of each stream; zeros where a sample lacks its kind.
        present: bool (N, 2).
        labels: int64 (N,).

    Returns:
        Scores by name, and accuracies of each class by name (None for a class without test samples).
            server_accuracy: by all that a sample has; server_spread: standard deviation of its classes' accuracies;
            KIND_own: by the classifier of that kind alone, where a model has one, else as KIND_zeros;
            KIND_zeros: by the fusion head, zeros in the other's place;
            KIND_filled: by the fusion head, the method's substitute in the other's place; None where it has none.
        Those of a kind are over the samples that have it.
    """
    kinds = model.kinds
    with torch.no_grad():
        answers = {"server": (model.classify(model.joined(features, present)), labels)}
        for i, kind in enumerate(kinds):
            at = present[:, i]
            only = torch.zeros(int(at.sum()), 2, dtype=torch.bool)
            only[:, i] = True
            h = {k: v[at] * only[:, [j]] for j, (k, v) in enumerate((k, features[k]) for k in kinds)}
            answers[f"{kind}_own"] = model.own(kind, h[kind]), labels[at]
            answers[f"{kind}_zeros"] = model.classify(model.joined(h, only, fill=False)), labels[at]
            if model.fills:
                answers[f"{kind}_filled"] = model.classify(model.joined(h, only)), labels[at]
    scores: dict[str, float | None] = {}
    classes: dict[str, list[float | None]] = {}
    for name, (logits, truth) in answers.items():
        right = (logits.argmax(1) == truth).double()
        scores["server_accuracy" if name == "server" else name] = float(right.mean()) if len(right) else None
        counts = torch.bincount(truth, minlength=model.classes)
        hits = torch.bincount(truth, weights=right, minlength=model.classes)
        classes[name] = [float(a / n) if n else None for a, n in zip(hits, counts)]
    known = [a for a in classes["server"] if a is not None]
    scores["server_spread"] = float(torch.tensor(known).double().std(correction=0)) if known else None
    for kind in kinds:
        scores.setdefault(f"{kind}_filled", None)
    return scores, classes


def probe_accuracy(train: Tensor, labels: Tensor, test: Tensor, truth: Tensor, classes: int) -> float:
    """Accuracy of a ridge regression on features: what a linear reader can get of them, whatever the model does itself.

    Args:
        train, test: features (N, d) and (M, d).
        labels, truth: int64 (N,) and (M,).
        classes: C.
    """
    x, y = train.double(), F.one_hot(labels, classes).double()
    mean, scale = x.mean(0), x.std(0).clamp_min(1e-6)
    x = (x - mean) / scale
    gram = x.T @ x + RIDGE * torch.eye(x.shape[1], dtype=torch.float64)
    weight = torch.linalg.solve(gram, x.T @ (y - y.mean(0)))
    found = ((test.double() - mean) / scale) @ weight + y.mean(0)
    return float((found.argmax(1) == truth).double().mean())
