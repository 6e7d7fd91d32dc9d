"""Oxford Flowers-102 (Nilsback and Zisserman, 2008) with the ten captions a picture of Reed et al. (2016)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloom.data.assemble import Listing, Reading, assemble
from fedloom.data.containers import FederatedDataset
from fedloom.data.datasets.flowers102_latin import LATIN
from fedloom.data.io.files import folders, need_file, need_folder, read_lines
from fedloom.data.options import takes
from fedloom.data.registry import Counts, Dataset
from fedloom.errors import BadInput
from fedloom.tasks import ClientTask

LAYOUT = (
    "jpg/image_00001.jpg ..., imagelabels.mat, setid.mat, and for the text modality "
    "text_c10/class_00001/image_06734.txt ... (one caption a line)"
)
# What scipy raises on broken or hostile files, besides its own error.
_UNREADABLE = (
    *(ValueError, TypeError, EOFError, OSError, LookupError, NotImplementedError, zlib.error, struct.error),
    # NameError: SciPy reads a variable that it has not set.
    *(MemoryError, OverflowError, AttributeError, RecursionError, NameError),
)
# Labels 1..102 of imagelabels.mat, in order.
NAMES = tuple(
    " ".join(name.split())
    for name in """
    pink primrose, hard-leaved pocket orchid, canterbury bells, sweet pea, english marigold, tiger
    lily, moon orchid, bird of paradise, monkshood, globe thistle, snapdragon, colt's foot, king
    protea, spear thistle, yellow iris, globe-flower, purple coneflower, peruvian lily, balloon
    flower, giant white arum lily, fire lily, pincushion flower, fritillary, red ginger, grape
    hyacinth, corn poppy, prince of wales feathers, stemless gentian, artichoke, sweet william,
    carnation, garden phlox, love in the mist, mexican aster, alpine sea holly, ruby-lipped
    cattleya, cape flower, great masterwort, siam tulip, lenten rose, barbeton daisy, daffodil,
    sword lily, poinsettia, bolero deep blue, wallflower, marigold, buttercup, oxeye daisy, common
    dandelion, petunia, wild pansy, primula, sunflower, pelargonium, bishop of llandaff, gaura,
    geranium, orange dahlia, pink-yellow dahlia, cautleya spicata, japanese anemone, black-eyed
    susan, silverbush, californian poppy, osteospermum, spring crocus, bearded iris, windflower,
    tree poppy, gazania, azalea, water lily, rose, thorn apple, morning glory, passion flower, lotus
    lotus, toad lily, anthurium, frangipani, clematis, hibiscus, columbine, desert-rose, tree
    mallow, magnolia, cyclamen, watercress, canna lily, hippeastrum, bee balm, ball moss, foxglove,
    bougainvillea, camellia, mallow, mexican petunia, bromelia, blanket flower, trumpet creeper,
    blackberry lily
    """.split(",")  # noqa: SIM905
)


def _matrices(path: Path, *keys: str) -> list[NDArray[np.int64]]:
    """The vectors called `keys` of a MATLAB file."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    need_file(path, LAYOUT)
    try:
        content: dict[str, Any] = loadmat(str(path))
    except (MatReadError, *_UNREADABLE) as error:
        raise BadInput(f"{path}: cannot be read as a MATLAB file: {error}") from error
    missing = [key for key in keys if key not in content]
    if missing:
        raise BadInput(f"{path}: no variable {missing[0]!r}, expected {', '.join(keys)}")
    return [_whole(content[key], f"{path}: {key}") for key in keys]


def _whole(found: Any, place: str) -> NDArray[np.int64]:
    """Numbers as a vector. BadInput where they are no whole numbers of a size that can count something."""
    array = np.asarray(found).ravel()
    if array.dtype.kind not in "iuf":
        raise BadInput(f"{place} is {array.dtype}, expected whole numbers")
    wrong = np.flatnonzero(~((np.abs(array) < 2**31) & (array == np.floor(array))))
    if len(wrong):
        raise BadInput(f"{place}: number {wrong[0] + 1} is {array[wrong[0]]}, expected a whole number")
    return array.astype(np.int64)


def _images(root: Path, numbers: NDArray[np.int64], labels: NDArray[np.int64]) -> Listing:
    """Pictures by number, from 1."""
    numbers = np.sort(numbers)
    if len(numbers) and not 1 <= numbers[0] <= numbers[-1] <= len(labels):
        wrong = numbers[-1] if numbers[0] >= 1 else numbers[0]
        raise BadInput(
            f"{root / 'setid.mat'}: image number {wrong}, but imagelabels.mat has labels for 1..{len(labels)}"
        )
    stems = [f"image_{n:05d}" for n in numbers]
    files = [root / "jpg" / f"{stem}.jpg" for stem in stems]
    return Listing(files, labels[numbers - 1], [str(f) for f in files], stems, stems)


