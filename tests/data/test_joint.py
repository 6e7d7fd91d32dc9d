"""Samples of two modalities: what is refused, shares, and what goes missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fedloom.data.joint import MultimodalSamples
from fedloom.errors import BadInput

LABELS = np.array([2, 0, 1, 0])
SOUNDS = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float16)
FRAMES = np.random.default_rng(1).integers(1, 256, (4, 2, 8, 8, 3), dtype=np.uint8)
TEXTS = ("one", "two", "three", "four")


def seen_and_heard(**more: Any) -> MultimodalSamples:
    return MultimodalSamples({"audio": SOUNDS, "image": FRAMES}, LABELS, **more)


def mask(*there: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.array(there, dtype=np.bool_)


def test_all_is_there_unless_it_is_said_to_be_missing() -> None:
    held = seen_and_heard()
    assert len(held) == 4
    assert held.modalities == held.owned == ("audio", "image")
    assert all(there.dtype == np.bool_ and there.all() for there in held.present.values())
    half = seen_and_heard(present={"image": mask(0, 1, 0, 1)})
    assert half.present["audio"].all()
    assert half.present["image"].tolist() == [False, True, False, True]
    assert seen_and_heard(present={"image": mask(0, 0, 0, 0)}).owned == ("audio",)
    nobody = held.subset([])
    assert len(nobody) == 0
    assert nobody.modalities == ("audio", "image")
    assert nobody.owned == ()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: MultimodalSamples({"audio": SOUNDS}, LABELS), "a joint set has two modalities, not 1"),
        (
            lambda: MultimodalSamples({"audio": SOUNDS, "image": FRAMES, "text": TEXTS}, LABELS),
            "a joint set has two modalities, not 3",
        ),
        (
            lambda: MultimodalSamples({"image": FRAMES, "audio": SOUNDS}, LABELS),
            "joint set: in the order image, audio, expected audio, image, text",
        ),
        (
            lambda: MultimodalSamples({"audio": SOUNDS, "picture": FRAMES}, LABELS),  # type: ignore[dict-item]
            "unknown modality 'picture'",
        ),
        (
            lambda: MultimodalSamples({"audio": SOUNDS[:3], "image": FRAMES}, LABELS),
            "joint set: 4 labels but 3 of audio",
        ),
        (
            lambda: MultimodalSamples({"audio": SOUNDS.astype(np.float64), "image": FRAMES}, LABELS),
            "joint set: audio must be float16 or float32 (N, F, T), not float64 (4, 3, 5)",
        ),
        (
            lambda: MultimodalSamples({"audio": SOUNDS[:, None], "image": FRAMES}, LABELS),
            "joint set: audio must be float16 or float32 (N, F, T), not float16 (4, 1, 3, 5)",
        ),
        (
            lambda: MultimodalSamples({"image": FRAMES[:, 0], "text": TEXTS}, LABELS),
            "joint set: image must be uint8 (N, M, H, W, 3), not uint8 (4, 8, 8, 3)",
        ),
        (
            lambda: MultimodalSamples({"image": FRAMES[..., :1], "text": TEXTS}, LABELS),
            "joint set: image must be uint8 (N, M, H, W, 3), not uint8 (4, 2, 8, 8, 1)",
        ),
        (
            lambda: MultimodalSamples({"audio": SOUNDS, "text": list(TEXTS)}, LABELS),  # type: ignore[dict-item]
            "joint set: text is a list, expected a tuple of strings",
        ),
        (
            lambda: MultimodalSamples({"audio": TEXTS, "text": TEXTS}, LABELS),
            "joint set: audio is a tuple, expected an array",
        ),
        (
            lambda: seen_and_heard(present={"image": mask(1, 1)}),
            "joint set: present['image'] is bool (2,), expected bool (4,)",
        ),
        (
            lambda: seen_and_heard(present={"image": np.ones(4)}),
            "joint set: present['image'] is float64 (4,), expected bool (4,)",
        ),
        (
            lambda: seen_and_heard(present={"audio": mask(1, 1, 0, 0), "image": mask(0, 1, 1, 0)}),
            "joint set: sample 3 has neither audio nor image",
        ),
        (
            lambda: MultimodalSamples({"audio": SOUNDS, "image": FRAMES}, np.array([0, 1, -2, 0])),
            "joint set: label -2 is negative",
        ),
        (lambda: seen_and_heard(ids=("a", "b")), "joint set: 4 labels but 2 ids"),
    ],
)
def test_what_is_refused(make: Callable[[], MultimodalSamples], says: str) -> None:
    with pytest.raises(BadInput) as caught:
        make()
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


def test_subset() -> None:
    present = {"audio": mask(1, 0, 1, 1), "text": mask(1, 1, 0, 1)}
    held = MultimodalSamples({"audio": SOUNDS, "text": TEXTS}, LABELS, present, ("a", "b", "c", "d"))
    some = held.subset(np.array([3, 1, 3]))
    assert some.labels.tolist() == [0, 0, 0]
    assert some.parts["text"] == ("four", "two", "four")
    assert np.array_equal(some.parts["audio"], SOUNDS[[3, 1, 3]])
    assert some.present["audio"].tolist() == [True, False, True]
    assert some.ids == ("d", "b", "d")
    assert held.subset([2]).owned == ("audio",)
    assert MultimodalSamples({"audio": SOUNDS, "text": TEXTS}, LABELS).subset([0]).ids == ()


def test_lacking_one_kind() -> None:
    """What is lost is zeros or "", so that nothing of it can be read by accident; the set itself stays as it was."""
    held = MultimodalSamples({"image": FRAMES, "text": TEXTS}, LABELS, ids=("a", "b", "c", "d"))
    left = held.lacking({"text": mask(1, 0, 0, 1), "image": mask(0, 1, 0, 0)})
    assert left.parts["text"] == ("", "two", "three", "")
    images = left.parts["image"]
    assert isinstance(images, np.ndarray)
    assert not images[1].any()
    assert np.array_equal(images[[0, 2, 3]], FRAMES[[0, 2, 3]])
    assert left.present["text"].tolist() == [False, True, True, False]
    assert left.ids == held.ids
    assert held.parts["text"] == TEXTS
    assert held.parts["image"] is FRAMES
    assert FRAMES.reshape(4, -1).any(axis=1).all()
    assert held.present["text"].all()


def test_samples_left_with_nothing_are_dropped() -> None:
    held = MultimodalSamples(
        {"audio": SOUNDS, "text": TEXTS}, LABELS, {"audio": mask(1, 0, 1, 1)}, ("a", "b", "c", "d")
    )
    left = held.lacking({"text": mask(0, 1, 1, 0)})
    assert left.ids == ("a", "c", "d")
    assert left.labels.tolist() == [2, 1, 0]
    assert left.parts["text"] == ("one", "", "four")
    assert left.present["audio"].all()
    assert len(held.lacking({"audio": mask(1, 1, 1, 1), "text": mask(1, 1, 1, 1)})) == 0
    same = held.lacking({})
    assert len(same) == 4
    assert same.parts["text"] == TEXTS
    assert not np.asarray(same.parts["audio"][1]).any()  # it was said to be missing all along
