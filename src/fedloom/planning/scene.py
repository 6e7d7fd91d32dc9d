"""What is known of a data set before it is read: classes, sides, and how many samples its official parts have."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

from fedloom.config import DataSettings
from fedloom.data.registry import DATASETS, loader_of
from fedloom.data.tasks import ClientTask

_UNKNOWN_CLASSES = 100  # heads and prompts are counted with so many where only the data know

# Samples of the training and the test part. Flowers-102: 1020 + 1020 and 6149 pictures, ten captions each (setid.mat;
# Reed et al. 2016). Food-101: 750 and 250 a dish. UPMC Food-101: the rows of train_titles.csv and test_titles.csv, as
# they are usually given; pictures that cannot be read make it fewer.
OFFICIAL: Mapping[str, Mapping[ClientTask, tuple[int, int]]] = {
    "flowers102": {ClientTask.IMAGE_CLASSIFICATION: (2040, 6149), ClientTask.TEXT_CLASSIFICATION: (20400, 61490)},
    "food101": {ClientTask.IMAGE_CLASSIFICATION: (75750, 25250)},
    "upmc_food101": {ClientTask.IMAGE_CLASSIFICATION: (67988, 22716), ClientTask.TEXT_CLASSIFICATION: (67988, 22716)},
    "cifar100": {ClientTask.IMAGE_CLASSIFICATION: (50000, 10000)},
    "ag_news": {ClientTask.TEXT_CLASSIFICATION: (120000, 7600)},
}


class SceneSizes(NamedTuple):
    """classes: C; side: of pictures, pixels; samples: modality -> (clients' part, test part), where known.

    frames: of a joint sample; spectrogram: its bands and steps.
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


def scene_sizes(data: DataSettings) -> SceneSizes:
    """The sizes of a data set, of which nothing is read. Raises BadInput for an unknown name or option."""
    known = DATASETS.get(data.name)
    load, fitted = loader_of(data.name, "." if known is not None and known.layout else None, data.options)
    assert known is not None  # loader_of refuses others
    options: dict[str, Any] = {k: p.default for k, p in inspect.signature(load).parameters.items()}
    options |= fitted
    notes: list[str] = []
    given = options.get("classes")
    classes = len(given) if isinstance(given, list | tuple) else given if isinstance(given, int) else None
    if classes is None and known.classes is None:
        notes.append(f"{data.name}: its classes are known when it is read, counted as {_UNKNOWN_CLASSES}")
    samples = _samples(data.name, options)
    if not samples:
        notes.append(f"{data.name}: its samples are counted when it is read, so scoring the clients is left out")
    side, duet = options.get("size"), data.name == "duet"
    return SceneSizes(
        classes or known.classes or _UNKNOWN_CLASSES,
        side if isinstance(side, int) else 32,
        samples,
        tuple(notes),
        int(options["frames"]) if duet else 1,
        (options["bands"], options["steps"]) if duet else (32, 32),
    )


def _samples(name: str, options: Mapping[str, Any]) -> dict[ClientTask, tuple[int, int]]:
    """Modality -> samples of the clients' and of the test part."""
    if name == "flora":
        test = options["test"]
        pairs = {ClientTask.RETRIEVAL: (options["pairs"], options["test_pairs"])} if options["pairs"] else {}
        return {
            ClientTask.IMAGE_CLASSIFICATION: (options["images"], test),
            ClientTask.TEXT_CLASSIFICATION: (options["texts"], test),
            **pairs,
        }
    if name == "duet":
        c = options["classes"]
        return {ClientTask.MULTIMODAL_CLASSIFICATION: (c * options["per_class"], c * options["test_per_class"])}
    if name not in OFFICIAL or options.get("per_class") or isinstance(options.get("classes"), list | tuple):
        return {}
    parts = dict(OFFICIAL[name])
    if name == "flowers102":
        if options["swap_train_test"]:
            parts = {m: (test, train) for m, (train, test) in parts.items()}
        most = options["captions"]
        parts[ClientTask.TEXT_CLASSIFICATION] = (
            parts[ClientTask.IMAGE_CLASSIFICATION][0] * most,
            parts[ClientTask.IMAGE_CLASSIFICATION][1] * most,
        )
    share = 1 - float(options.get("generic_share", 0.0))
    return {m: (round(share * train), test) for m, (train, test) in parts.items()}
