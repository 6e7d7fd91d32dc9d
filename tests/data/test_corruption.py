"""Corruption: rates within their bounds, what stays, and equal draws for equal generators."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from fedloom.config.corruption import Corruption
from fedloom.data.containers import ClientData, ImageSet, TextSet
from fedloom.data.corruption import Corrupted, corrupt, relabel, transition
from fedloom.data.joint import MultimodalSamples
from fedloom.data.pairs import ImageTextPairs
from fedloom.errors import BadInput

N, C = 2000, 6
LABELS = np.arange(N, dtype=np.int64) % C


def pictures(n: int = N) -> Any:
    """Pictures that say in their first two pixels which they are."""
    images = np.zeros((n, 2, 2, 3), dtype=np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1], images[:, 1, 1] = np.arange(n) // 256, np.arange(n) % 256, 9
    return images


def number(images: Any) -> Any:
    return images[..., 0, 0, 0].astype(int) * 256 + images[..., 0, 0, 1]


def joint(n: int = N) -> MultimodalSamples:
    audio = np.ones((n, 2, 3), dtype=np.float32)
    return MultimodalSamples({"audio": audio, "image": pictures(n)[:, None]}, LABELS[:n], ids=tuple(map(str, range(n))))


def pairs(n: int = N) -> ImageTextPairs:
    owner = np.repeat(np.arange(n, dtype=np.int64), 2)
    return ImageTextPairs(pictures(n), tuple(f"{i} {j}" for i in range(n) for j in "ab"), owner)


def all_kinds(n: int = N) -> dict[str, ClientData]:
    return {
        "joint": joint(n),
        "image": ImageSet(pictures(n), LABELS[:n]),
        "text": TextSet(tuple(map(str, range(n))), LABELS[:n]),
        "pair": pairs(n),
    }


def go(held: ClientData, seed: int = 0, **settings: Any) -> Corrupted:
    return corrupt(held, Corruption(**settings), C, np.random.default_rng(seed))


def labels_of(corrupted: Corrupted) -> Any:
    assert not isinstance(corrupted.samples, ImageTextPairs)
    return corrupted.samples.labels


def near(count: int, rate: float, n: int = N) -> bool:
    """Within five standard deviations of a binomial count."""
    return bool(abs(count - rate * n) <= 5 * np.sqrt(n * rate * (1 - rate)))


@pytest.mark.parametrize("kind", ["joint", "image", "text", "pair"])
def test_nothing_is_broken_by_default(kind: str) -> None:
    assert not Corruption().active
    held = all_kinds()[kind]
    done = go(held)
    assert (done.missing, done.unlabelled, done.wrong, len(done.samples)) == (0, 0, 0, N)
    if not isinstance(held, ImageTextPairs):
        assert np.array_equal(labels_of(done), LABELS)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_missing_kinds_of_joint_samples(rate: float) -> None:
    """Each kind by itself: both are missing at the rate's square, those are dropped; what is missing is blank."""
    done = go(joint(), missing_modality=rate)
    held = done.samples
    assert isinstance(held, MultimodalSamples)
    assert near(N - len(held), rate**2)
    assert near(done.missing, rate, 2 * N)
    for kind in ("audio", "image"):
        mask, part = held.present[kind], held.parts[kind]
        assert near(int((~mask).sum()), rate * (1 - rate))
        assert isinstance(part, np.ndarray)
        assert not part[~mask].any()
        assert part[mask].reshape(mask.sum(), -1).any(axis=1).all()
    assert done.missing == 2 * (N - len(held)) + sum(int((~m).sum()) for m in held.present.values())
    i = np.array([int(name) for name in held.ids])
    assert np.array_equal(held.labels, LABELS[i])
    seen = held.present["image"]
    assert np.array_equal(number(np.asarray(held.parts["image"])[seen, 0]), i[seen])


