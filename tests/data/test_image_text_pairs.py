"""Pictures with their captions: subsets, and what is no such set."""

from __future__ import annotations

import numpy as np
import pytest

from fedloom.data.pairs import ImageTextPairs
from fedloom.errors import BadInput


def pair_set() -> ImageTextPairs:
    images = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), dtype=np.uint8)
    return ImageTextPairs(images, ("a0", "a1", "b0", "c0", "c1", "c2"), np.array([0, 0, 1, 2, 2, 2]))


def test_subset_takes_the_captions_along() -> None:
    pairs = pair_set()
    assert len(pairs) == 3
    assert pairs.starts.tolist() == [0, 2, 3, 6]
    assert [pairs.of(i) for i in range(3)] == [("a0", "a1"), ("b0",), ("c0", "c1", "c2")]
    some = pairs.subset([2, 0, 2])
    assert some.captions == ("c0", "c1", "c2", "a0", "a1", "c0", "c1", "c2")
    assert some.owner.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert some.images[:, 0, 0, 0].tolist() == [2, 0, 2]
    again = pairs.subset(np.arange(3))
    assert again.captions == pairs.captions
    assert (again.owner == pairs.owner).all()
    assert len(pairs.subset([])) == 0
    assert pairs.subset([-1]).captions == ("c0", "c1", "c2")
    with pytest.raises(IndexError):
        pairs.subset([3])


@pytest.mark.parametrize(
    ("owner", "captions", "says"),
    [
        ([0, 1], 3, r"owner is int64 \(2,\), expected integers \(3,\)"),
        ([0.0, 1, 2], 3, "owner is float64"),
        ([0, 1, 3], 3, r"a caption of image 3, but there are images 0\.\.2"),
        ([-1, 1, 2], 3, "a caption of image -1"),
        ([0, 2, 1], 3, "caption 2 belongs to an earlier image"),
        ([0, 2, 2], 3, "image 1 has no caption"),
    ],
)
def test_pair_set_complaints(owner: list[float], captions: int, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        ImageTextPairs(np.zeros((3, 2, 2, 3), dtype=np.uint8), ("x",) * captions, np.array(owner))


def test_pair_set_wants_rgb_bytes() -> None:
    with pytest.raises(BadInput, match=r"uint8 \(N, H, W, 3\), not float64 \(1, 2, 2, 3\)"):
        ImageTextPairs(np.zeros((1, 2, 2, 3)), ("x",), np.array([0]))  # type: ignore[arg-type]
