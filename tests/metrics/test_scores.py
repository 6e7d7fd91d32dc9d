"""Accuracy, CLIP score, inception score, Frechet distance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from fedloom.errors import BadInput
from fedloom.metrics.accuracy import accuracy, per_class_accuracy
from fedloom.metrics.clip_score import clip_score
from fedloom.metrics.frechet import frechet_distance, moments
from fedloom.metrics.inception import inception_score
from reference import scores as slow


def test_accuracy_in_all_and_by_class() -> None:
    predicted, labels = [0, 1, 1, 2, 0], [0, 1, 2, 2, 0]
    assert accuracy(predicted, labels) == pytest.approx(0.8)
    assert accuracy(torch.tensor(predicted), np.array(labels)) == pytest.approx(0.8)
    assert per_class_accuracy(predicted, labels, 4) == [1.0, 1.0, 0.5, None]


def test_accuracy_of_nothing_is_an_error() -> None:
    with pytest.raises(BadInput, match="N > 0"):
        accuracy([], [])
    with pytest.raises(BadInput, match=r"\(2,\) and labels \(1,\)"):
        accuracy([1, 2], [1])
    with pytest.raises(BadInput, match="run from 0 to 7"):
        per_class_accuracy([0, 1], [0, 7], 3)


def test_clip_score() -> None:
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(20, 6)), rng.normal(size=(20, 6))
    assert clip_score(x, t) == pytest.approx(slow.clip(x.tolist(), t.tolist()))
    assert clip_score(torch.from_numpy(5 * x), t / 3) == pytest.approx(clip_score(x, t))
    assert clip_score(x, x) == pytest.approx(1.0)
    assert clip_score(x, -x) == 0.0  # negative cosines count as zero, one by one
    assert clip_score([[0.0, 0.0]], [[1.0, 0.0]]) == 0.0
    with pytest.raises(BadInput, match="image embeddings"):
        clip_score(x, t[:3])


def test_inception_score_of_known_cases() -> None:
    assert inception_score(np.eye(5)[[0, 1, 2, 3, 4] * 3]) == pytest.approx((5.0, 0.0))  # clear and varied: C
    assert inception_score(np.full((7, 4), 0.25)) == pytest.approx((1.0, 0.0))
    assert inception_score(np.eye(5)[[2] * 6]) == pytest.approx((1.0, 0.0))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_inception_score_against_the_slow_reference_and_torchmetrics() -> None:
    logits = 3 * torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    p = logits.double().softmax(1)
    assert inception_score(p)[0] == pytest.approx(slow.inception(p.tolist()))
    parts = [slow.inception(p[s::4].tolist()) for s in range(4)]
    mean, std = inception_score(p, splits=4)
    assert mean == pytest.approx(np.mean(parts))
    assert std == pytest.approx(np.std(parts, ddof=1))

    from torchmetrics.image.inception import InceptionScore

    peer = InceptionScore(feature=Rows(), splits=1)
    peer.update(as_images(logits))
    assert inception_score(logits.softmax(1))[0] == pytest.approx(peer.compute()[0].item(), rel=1e-5)


def test_inception_score_splits_do_not_follow_the_order_of_classes() -> None:
    p = np.repeat(np.eye(4), 10, axis=0)
    assert inception_score(p, splits=5) == pytest.approx((4.0, 0.0))


def test_inception_score_refuses_what_is_no_distribution() -> None:
    for bad in ([[0.5, 0.6]], [[1.2, -0.2]], [[math.nan, 1.0]]):
        with pytest.raises(BadInput, match="not a distribution"):
            inception_score(bad)
    with pytest.raises(BadInput, match="splits, 3"):
        inception_score(np.eye(2), splits=3)


class Rows(torch.nn.Module):
    """A feature network that reads its features out of the picture's bytes: float32 rows as uint8."""

    num_features = 5

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        flat = images.flatten(1)[:, : 4 * self.num_features].contiguous()
        return flat.view(torch.float32)


