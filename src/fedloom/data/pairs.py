"""Pictures with captions: what retrieval is learnt from, and what a server's public set is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fedloom.errors import BadInput

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True)
class ImageTextPairs:
    """N pictures of one size and their M captions, one or more each.

    images uint8 (N, H, W, 3); captions: M texts; owner int64 (M,): the picture that each caption describes. It never
    falls, so the captions of a picture lie together, in the order of the pictures.
    """

    images: NDArray[np.uint8]
    captions: tuple[str, ...]
    owner: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[-1] != 3:
            raise BadInput(f"images must be uint8 (N, H, W, 3), not {self.images.dtype} {self.images.shape}")
        if not np.issubdtype(self.owner.dtype, np.integer) or self.owner.shape != (len(self.captions),):
            raise BadInput(
                f"pair set: owner is {self.owner.dtype} {self.owner.shape}, "
                f"expected integers ({len(self.captions)},), one a caption"
            )
        N = len(self.images)
        if len(self.owner) and not 0 <= self.owner.min() <= self.owner.max() < N:
            wrong = self.owner.max() if self.owner.min() >= 0 else self.owner.min()
            raise BadInput(f"pair set: a caption of image {int(wrong)}, but there are images 0..{N - 1}")
        if (falls := np.flatnonzero(np.diff(self.owner) < 0)).size:
            raise BadInput(f"pair set: caption {int(falls[0]) + 1} belongs to an earlier image than the one before it")
        if (bare := np.flatnonzero(np.bincount(self.owner, minlength=N) == 0)).size:
            raise BadInput(f"pair set: image {int(bare[0])} has no caption, every image needs one or more")

    def __len__(self) -> int:
        """N, the number of pictures."""
        return len(self.images)

    @property
    def starts(self) -> NDArray[np.int64]:
        """int64 (N + 1,): captions starts[i] to starts[i + 1] describe picture i."""
        return np.searchsorted(self.owner, np.arange(len(self) + 1)).astype(np.int64)

    def of(self, image: int) -> tuple[str, ...]:
        """The captions of one picture."""
        first, last = np.searchsorted(self.owner, [image, image + 1])
        return self.captions[int(first) : int(last)]

    def subset(self, index: NDArray[np.int64] | Sequence[int]) -> ImageTextPairs:
        """The pictures at `index`, in that order, each with all of its captions."""
        i = np.asarray(index, dtype=np.int64)
        starts = self.starts
        kept = [j for n in i.tolist() for j in range(starts[:-1][n], starts[1:][n])]
        counts = np.diff(starts)[i]
        owner = np.repeat(np.arange(len(i), dtype=np.int64), counts)
        return ImageTextPairs(self.images[i], tuple(self.captions[j] for j in kept), owner)


@dataclass(frozen=True)
class Pairs:
    """A whole set of captioned pictures. parts: those of train, val and test that were read; notes: counts of
    what was left out."""

    name: str
    parts: Mapping[Part, ImageTextPairs]
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, part: Part) -> ImageTextPairs:
        if part not in self.parts:
            raise BadInput(f"{self.name}: no part {part!r}, there are: {', '.join(self.parts)}")
        return self.parts[part]
