"""The data sets by name. Light: a set's own module is imported when it is loaded."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedloom.data.scene import Modality, Scene
from fedloom.errors import BadInput, nearest, unknown


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set without reading it.

    classes: C, None where the data decide; layout: what the root folder must hold, '' when nothing is needed;
    loader: 'module:function'; source: where it comes from.
    """

    name: str
    summary: str
    modalities: tuple[Modality, ...]
    classes: int | None
    layout: str
    loader: str
    source: str


_INFOS = (
    DatasetInfo(
        "flora",
        "procedurally drawn flowers in sibling pairs, with captions that say more than the label (default)",
        ("image", "text"),
        10,
        "",
        "fedloom.data.flora:load",
        "drawn from a seed by this package",
    ),
    DatasetInfo(
        "digits",
        "1797 real handwritten digits of 8 x 8 pixels, enlarged",
        ("image",),
        10,
        "",
        "fedloom.data.digits:load",
        "scikit-learn (UCI optical recognition of handwritten digits, test part)",
    ),
    DatasetInfo(
        "flowers102",
        "Oxford Flowers-102 with ten captions a picture",
        ("image", "text"),
        102,
        "jpg/image_00001.jpg ..., imagelabels.mat, setid.mat, text_c10/class_00001/image_06734.txt ...",
        "fedloom.data.flowers102:load",
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/ (captions: Reed et al. 2016)",
    ),
    DatasetInfo(
        "food101",
        "Food-101 photographs, 750 train and 250 test a dish",
        ("image",),
        101,
        "images/<class>/<id>.jpg, meta/classes.txt, meta/train.txt and meta/test.txt (or .json)",
        "fedloom.data.food101:load",
        "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
    ),
    DatasetInfo(
        "cifar100",
        "CIFAR-100: 500 train and 100 test pictures of 32 x 32 pixels a class",
        ("image",),
        100,
        "cifar-100-binary/{train,test}.bin with {fine,coarse}_label_names.txt, or "
        "cifar-100-python/{train,test,meta}",
        "fedloom.data.cifar100:load",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
    ),
    DatasetInfo(
        "upmc_food101",
        "UPMC Food-101: web pictures of the 101 dishes with page titles",
        ("image", "text"),
        101,
        "images/{train,test}/<class>/<class>_<n>.jpg, texts/{train,test}_titles.csv",
        "fedloom.data.upmc_food101:load",
        "Wang et al., Recipe recognition with large multimodal food dataset, 2015",
    ),
    DatasetInfo(
        "food101_recipes",
        "Food-101 photographs and, unpaired, recipe texts over 20 dishes",
        ("image", "text"),
        20,
        "images_{train,test}.parquet, recipes_{train,test}.csv, labels.json",
        "fedloom.data.food101_recipes:load",
        "Food-101 and github.com/dpapathanasiou/recipes, labels by title",
    ),
    DatasetInfo(
        "folder",
        "your own data: an image folder or parquet file, and/or CSV files of texts",
        ("image", "text"),
        None,
        "images/<class>/*.jpg or images_{train,test}.parquet, and/or texts_{train,test}.csv (columns text, "
        "label); or no root and the paths as options",
        "fedloom.data.folder:load",
        "yours",
    ),
)
DATASETS: dict[str, DatasetInfo] = {info.name: info for info in _INFOS}


def load_scene(name: str, root: str | Path | None = None, **options: Any) -> Scene:
    """Load a data set by name.

    Args:
        name: a key of DATASETS.
        root: the folder that holds it; None for the embedded ones.
        options: of its loader, such as size, seed, classes or generic_share.

    Raises:
        BadInput: an unknown name or option, a root that is missing or not wanted, or what the loader finds
            wrong.
    """
    load = loader_of(name, root, options)
    if "root" not in inspect.signature(load).parameters:
        return load(**options)
    return load(root=root, **options)


def loader_of(name: str, root: str | Path | None, options: Collection[str]) -> Callable[..., Scene]:
    """The loader of that data set, which takes that root and options of those names; nothing is read.

    Raises:
        BadInput: an unknown name or option, a root that is missing or not wanted.
    """
    if name not in DATASETS:
        raise unknown("data set", name, DATASETS)
    info = DATASETS[name]
    module, _, function = info.loader.partition(":")
    load: Callable[..., Scene] = getattr(importlib.import_module(module), function)
    parameters = inspect.signature(load).parameters
    allowed = sorted(set(parameters) - {"root"})
    for option in options:
        if option not in allowed:
            raise BadInput(
                f"data set {name!r} has no option {option!r}.{nearest(option, allowed)} "
                f"Allowed: {', '.join(allowed)}."
            )
    if "root" not in parameters:
        if root is not None:
            raise BadInput(
                f"data set {name!r} is embedded and reads no folder, but root={str(root)!r} is given"
            )
    elif root is None and parameters["root"].default is inspect.Parameter.empty:
        raise BadInput(f"data set {name!r} needs root, a folder that holds: {info.layout}")
    return load
