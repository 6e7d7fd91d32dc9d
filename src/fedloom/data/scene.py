"""What a loaded data set is: labelled pictures and texts over one label space, split into who may see what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedloom.errors import BadInput

Modality = Literal["image", "text"]
Labels = NDArray[np.int64]


def _check(labels: Labels, n: int, what: str) -> None:
    if len(labels) != n:
        raise BadInput(f"{what}: {n} samples but {len(labels)} labels")
    if n and labels.min() < 0:
        raise BadInput(f"{what}: label {int(labels.min())} is negative")


@dataclass(frozen=True)
class ImageSet:
    """Pictures of one size. images uint8 (N, H, W, 3); labels int64 (N,)."""

    images: NDArray[np.uint8]
    labels: Labels

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[-1] != 3:
            raise BadInput(f"images must be uint8 (N, H, W, 3), not {self.images.dtype} {self.images.shape}")
        _check(self.labels, len(self.images), "image set")

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: NDArray[np.int64] | Sequence[int]) -> ImageSet:
        """The samples at `index`, in that order."""
        i = np.asarray(index, dtype=np.int64)
        return ImageSet(self.images[i], self.labels[i])


@dataclass(frozen=True)
class TextSet:
    """Texts, one label each. texts: N strings; labels int64 (N,)."""

    texts: tuple[str, ...]
    labels: Labels

    def __post_init__(self) -> None:
        _check(self.labels, len(self.texts), "text set")

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: NDArray[np.int64] | Sequence[int]) -> TextSet:
        """The samples at `index`, in that order."""
        i = np.asarray(index, dtype=np.int64)
        return TextSet(tuple(self.texts[int(j)] for j in i), self.labels[i])


Samples = ImageSet | TextSet


@dataclass(frozen=True)
class Generic:
    """The generic part that no client holds: what the server's models may be pretrained on.

    images uint8 (N, H, W, 3); captions: N descriptions that do not name the class; labels (N,) the true class;
    names (N,): the class each picture is *said* to show where the world's captions name one. Some are wrong: that is
    the imperfect class knowledge of a real generator (FedMMKT, Fig. 3). texts: where captions are cut down from longer
    texts, those texts as they were written: what the clients' own texts read like.
    """

    images: NDArray[np.uint8]
    captions: tuple[str, ...]
    labels: Labels
    names: Labels
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scene:
    """A whole data set. Modalities are the keys of `train` and `test`; a scene may lack one of them."""

    name: str
    class_names: tuple[str, ...]
    train: Mapping[Modality, Samples]  # what clients share out among themselves
    test: Mapping[Modality, Samples]  # never trained or tuned on
    generic: Generic | None = None
    reference: ImageSet | None = (
        None  # real pictures for judge and FID where there are more than the clients' own
    )
    notes: Mapping[str, Any] = field(default_factory=dict)  # counts of skipped files and the like, for people

    def __post_init__(self) -> None:
        for part, sets in (("train", self.train), ("test", self.test)):
            for modality, samples in sets.items():
                if len(samples) and samples.labels.max() >= self.classes:
                    raise BadInput(
                        f"{self.name}: {part} {modality} label {int(samples.labels.max())} is out of range, "
                        f"allowed 0..{self.classes - 1}"
                    )

    @property
    def classes(self) -> int:
        """C, the number of classes."""
        return len(self.class_names)

    def prompt(self, label: int) -> str:
        """The class prompt of FedMMKT's examples: `A picture of NAME.`"""
        return f"A picture of {self.class_names[label]}."

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts of all C classes, in order."""
        return tuple(self.prompt(label) for label in range(self.classes))