def _written(folder: Path) -> dict[str, Path]:
    """The caption files by picture."""
    written: dict[str, Path] = {}
    for d in folders(need_folder(folder, LAYOUT)):
        for f in sorted(d.glob("image_*.txt")):
            if written.setdefault(f.stem, f) != f:
                raise BadInput(f"{f}: captions of {f.stem} are also in {written[f.stem]}")
    return written


def _captions(images: Listing, files: Mapping[str, Path], most: int, notes: dict[str, int]) -> Listing:
    """The first `most` captions of each picture; pictures without any are counted."""
    rows: list[tuple[str, int, str, str, str]] = []
    for key, label in zip(images.ids, images.labels.tolist()):
        lines = read_lines(files[key])[:most] if key in files else []
        notes["images_without_captions"] += not lines
        rows += [(line, label, f"{files[key]} line {i + 1}", f"{key} {i}", key) for i, line in enumerate(lines)]
    texts, labels, places, ids, keys = zip(*rows) if rows else ((), (), (), (), ())
    return Listing(texts, np.array(labels, dtype=np.int64), places, ids, keys)


@takes(Reading, size=64)
def load(
    root: str | Path,
    *,
    swap_train_test: bool = False,
    captions: int = 10,
    latin: bool = False,
    reading: Reading,
) -> FederatedDataset:
    """Read Flowers-102: images, and their captions as texts.

    Args:
        root: the folder that holds jpg/, imagelabels.mat, setid.mat and text_c10/.
        swap_train_test: train on the official test part (6149) and test on train + validation (2040), as many works on
            image synthesis do; otherwise the other way round.
        captions: at most so many a picture, 1 to 10; 0: images alone, text_c10/ is not needed.
        latin: prompts have the Latin name too, `A picture of rose, also named Rosa.` (FedMMKT, appendix A).
        reading: a public picture carries one of its own captions, and none of its captions is left to the clients.

    Raises:
        BadInput: a folder, file or picture is missing or broken; an image number or label out of range.
    """
    if not 0 <= captions <= 10:
        raise BadInput(f"flowers102: captions={captions}, allowed: 0 (images alone) to 10")
    folder = need_folder(root, LAYOUT)
    need_folder(folder / "jpg", LAYOUT)
    (labels,) = _matrices(folder / "imagelabels.mat", "labels")
    if len(labels) and not 1 <= labels.min() <= labels.max() <= len(NAMES):
        raise BadInput(f"{folder / 'imagelabels.mat'}: labels {labels.min()}..{labels.max()}, allowed: 1..{len(NAMES)}")
    first, second, third = _matrices(folder / "setid.mat", "trnid", "valid", "tstid")
    numbers = (np.concatenate([first, second]), third)
    train, test = (_images(folder, n, labels - 1) for n in (numbers[::-1] if swap_train_test else numbers))
    parts: list[dict[ClientTask, Listing]] = [{ClientTask.IMAGE_CLASSIFICATION: part} for part in (train, test)]
    notes: dict[str, int] = {}
    if captions:
        written, notes = _written(folder / "text_c10"), {"images_without_captions": 0}
        for part, images in zip(parts, (train, test)):
            part[ClientTask.TEXT_CLASSIFICATION] = _captions(images, written, captions, notes)
    read = assemble("flowers102", NAMES, parts[0], parts[1], reading, shorten=False, notes=notes)
    return replace(read, also_named=LATIN) if latin else read


def _samples(options: Mapping[str, Any]) -> Counts:
    """1020 + 1020 and 6149 pictures (setid.mat), ten captions each."""
    if options["per_class"] or options["classes"]:
        return {}
    train, test = (6149, 2040) if options["swap_train_test"] else (2040, 6149)
    share, captions = 1 - options["generic_share"], options["captions"]
    return {
        ClientTask.IMAGE_CLASSIFICATION: (round(share * train), test),
        ClientTask.TEXT_CLASSIFICATION: (round(share * (train * captions)), test * captions),
    }


DATASET = Dataset(
    name="flowers102",
    summary="Oxford Flowers-102 with ten captions a picture",
    load=load,
    tasks=(ClientTask.IMAGE_CLASSIFICATION, ClientTask.TEXT_CLASSIFICATION),
    classes=102,
    layout=LAYOUT,
    source="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/ (captions: Reed et al. 2016)",
    licence="see the data set's page",
    samples=_samples,
)