def test_what_a_sample_lacked_before_is_not_counted_again() -> None:
    before = joint().lacking({"audio": np.arange(N) % 2 == 0})
    done = go(before, missing_modality=0.5)
    assert near(done.missing, 0.5, 3 * N // 2)
    assert isinstance(done.samples, MultimodalSamples)
    assert not done.samples.present["audio"][[int(name) % 2 == 0 for name in done.samples.ids]].any()


@pytest.mark.parametrize("kind", ["image", "text", "pair"])
def test_missing_samples_are_dropped(kind: str) -> None:
    done = go(all_kinds()[kind], missing_modality=0.3)
    assert near(len(done.samples), 0.7 if kind != "pair" else 0.49)
    if isinstance(done.samples, ImageTextPairs):
        own = number(done.samples.images)
        assert done.samples.captions == tuple(f"{i} {j}" for i in own for j in "ab")
    elif isinstance(done.samples, ImageSet):
        assert np.array_equal(LABELS[number(done.samples.images)], labels_of(done))
    elif isinstance(done.samples, TextSet):
        assert np.array_equal(LABELS[[int(t) for t in done.samples.texts]], labels_of(done))


@pytest.mark.parametrize("kind", ["joint", "image", "text"])
def test_labels_missing_and_wrong(kind: str) -> None:
    held = all_kinds()[kind]
    done = go(held, missing_label=0.4, wrong_label=0.25)
    assert near(done.unlabelled, 0.4)
    assert len(done.samples) == N - done.unlabelled
    assert near(done.wrong, 0.25, len(done.samples))
    if isinstance(done.samples, MultimodalSamples):
        truth = LABELS[[int(name) for name in done.samples.ids]]
        assert int((truth != labels_of(done)).sum()) == done.wrong
    assert np.array_equal(held.labels, LABELS)  # type: ignore[union-attr]


def test_pairs_have_no_labels() -> None:
    done = go(pairs(), missing_label=1.0, wrong_label=1.0)
    assert (len(done.samples), done.unlabelled, done.wrong) == (N, 0, 0)


@pytest.mark.parametrize(("spread", "wrong"), [(0.0, 1), (0.2, 1), (0.6, 3), (1.0, 5)])
def test_transition(spread: float, wrong: int) -> None:
    """Rows are distributions over the class and as many others as the spread says; labels are drawn from it."""
    corruption = Corruption(wrong_label=0.3, wrong_spread=spread)
    P = transition(C, corruption, np.random.default_rng(1))
    assert P.sum(1) == pytest.approx(1)
    assert np.diag(P) == pytest.approx(0.7)
    assert ((P > 0).sum(1) == 1 + wrong).all()
    assert P[P > 0].min() == pytest.approx(0.3 / wrong)
    many = np.repeat(np.arange(C), 5000)
    drawn = relabel(many, corruption, C, np.random.default_rng(1))
    table = np.bincount(many * C + drawn, minlength=C * C).reshape(C, C) / 5000
    assert (table[P == 0] == 0).all()
    assert np.abs(table - P).max() < 5 * np.sqrt(0.25 / 5000)


def test_edges_of_labels() -> None:
    assert (labels_of(go(joint(), wrong_label=1.0)) != LABELS).all()
    one = TextSet(("a", "b"), np.zeros(2, dtype=np.int64))
    alone = corrupt(one, Corruption(wrong_label=1.0), 1, np.random.default_rng(0))
    assert (alone.wrong, labels_of(alone).tolist()) == (0, [0, 0])  # no other class to be taken for
    assert (transition(1, Corruption(wrong_label=1.0), np.random.default_rng(0)) == [[1.0]]).all()
    with pytest.raises(BadInput, match=r"^label 5 is out of range, allowed 0\.\.3$"):
        corrupt(joint(), Corruption(wrong_label=0.1), 4, np.random.default_rng(0))


LOSE_ALL: list[dict[str, Any]] = [{"missing_modality": 1.0}, {"missing_label": 1.0, "wrong_label": 1.0}]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [*((kind, s) for kind in ("joint", "image", "text") for s in LOSE_ALL), ("pair", LOSE_ALL[0])],
)
def test_one_sample_always_stays(kind: str, settings: dict[str, Any]) -> None:
    done = go(all_kinds(20)[kind], **settings)
    assert len(done.samples) == 1
    assert done.wrong == 0
    if isinstance(done.samples, MultimodalSamples):
        assert all(mask.all() for mask in done.samples.present.values())
        assert done.samples.labels[0] == LABELS[int(done.samples.ids[0])]
        assert np.asarray(done.samples.parts["audio"]).all()
    other = {len(go(all_kinds(20)[kind], seed, **settings).samples) for seed in range(5)}
    assert other == {1}
    assert len(go(all_kinds(0)[kind], **settings).samples) == 0  # nothing to keep


def test_equal_generators_break_equal_things() -> None:
    """And a rate's draws are its own: other corruptions and lower rates break a part of the same."""
    settings: dict[str, Any] = {"missing_modality": 0.4, "missing_label": 0.2, "wrong_label": 0.3}
    a, b, c = (go(joint(), seed, **settings) for seed in (3, 3, 4))
    assert isinstance(a.samples, MultimodalSamples)
    assert isinstance(b.samples, MultimodalSamples)
    assert isinstance(c.samples, MultimodalSamples)
    assert a.samples.ids == b.samples.ids != c.samples.ids
    assert np.array_equal(a.samples.labels, b.samples.labels)
    assert np.array_equal(a.samples.present["audio"], b.samples.present["audio"])
    only = go(joint(), 3, wrong_label=0.3)
    i = [int(name) for name in a.samples.ids]
    assert np.array_equal(labels_of(only)[i], a.samples.labels)
    milder = go(joint(), 3, wrong_label=0.1)
    changed = labels_of(milder) != LABELS
    assert 0 < changed.sum() < only.wrong
    assert np.array_equal(labels_of(milder)[changed], labels_of(only)[changed])


@pytest.mark.parametrize("key", ["missing_modality", "missing_label", "wrong_label", "wrong_spread"])
def test_rates_out_of_range(key: str) -> None:
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValidationError):
            Corruption(**{key: value})
    assert all(field.description for field in Corruption.model_fields.values())
