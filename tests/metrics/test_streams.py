"""Scores of a two-stream model, and the probe."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fedloom.metrics.streams import probe_accuracy, stream_scores
from fedloom.models.clients.multimodal import MultimodalClassifier


class Tower(nn.Module):
    width = 3

    def encode(self, pixel_values):
        return pixel_values


def model() -> MultimodalClassifier:
    """F reads the class off the first stream's features, and off the second's at half the strength."""
    found = MultimodalClassifier((Tower(), Tower()), ("audio", "image"), 3)
    with torch.no_grad():
        found.fusion.out.weight.copy_(torch.cat([torch.eye(3), 0.5 * torch.eye(3)], 1))
        found.fusion.out.bias.zero_()
    return found


def test_by_both_by_either_and_of_each_class():
    one = torch.eye(3)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    features = {"audio": one[[0, 0, 1, 0, 2, 0]], "image": one[[0, 1, 1, 1, 0, 0]]}
    present = torch.ones(6, 2, dtype=torch.bool)
    present[5, 0] = False  # its sound is not there
    features["audio"][5] = 0
    scores, classes = stream_scores(model(), features, present, labels)
    assert scores["server_accuracy"] == pytest.approx(4 / 6)  # sound decides where it is there
    assert classes["server"] == [1.0, 0.5, 0.5]
    assert scores["server_spread"] == pytest.approx(float(np.std([1.0, 0.5, 0.5])))
    assert scores["audio_own"] == scores["audio_zeros"] == pytest.approx(4 / 5)  # of the five that are heard
    assert scores["image_own"] == scores["image_zeros"] == pytest.approx(3 / 6)
    assert classes["image_own"] == [0.5, 1.0, 0.0]
    assert scores["audio_filled"] is None
    assert scores["image_filled"] is None


def test_a_class_without_test_samples_has_no_accuracy():
    features = {k: torch.eye(3)[:2] for k in ("audio", "image")}
    present = torch.ones(2, 2, dtype=torch.bool)
    scores, classes = stream_scores(model(), features, present, torch.tensor([0, 1]))
    assert classes["server"] == [1.0, 1.0, None]
    assert scores["server_spread"] == 0


def test_a_kind_that_no_test_sample_has():
    features = {"audio": torch.zeros(2, 3), "image": torch.eye(3)[:2]}
    present = torch.tensor([[False, True]] * 2)
    scores, _ = stream_scores(model(), features, present, torch.tensor([0, 1]))
    assert scores["audio_own"] is None
    assert scores["image_own"] == 1.0


def test_the_probe_reads_what_is_linear_and_nothing_of_noise():
    rng = torch.Generator().manual_seed(0)
    x, labels = torch.randn(600, 8, generator=rng), torch.arange(600) % 3
    seen = 5 * torch.randn(3, 8, generator=rng)[labels] + x
    assert probe_accuracy(seen[:400], labels[:400], seen[400:], labels[400:], 3) > 0.95
    assert probe_accuracy(x[:400], labels[:400], x[400:], labels[400:], 3) < 0.45
    scaled = 1e3 * seen + 7
    assert probe_accuracy(scaled[:400], labels[:400], scaled[400:], labels[400:], 3) == probe_accuracy(
        seen[:400], labels[:400], seen[400:], labels[400:], 3
    )


def test_the_probe_bears_a_feature_that_never_changes():
    x, labels = torch.zeros(20, 2), torch.arange(20) % 2
    x[:, 0] = labels
    assert probe_accuracy(x, labels, x, labels, 2) == 1.0
