"""CIFAR-100 (Krizhevsky, 2009) in its two official layouts: 32 x 32 pictures of 100 classes in 20 groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedloom.data.assemble import Reading, check_choice, chosen_classes
from fedloom.data.containers import FederatedDataset, ImageSet, Labels, Samples
from fedloom.data.io.files import need_file, need_folder, read_names
from fedloom.data.io.plain_pickle import read_plain, text
from fedloom.data.names import readable
from fedloom.data.options import takes
from fedloom.data.public_split import split_public
from fedloom.data.registry import Dataset
from fedloom.errors import BadInput
from fedloom.seeding import stream_seed
from fedloom.tasks import ClientTask

LAYOUT = (
    "cifar-100-binary/{train,test}.bin with fine_label_names.txt and coarse_label_names.txt, "
    "or cifar-100-python/{train,test,meta}"
)
SIDE = 32
PIXELS = 3 * SIDE * SIDE
RECORD = 2 + PIXELS  # bytes of the binary layout: coarse label, fine label, planes of red, green and blue
LabelKind = Literal["fine", "coarse"]


@dataclass(frozen=True)
class _Part:
    """planes uint8 (N, 3072): red, green, blue; labels (N,), unchecked; path: for messages."""

    planes: NDArray[np.uint8]
    labels: Labels
    path: Path


def _binary(folder: Path, part: str, kind: LabelKind) -> _Part:
    path = need_file(folder / f"{part}.bin", LAYOUT)
    size = path.stat().st_size
    if not size or size % RECORD:
        raise BadInput(
            f"{path}: {size} bytes, expected a multiple of {RECORD} (two labels and {PIXELS} pixels a picture)"
        )
    records = np.memmap(path, dtype=np.uint8, mode="r").reshape(-1, RECORD)
    labels = records[:, 0 if kind == "coarse" else 1].astype(np.int64)
    return _Part(records[:, 2:], labels, path)


def _python(folder: Path, part: str, kind: LabelKind) -> _Part:
    path = need_file(folder / part, LAYOUT)
    content = read_plain(path)
    planes, labels = (_entry(content, key, path) for key in ("data", f"{kind}_labels"))
    if not isinstance(planes, np.ndarray) or planes.ndim != 2 or planes.shape[1] != PIXELS or not len(planes):
        what = planes.shape if isinstance(planes, np.ndarray) else type(planes).__name__
        raise BadInput(f"{path}: data is {what}, expected uint8 (N, {PIXELS})")
    if not isinstance(labels, list) or len(labels) != len(planes):
        count = len(labels) if isinstance(labels, list) else type(labels).__name__
        raise BadInput(f"{path}: {len(planes)} pictures but {kind}_labels is {count}, expected a list of as many")
    for row, label in enumerate(labels):
        if not isinstance(label, int):
            raise BadInput(f"{path} row {row}: label {label!r}, expected a whole number")
    return _Part(planes, np.clip(np.array(labels, dtype=object), -1, 2**31).astype(np.int64), path)


def _entry(content: dict[str, Any], key: str, path: Path) -> Any:
    if key not in content:
        raise BadInput(f"{path}: no entry {key!r}, it holds: {', '.join(sorted(content)) or 'nothing'}")
    return content[key]


def _names(folder: Path, layout: str, kind: LabelKind) -> tuple[str, ...]:
    """The class names in order of label."""
    if layout == "binary":
        path = need_file(folder / f"{kind}_label_names.txt", LAYOUT)
        names = read_names(path)
    else:
        path = need_file(folder / "meta", LAYOUT)
        entry = _entry(read_plain(path), f"{kind}_label_names", path)
        if not isinstance(entry, list):
            raise BadInput(f"{path}: {kind}_label_names is {type(entry).__name__}, expected a list of names")
        for n, name in enumerate(entry):
            if not isinstance(name, str | bytes) or "\ufffd" in text(name):
                raise BadInput(f"{path}: {kind}_label_names[{n}] is {str(name)[:60]!r}, expected a name in UTF-8")
        names = [text(name) for name in entry]
    if not names:
        raise BadInput(f"{path}: no {kind} label names")
    return tuple(names)


def _locate(root: str | Path) -> tuple[Path, str]:
    """The folder with the files, and its layout; the binary one where both are there."""
    base = need_folder(root, LAYOUT)
    for layout, sign in (("binary", "train.bin"), ("python", "train")):
        for folder in (base / f"cifar-100-{layout}", base):
            if (folder.name == f"cifar-100-{layout}" and folder.is_dir()) or (folder / sign).is_file():
                return folder, layout
    raise BadInput(f"{base}: neither layout of CIFAR-100 found. Expected layout: {LAYOUT}")


def _pictures(planes: NDArray[np.uint8], index: Labels, size: int) -> NDArray[np.uint8]:
    """Rows `index` of planes (N, 3072) as uint8 (len(index), size, size, 3), bicubic where the size is not 32."""
    out = np.empty((len(index), size, size, 3), dtype=np.uint8)
    for first in range(0, len(index), 1024):  # so that the pictures are held once, not three times
        block = planes[index[first : first + 1024]].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
        if size == SIDE:
            out[first : first + 1024] = block
            continue
        for n, image in enumerate(np.ascontiguousarray(block), start=first):
            out[n] = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
    return out


def _samples(part: _Part, names: Sequence[str], chosen: Sequence[int], reading: Reading) -> ImageSet:
    """Pictures of the chosen classes, relabelled 0.. in their order; at most `per_class` of each."""
    wrong = np.flatnonzero((part.labels < 0) | (part.labels >= len(names)))
    if len(wrong):
        row = int(wrong[0])
        raise BadInput(f"{part.path} row {row}: label {part.labels[row]}, allowed: 0..{len(names) - 1}")
    new = np.full(len(names), -1, dtype=np.int64)
    new[list(chosen)] = np.arange(len(chosen))
    index = np.flatnonzero(new[part.labels] >= 0)
    if reading.per_class is not None:
        rank = {i: stream_seed(reading.seed, "per class", part.path.stem, i) for i in index.tolist()}
        order = np.array(sorted(rank, key=lambda i: (rank[i], i)), dtype=np.int64)
        own = [order[part.labels[order] == c][: reading.per_class] for c in chosen]
        index = np.sort(np.concatenate(own))
    if not len(index):
        raise BadInput(f"{part.path}: no pictures of the chosen classes")
    return ImageSet(_pictures(part.planes, index, reading.size), new[part.labels[index]])


@takes(Reading, {"on_bad": "error", "range": None}, size=SIDE)
def load(
    root: str | Path,
    *,
    labels: LabelKind = "fine",
    reading: Reading,
) -> FederatedDataset:
    """Read CIFAR-100: the image modality, official train and test parts (50 000 and 10 000), pictures in file order.

    Args:
        root: the folder that holds cifar-100-binary/ or cifar-100-python/, or one of these two. Where both are there
            the binary one is read. The pickles of the other are read without running anything they name.
        labels: 'fine', the 100 classes, or 'coarse', their 20 groups.
        reading: pictures are 32 x 32 in the files; generic_share=0: the plain parts.

    Returns:
        The data set: images uint8 (N, size, size, 3); `notes['layout']` is 'binary' or 'python'.

    Raises:
        BadInput: a folder or file is missing, truncated or holds what it should not; a label out of range (with its
            row from 0); an unknown class.
    """
    check_choice("kind of labels", labels, LabelKind)
    folder, layout = _locate(root)
    names = _names(folder, layout, labels)
    chosen = chosen_classes(names, reading.classes)
    read = _binary if layout == "binary" else _python
    train, test = (_samples(read(folder, p, labels), names, chosen, reading) for p in ("train", "test"))
    shown = tuple(readable(names[i]) for i in chosen)
    parts: dict[ClientTask, Samples] = {ClientTask.IMAGE_CLASSIFICATION: train}
    share, confusion, seed = reading.generic_share, reading.confusion, reading.seed
    left, public = split_public(parts, shown, share=share, confusion=confusion, seed=seed)
    return FederatedDataset(
        "cifar100", shown, left, {ClientTask.IMAGE_CLASSIFICATION: test}, public, notes={"layout": layout}
    )


DATASET = Dataset(
    name="cifar100",
    summary="CIFAR-100: 500 train and 100 test pictures of 32 x 32 pixels a class",
    load=load,
    tasks=(ClientTask.IMAGE_CLASSIFICATION,),
    classes=100,
    layout=LAYOUT,
    source="https://www.cs.toronto.edu/~kriz/cifar.html",
    licence="see the data set's page",
    samples={ClientTask.IMAGE_CLASSIFICATION: (50000, 10000)},
)
