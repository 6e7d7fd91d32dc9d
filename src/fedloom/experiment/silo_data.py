"""A silo's own samples as its client trains on them: the federation's labels, pictures at the federation's side."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloom.config import DataSettings
from fedloom.config.silo import SiloData, SiloSettings
from fedloom.data.containers import ClientData, FederatedDataset, ImageSet, Labels, TextSet
from fedloom.data.joint import MultimodalSamples, Part
from fedloom.data.names import alike
from fedloom.data.notes import data_notes, lines
from fedloom.data.pairs import ImageTextPairs
from fedloom.data.registry import DATASETS, PAIR_SETS, load_dataset, load_pairs, loader_of
from fedloom.errors import BadInput, nearest, unknown
from fedloom.experiment.datasets import split_scene
from fedloom.tasks import ClientTask, Modality

log = logging.getLogger(__name__)

_SHAPING = ("bands", "steps", "rate", "seconds", "nperseg", "noverlap")  # options that shape a spectrogram


def own_samples(
    silo: SiloSettings,
    class_names: Sequence[str],
    image_size: int,
    seed: int,
    streams: tuple[Modality, ...] = (),
    sounds: tuple[int, int] | None = None,
) -> tuple[ClientData, ClientData]:
    """The silo's training and test samples of its modality, read straight from its files: nothing is cached.

    Args:
        silo: whose `data` say what to read.
        class_names: the federation's C names for that modality; labels become indices into them. Pairs have none.
        image_size: side in pixels that pictures come out with.
        seed: of the run: what a `share` is drawn from.
        streams: the two kinds of data of the run's multimodal samples.
        sounds: F bands and T steps of their spectrograms.

    Raises:
        BadInput: nothing of the modality, a class that the federation does not know, multimodal samples of other kinds
            or shapes, or what the reader finds.
    """
    data, modality = silo.data, silo.modality
    where = f"data {data.name!r}{f' in {data.root}' if data.root else ''}"
    scene = _read(data, modality, image_size, sounds, where)
    for part, sets in (("training", scene.train), ("test", scene.test)):
        if modality not in sets or not len(sets[modality]):
            raise BadInput(f"{where}: no {part} {_many(modality)}{_hint(data, modality)}")
    train, test = scene.train[modality], scene.test[modality]
    if data.share is not None:
        train = train.subset(_part(scene, silo, seed))
    if isinstance(train, MultimodalSamples) and isinstance(test, MultimodalSamples):
        train, test = _held_kinds(train, test, silo, streams, where)
        _check_sounds(train, data, sounds, where)
    if isinstance(train, ImageTextPairs) or isinstance(test, ImageTextPairs):
        new = np.zeros(0, dtype=np.int64)
    else:
        used = np.union1d(train.labels, test.labels)
        new = match_classes(scene.names_of(modality), class_names, used)
    return _as_offered(train, new, image_size), _as_offered(test, new, image_size)


def check_data(data: SiloData) -> None:
    """Raises BadInput where no reader has that name, needs that root, or has those options; nothing is read."""
    if data.name not in DATASETS and data.name not in PAIR_SETS:
        raise unknown("data set", data.name, [*DATASETS, *PAIR_SETS])
    loader_of(data.name, data.root, data.options, DATASETS if data.name in DATASETS else PAIR_SETS)


def _read(
    data: SiloData, modality: ClientTask, size: int, sounds: tuple[int, int] | None, where: str
) -> FederatedDataset:
    """What the silo's reader finds; of a set of pairs the part `test`, else `val`, is the test part."""
    check_data(data)
    options = _options(data, size, sounds)
    if data.name in DATASETS:
        scene = load_dataset(data.name, data.root, **options)
        _tell(data_notes(scene), where)
        return scene
    if modality != ClientTask.RETRIEVAL:
        raise BadInput(f"{where}: pictures with captions, for modality: pair; this silo has {_many(modality)}")
    pairs = load_pairs(data.name, data.root, **options)
    _tell(lines(pairs.notes), where)
    parts = pairs.parts
    train: dict[ClientTask, ClientData] = {ClientTask.RETRIEVAL: parts["train"]} if "train" in parts else {}
    held_out = parts.get("test") or parts.get("val")
    return FederatedDataset(data.name, (), train, {ClientTask.RETRIEVAL: held_out} if held_out is not None else {})


def _tell(told: Sequence[str], where: str) -> None:
    """To the silo's log: nobody else hears of its data."""
    for line in told:
        log.info("%s: %s", where, line)


def _many(modality: ClientTask) -> str:
    return "multimodal samples" if modality == ClientTask.MULTIMODAL_CLASSIFICATION else f"{modality}s"


def _hint(data: SiloData, modality: ClientTask) -> str:
    """What to do about pairs, or multimodal samples, that are not there."""
    if modality == ClientTask.MULTIMODAL_CLASSIFICATION:
        return f"; data sets of multimodal samples: {', '.join(joint_sets())}"
    if modality != ClientTask.RETRIEVAL:
        return ""
    if data.name == "flora":
        return "; set data.options.pairs to their number"
    if data.name in PAIR_SETS:
        return " (part train, and part test or val)"
    return f"; sets of pairs: {', '.join(PAIR_SETS)}"


def joint_sets() -> list[str]:
    """The data sets of multimodal samples."""
    return [name for name, info in DATASETS.items() if ClientTask.MULTIMODAL_CLASSIFICATION in info.tasks]


