"""digits: 1797 real handwritten digits (8 x 8), shipped with the package. Image modality only.

`digits.npz` is the test part of UCI's Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998; CC BY 4.0),
as scikit-learn has it: ink uint8 (1797, 8, 8), 0 to 16; labels uint8 (1797,).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedloom.data.containers import FederatedDataset, ImageSet, PublicData
from fedloom.data.io.decode import check_size
from fedloom.data.public_split import check_confusion, confuse
from fedloom.data.registry import Dataset
from fedloom.errors import BadInput
from fedloom.seeding import numpy_stream
from fedloom.tasks import ClientTask

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIBLING = np.array([2, 7, 0, 8, 9, 6, 5, 1, 3, 4], dtype=np.int64)  # 0-2, 1-7, 3-8, 4-9, 5-6
SMALLEST = 174  # samples of the rarest digit


def describe(ink: NDArray[np.float64]) -> str:
    """A caption of a digit from what can be measured in it, without its name.

    ink: float (8, 8), 0 paper to 16 ink. Words for the stroke (total ink), slant and width (second moments)
    and where the weight lies (first moment).
    """
    total = ink.sum()
    rows, columns = np.mgrid[: ink.shape[0], : ink.shape[1]]
    y, x = (ink * rows).sum() / total, (ink * columns).sum() / total
    tall = (ink * (rows - y) ** 2).sum() / total
    wide = (ink * (columns - x) ** 2).sum() / total
    slant = -(ink * (rows - y) * (columns - x)).sum() / total / tall  # columns to the right for each row up
    stroke = "thin" if total < 280 else "thick" if total > 340 else "even"
    lean = "leaning right" if slant > 0.1 else "leaning left" if slant < -0.1 else "upright"
    width = "narrow" if wide / tall < 0.35 else "wide" if wide / tall > 0.65 else "of middle width"
    weight = "heavier at the top" if y < 3.3 else "heavier at the bottom" if y > 3.7 else "balanced"
    return f"a handwritten digit drawn with {stroke} strokes, {lean}, {width} and {weight}"


def load(
    size: int = 32,
    test: int = 500,
    generic: int = 500,
    confusion: float = 0.4,
    confusion_spread: float = 0.4,
    seed: int = 0,
) -> FederatedDataset:
    """Split the digits, the same number of each in `test` and `generic`; the rest is for the clients.

    Args:
        size: side of the pictures in pixels (enlarged from 8, bilinear), grey repeated to RGB.
        test, generic: samples, multiples of 10, at most 1700 together.
        confusion: share of the public pictures said to be the sibling digit (0-2, 1-7, 3-8, 4-9, 5-6), on average.
        confusion_spread: how far the most and the least confused siblings lie from it.
        seed: what the split is drawn from.

    Raises:
        BadInput: a size or count out of range.
    """
    _check(locals())  # all options
    with np.load(Path(__file__).with_suffix(".npz"), allow_pickle=False) as data:
        ink, labels = data["ink"].astype(np.float64), data["labels"].astype(np.int64)
    grey = (ink * (255 / 16)).round().astype(np.uint8)
    square = (size, size)
    pictures = np.stack([np.asarray(Image.fromarray(g).resize(square, Image.Resampling.BILINEAR)) for g in grey])
    images = np.repeat(pictures[..., None], 3, axis=-1)  # (N, size, size, 3)

    order = numpy_stream(seed, "digits", "split").permutation(len(labels))
    place = np.empty(len(labels), dtype=np.int64)  # the how-manieth of its class, in random order
    for c in range(10):
        own = order[labels[order] == c]
        place[own] = np.arange(len(own))
    held, world = test // 10, (test + generic) // 10
    parts = [np.flatnonzero(m) for m in (place < held, (place >= held) & (place < world), place >= world)]
    tested, seen, rest = parts
    names = confuse(labels[seen], SIBLING, confusion, numpy_stream(seed, "digits", "confusion"), confusion_spread)
    return FederatedDataset(
        name="digits",
        class_names=NAMES,
        train={ClientTask.IMAGE_CLASSIFICATION: ImageSet(images[rest], labels[rest])},
        test={ClientTask.IMAGE_CLASSIFICATION: ImageSet(images[tested], labels[tested])},
        public=PublicData(images[seen], tuple(describe(ink[i]) for i in seen), names),
    )


def _check(options: Mapping[str, Any]) -> None:
    test, generic = options["test"], options["generic"]
    check_size(options["size"])
    for key, n in (("test", test), ("generic", generic)):
        if n < 10 or n % 10:
            raise BadInput(f"digits: {key}={n}, allowed: a multiple of 10, at least 10")
    if (test + generic) // 10 >= SMALLEST:
        raise BadInput(f"digits: test={test} + generic={generic} leave nothing to train on, allowed: up to 1700")
    check_confusion(options["confusion"], options["confusion_spread"])


DATASET = Dataset(
    name="digits",
    toy=True,
    summary="1797 real handwritten digits of 8 x 8 pixels, enlarged",
    load=load,
    tasks=(ClientTask.IMAGE_CLASSIFICATION,),
    classes=10,
    source="UCI optical recognition of handwritten digits, test part (Alpaydin and Kaynak 1998)",
    licence="CC BY 4.0",
    check=_check,
)
