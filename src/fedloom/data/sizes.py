"""What is known of a data set before it is read: classes, sides, and how many samples its official parts have."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

from fedloom.config import DataSettings
from fedloom.data.registry import DATASETS, loader_of
from fedloom.tasks import ClientTask

_UNKNOWN_CLASSES = 100  # heads and prompts are counted with so many where only the data know


class DataSizes(NamedTuple):
    """classes: C; side: of pictures, pixels; samples: modality -> (clients' part, test part), where known.

    frames: of a multimodal sample; spectrogram: its bands and steps.
    """

    classes: int
    side: int
    samples: Mapping[ClientTask, tuple[int, int]]
    notes: tuple[str, ...] = ()
    frames: int = 1
    spectrogram: tuple[int, int] = (32, 32)

    def test(self, modality: ClientTask) -> int:
        """Samples that a client of that modality is scored on; 0 where that is not known."""
        return self.samples.get(modality, (0, 0))[1]


def data_sizes(data: DataSettings) -> DataSizes:
    """The sizes of a data set, of which nothing is read. Raises BadInput for an unknown name, or a wrong option."""
    known = DATASETS.get(data.name)
    load, fitted = loader_of(data.name, "." if known is not None and known.layout else None, data.options)
    assert known is not None  # loader_of refuses others
    options: dict[str, Any] = {k: p.default for k, p in inspect.signature(load).parameters.items()}
    options |= fitted
    known.check_options(options)
    notes: list[str] = []
    given = options.get("classes")
    classes = len(given) if isinstance(given, list | tuple) else given if isinstance(given, int) else None
    if classes is None and known.classes is None:
        notes.append(f"{data.name}: its classes are known only once it is read; the plan assumes {_UNKNOWN_CLASSES}")
    samples = known.samples_of(options)
    if not samples:
        notes.append(
            f"{data.name}: its samples are counted only once it is read, so the plan leaves out scoring the clients"
        )
    side, bands, steps = (options.get(key) for key in ("size", "bands", "steps"))
    return DataSizes(
        classes or known.classes or _UNKNOWN_CLASSES,
        side if isinstance(side, int) else 32,
        samples,
        tuple(notes),
        options.get("frames", 1),
        (bands, steps) if bands and steps else (32, 32),
    )