def _held_kinds(
    train: MultimodalSamples,
    test: MultimodalSamples,
    silo: SiloSettings,
    streams: tuple[Modality, ...],
    where: str,
) -> tuple[MultimodalSamples, MultimodalSamples]:
    """Both parts, cut down to the kinds of data that the silo holds: what it says, else what its samples have."""
    if train.modalities != streams:
        raise BadInput(f"{where}: samples of {' and '.join(train.modalities)}, allowed: of {' and '.join(streams)}")
    if silo.holds is not None and silo.holds not in streams:
        raise BadInput(f"holds = {silo.holds!r}, allowed: {', '.join(streams)}, the kinds of data in the run")
    held = train.owned if silo.holds is None else (silo.holds,)
    if held == streams:
        return train, test
    left = [
        samples.lacking({k: np.ones(len(samples), dtype=np.bool_) for k in streams if k not in held})
        for samples in (train, test)
    ]
    for part, samples in zip(("training", "test"), left):
        if not len(samples):
            raise BadInput(f"{where}: no {part} samples with {held[0]}")
    return left[0], left[1]


def _check_sounds(samples: MultimodalSamples, data: SiloData, sounds: tuple[int, int] | None, where: str) -> None:
    """Raises BadInput where the silo's spectrograms have another shape than the run's."""
    part = samples.parts.get(Modality.AUDIO)
    if sounds is None or Modality.AUDIO not in samples.owned or not isinstance(part, np.ndarray):
        return
    if part.shape[1:] != sounds:
        found = [option for option in _SHAPING if option in DATASETS[data.name].options]
        raise BadInput(
            f"{where}: spectrograms of {part.shape[1]} bands x {part.shape[2]} steps, the run's have {sounds[0]} x "
            f"{sounds[1]}; what shapes them: data.options {', '.join(found)}"
        )


def _options(data: SiloData, size: int, sounds: tuple[int, int] | None) -> dict[str, Any]:
    """The reader's options: the operator's, the federation's shapes, and no generic part of one's own data."""
    options, known = dict(data.options), (DATASETS.get(data.name) or PAIR_SETS[data.name]).options
    if size and "size" in known:
        options.setdefault("size", size)
    if sounds is not None and {"bands", "steps"} <= set(known):
        options = {"bands": sounds[0], "steps": sounds[1], **options}
    if data.name == "folder":  # nobody pretrains on it, so nothing is to be taken away from the silo for that
        options.setdefault("generic_share", 0.0)
    return options


def _part(scene: FederatedDataset, silo: SiloSettings, seed: int) -> NDArray[np.int64]:
    """The training samples that are this silo's `share` of an iid split."""
    assert silo.data.share is not None
    index, parts = map(int, silo.data.share.split("/"))
    split = split_scene(scene, DataSettings(partition="iid", minimum=1), parts, silo.modality, seed)
    return split.indices[index]


def _plain(name: str) -> str:
    return alike(name.replace("-", " "))


def class_positions(class_names: Sequence[str]) -> dict[str, int]:
    """Plain name to label. Raises BadInput for two names that differ only by case, space, '-' or '_'."""
    at: dict[str, int] = {}
    for label, name in enumerate(class_names):
        if (first := at.setdefault(_plain(name), label)) != label:
            raise BadInput(f"class names {class_names[first]!r} and {name!r} differ only by case, space, '-' or '_'")
    return at


def match_classes(own: Sequence[str], federation: Sequence[str], used: Sequence[int] | Labels) -> Labels:
    """The federation's label of each of a silo's classes, int64 (len(own),); -1 for an unknown one not in `used`.

    Case, '_', '-' and spaces do not matter.

    Raises:
        BadInput: a used class that the federation does not know.
    """
    at = class_positions(federation)
    labels = np.array([at.get(_plain(name), -1) for name in own], dtype=np.int64)
    for i in (int(i) for i in used if labels[i] < 0):
        close = nearest(own[i], federation)
        hint = " Its labels look like numbers: say the names in data.options.labels_file."
        raise BadInput(
            f"the silo's class {own[i]!r} is not one of the federation's.{close}"
            f"{hint if own[i].isdecimal() else ''} The federation's: {', '.join(federation)}. "
            "(data.options.classes chooses among the silo's)"
        )
    first: dict[int, int] = {}
    for i in map(int, used):
        if (other := first.setdefault(int(labels[i]), i)) != i:
            raise BadInput(
                f"the silo's classes {own[other]!r} and {own[i]!r} are both {federation[labels[i]]!r} here: "
                "rename one of them, or choose with data.options.classes"
            )
    return labels


def _as_offered(samples: ClientData, new: Labels, side: int) -> ClientData:
    """The samples under their new labels, pictures and frames at that side."""
    if isinstance(samples, MultimodalSamples):
        parts: dict[Modality, Part] = dict(samples.parts)
        if isinstance(frames := parts.get(Modality.IMAGE), np.ndarray):
            resized = _resized(frames.reshape(-1, *frames.shape[2:]), side)
            parts[Modality.IMAGE] = resized.reshape(*frames.shape[:2], *resized.shape[1:])
        return MultimodalSamples(parts, new[samples.labels], samples.present, samples.ids)
    if isinstance(samples, ImageTextPairs):
        return ImageTextPairs(_resized(samples.images, side), samples.captions, samples.owner)
    if isinstance(samples, TextSet):
        return TextSet(samples.texts, new[samples.labels])
    return ImageSet(_resized(samples.images, side), new[samples.labels])


def _resized(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """uint8 (N, H, W, 3) as (N, side, side, 3): the centre square, bicubic."""
    if images.shape[1:3] == (side, side):
        return images
    from PIL import Image

    height, width = images.shape[1:3]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    squares = images[:, top : top + edge, left : left + edge]
    how = Image.Resampling.BICUBIC
    return np.stack([np.asarray(Image.fromarray(x).resize((side, side), how)) for x in squares])
