"""Samples of two modalities with one label: a clip's sound and frames, a post's picture and text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloom.errors import BadInput, unknown
from fedloom.tasks import MODALITIES, Modality

Part = NDArray[Any] | tuple[str, ...]


@dataclass(frozen=True)
class MultimodalSamples:
    """N samples of two kinds each, one label a sample. Either modality may be missing from a sample, not both.

    Attributes:
        parts: two kinds, in the order of the model's streams: that of `MODALITIES`.
            audio float16 or float32 (N, F, T), log-spectrograms of zero mean and unit deviation, F bands, T steps;
            image uint8 (N, M, H, W, 3), M frames of a clip or one picture;
            text: N strings.
        labels: int64 (N,).
        present: of each modality bool (N,), if a sample has it; default: all do. What is missing is zeros or "".
        ids: N names, for messages and records; default: none.
    """

    parts: Mapping[Modality, Part]
    labels: NDArray[np.int64]
    present: Mapping[Modality, NDArray[np.bool_]] = field(default_factory=dict)
    ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.parts) != 2:
            raise BadInput(f"a joint set has two modalities, not {len(self.parts)}")
        N = len(self.labels)
        for modality, part in self.parts.items():
            if modality not in MODALITIES:
                raise unknown("modality", str(modality), MODALITIES)
            if len(part) != N:
                raise BadInput(f"joint set: {N} labels but {len(part)} of {modality}")
            _check(modality, part)
        if list(self.parts) != [m for m in MODALITIES if m in self.parts]:
            raise BadInput(f"joint set: in the order {', '.join(self.parts)}, expected {', '.join(MODALITIES)}")
        object.__setattr__(self, "present", {k: self.present.get(k, np.ones(N, dtype=np.bool_)) for k in self.parts})
        for modality, mask in self.present.items():
            if mask.shape != (N,) or mask.dtype != np.bool_:
                raise BadInput(f"joint set: present[{modality!r}] is {mask.dtype} {mask.shape}, expected bool ({N},)")
        if N and (bare := np.flatnonzero(~np.any(list(self.present.values()), axis=0))).size:
            raise BadInput(f"joint set: sample {int(bare[0])} has neither {' nor '.join(self.parts)}")
        if N and self.labels.min() < 0:
            raise BadInput(f"joint set: label {int(self.labels.min())} is negative")
        if self.ids and len(self.ids) != N:
            raise BadInput(f"joint set: {N} labels but {len(self.ids)} ids")

    def __len__(self) -> int:
        """N."""
        return len(self.labels)

    @property
    def modalities(self) -> tuple[Modality, Modality]:
        """The two, in the order of `MODALITIES`."""
        first, second = self.parts
        return first, second

    @property
    def owned(self) -> tuple[Modality, ...]:
        """Those that at least one sample has."""
        return tuple(modality for modality, mask in self.present.items() if mask.any())

    def subset(self, index: NDArray[np.int64] | Sequence[int]) -> MultimodalSamples:
        """The samples at `index`, in that order."""
        i = np.asarray(index, dtype=np.int64)
        parts: dict[Modality, Part] = {
            k: tuple(p[int(j)] for j in i) if isinstance(p, tuple) else np.asarray(p[i]) for k, p in self.parts.items()
        }
        ids = tuple(self.ids[int(j)] for j in i) if self.ids else ()
        return MultimodalSamples(parts, self.labels[i], {k: m[i] for k, m in self.present.items()}, ids)

    def lacking(self, missing: Mapping[Modality, NDArray[np.bool_]]) -> MultimodalSamples:
        """The same samples without what `missing` (modality -> bool (N,)) names; those left empty are dropped."""
        present = {k: m & ~missing.get(k, np.zeros(len(self), dtype=np.bool_)) for k, m in self.present.items()}
        kept = np.flatnonzero(np.any(list(present.values()), axis=0))
        fewer = self.subset(kept)
        left = {k: m[kept] for k, m in present.items()}
        return MultimodalSamples({k: _blank(p, left[k]) for k, p in fewer.parts.items()}, fewer.labels, left, fewer.ids)


def held_kinds(kinds: tuple[Modality, ...], multi_ratio: float, clients: int, index: int) -> tuple[Modality, ...]:
    """The modalities that multimodal client `index` of `clients` holds: of the first both, of the next the first."""
    both = int(multi_ratio * clients + 0.5)
    first = both + (clients - both + 1) // 2
    return kinds if index < both else kinds[:1] if index < first else kinds[1:]


def _blank(part: Part, present: NDArray[np.bool_]) -> Part:
    """A part with zeros or "" where it is not there, so that nothing of it can be read by accident."""
    if isinstance(part, tuple):
        return tuple(text if there else "" for text, there in zip(part, present))
    clean = part.copy()
    clean[~present] = 0
    return clean


def _check(modality: Modality, part: Part) -> None:
    if modality == Modality.TEXT:
        if not isinstance(part, tuple):
            raise BadInput(f"joint set: text is a {type(part).__name__}, expected a tuple of strings")
        return
    if not isinstance(part, np.ndarray):
        raise BadInput(f"joint set: {modality} is a {type(part).__name__}, expected an array")
    if modality == Modality.IMAGE and (part.dtype != np.uint8 or part.ndim != 5 or part.shape[-1] != 3):
        raise BadInput(f"joint set: image must be uint8 (N, M, H, W, 3), not {part.dtype} {part.shape}")
    if modality == Modality.AUDIO and (part.dtype not in (np.float16, np.float32) or part.ndim != 3):
        raise BadInput(f"joint set: audio must be float16 or float32 (N, F, T), not {part.dtype} {part.shape}")