def as_images(features: torch.Tensor) -> torch.Tensor:
    """float32 (N, 5) as uint8 (N, 3, 4, 4) for `Rows`."""
    raw = features.float().contiguous().view(torch.uint8)
    return torch.cat([raw, raw.new_zeros(len(raw), 28)], 1).view(-1, 3, 4, 4)


def test_frechet_against_the_matrix_square_root_and_torchmetrics() -> None:
    g = torch.Generator().manual_seed(1)
    x, y = (
        torch.randn(300, 5, generator=g),
        torch.randn(200, 5, generator=g) @ torch.randn(5, 5, generator=g) + 0.5,
    )
    got = frechet_distance(x, y)
    assert got == pytest.approx(slow.frechet(x.double().numpy(), y.double().numpy()), rel=1e-8)
    assert frechet_distance(y, x) == pytest.approx(got)

    from torchmetrics.image.fid import FrechetInceptionDistance

    peer = FrechetInceptionDistance(feature=Rows(), input_img_size=(3, 4, 4))
    peer.set_dtype(torch.float64)
    peer.update(as_images(x), real=True)
    peer.update(as_images(y), real=False)
    assert got == pytest.approx(peer.compute().item(), rel=1e-4)


def test_frechet_of_known_cases() -> None:
    x = np.random.default_rng(2).normal(size=(100, 4))
    assert frechet_distance(x, x) == pytest.approx(0.0, abs=1e-10)
    assert frechet_distance(x, x[::-1] + [3.0, 0, 0, 4.0]) == pytest.approx(25.0)
    # covariance S against 4 S: Tr(S + 4 S - 2 * 2 S) = Tr S
    assert frechet_distance(x - x.mean(0), 2 * (x - x.mean(0))) == pytest.approx(np.trace(np.cov(x.T)))


@pytest.mark.parametrize("n", [2, 3, 10])
def test_frechet_with_fewer_samples_than_features(n: int) -> None:
    """Singular covariances, where a plain square root goes complex or NaN."""
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(n, 40)), rng.normal(size=(n + 1, 40))
    got = frechet_distance(x, y)
    assert got > 0
    assert frechet_distance(x, x) == pytest.approx(0.0, abs=1e-10)
    # two lines a, b: the cross term is |<a, b>|
    if n == 2:
        a, b = (x[0] - x[1]) / math.sqrt(2), (y[0] - y[1]) / math.sqrt(2)
        expected = ((x.mean(0) - y[:2].mean(0)) ** 2).sum() + a @ a + b @ b - 2 * abs(a @ b)
        assert frechet_distance(x, y[:2]) == pytest.approx(expected)


def test_frechet_of_moments_is_that_of_the_features() -> None:
    """Kept moments of a set, larger or smaller than its width, give the same number."""
    rng = np.random.default_rng(5)
    for n in (8, 40):
        x, y = rng.normal(size=(n, 12)), 2 * rng.normal(size=(n + 3, 12)) + 1
        assert frechet_distance(moments(x), y) == frechet_distance(x, moments(y)) == frechet_distance(x, y)
        root = moments(x).root
        assert np.allclose(root.T @ root, np.cov(x.T))
        assert root.shape == (min(n, 12), 12)
    with pytest.raises(BadInput, match="features of widths 12 and 4"):
        frechet_distance(moments(x), y[:, :4])


def test_frechet_of_constant_features_is_the_shift() -> None:
    assert frechet_distance(np.ones((5, 3)), np.zeros((4, 3))) == pytest.approx(3.0)


@pytest.mark.parametrize(("x", "y"), [((1, 3), (5, 3)), ((5, 3), (5, 2)), ((5,), (5,))])
def test_frechet_refuses_shapes(x: Any, y: Any) -> None:
    with pytest.raises(BadInput, match="features"):
        frechet_distance(np.zeros(x), np.zeros(y))
    with pytest.raises(BadInput, match="not finite"):
        frechet_distance(np.full((3, 2), math.nan), np.zeros((3, 2)))
