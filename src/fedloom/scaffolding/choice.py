"""A configuration that fits data: what they hold, in which sizes, and how many clients they can feed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from fedloom.config import Config, load_config
from fedloom.data.containers import FederatedDataset
from fedloom.data.io.image_folder import read_image_folder
from fedloom.data.io.layout import locate
from fedloom.data.notes import data_notes
from fedloom.data.pairs import ImageTextPairs
from fedloom.errors import BadInput
from fedloom.experiment.build import split_data
from fedloom.experiment.checks import check_scene
from fedloom.experiment.datasets import cached_dataset
from fedloom.experiment.fitting import side_rules
from fedloom.experiment.resolve import completed, counted, sized
from fedloom.scaffolding.place import Place, look
from fedloom.tasks import CLIENT_TASKS, ClientTask

CHOSEN = ("data.name", "data.root", "clients.image", "clients.text")
LOOKED_AT = 200  # pictures whose sides are looked at


def chosen(path: Path) -> tuple[Config, list[str]]:
    """The configuration for what lies at `path`, and what was found there, a line each.

    Raises:
        BadInput: nothing that can be read lies there, or too little for a client.
    """
    place = look(path)
    told: list[str] = []
    config = load_config(values={"data": place.tree()}, say=told.append)
    sides = _sides(place)
    config = _with_small_side(sized(config, told.append), sides)
    config, scene = _read(config)
    config = _split(counted(config, completed(config)[1], scene, told.append), scene)
    check_scene(*completed(config), scene)
    lines = [f"{path}: {', '.join(place.said) or f'data set {place.name}'}"]
    lines += [_of(modality, scene, config, sides) for modality in CLIENT_TASKS if modality in scene.train]
    return config, [*lines, *data_notes(scene), *told]


def _sides(place: Place) -> list[int]:
    """The shorter sides of some of the pictures, in pixels; none where they are not files of a folder."""
    from PIL import Image

    if place.name != "folder":
        return []
    keys = ("images_train", "images_test", "texts_train", "texts_test")
    where, _ = locate(Path(place.root) if place.root else None, {k: place.options.get(k) for k in keys}, False)
    train = where.get("images_train")
    if train is None or not train.is_dir():
        return []
    files, sides = read_image_folder(train).items, []
    for file in files[:: max(1, len(files) // LOOKED_AT)]:
        try:
            with Image.open(str(file)) as picture:
                sides.append(min(picture.size))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue  # the reader says what is wrong with it
    return sides


def _with_small_side(config: Config, sides: Sequence[int]) -> Config:
    """Pictures are not read larger than most of them are."""
    size = config.data.options.get("size", 32)
    if not sides or median(sides) >= size:
        return config
    done, method, settings = completed(config)
    common = math.lcm(*side_rules(done, method, settings).values())
    return _with_option(config, "size", max(common, int(median(sides)) // common * common))


def _with_option(config: Config, key: str, value: Any) -> Config:
    data = config.data.model_copy(update={"options": {**config.data.options, key: value}})
    return config.model_copy(update={"data": data})


def _read(config: Config) -> tuple[Config, FederatedDataset]:
    """The data set; where pictures cannot be read, without them. Raises BadInput."""
    try:
        return config, cached_dataset(config.data)
    except BadInput as error:
        if "on_bad" not in str(error):
            raise
    config = _with_option(config, "on_bad", "skip")
    return config, cached_dataset(config.data)


def _split(config: Config, scene: FederatedDataset) -> Config:
    """The configuration with a `data.minimum` that the split can keep. Raises BadInput where none can be."""
    for minimum in (config.data.minimum, 4, 2, 1):
        if minimum > config.data.minimum:
            continue
        trial = config.model_copy(update={"data": config.data.model_copy(update={"minimum": minimum})})
        try:
            split_data(completed(trial)[0], scene)
            return trial
        except BadInput:
            if minimum == 1:
                raise
    raise AssertionError


def _of(modality: ClientTask, scene: FederatedDataset, config: Config, sides: Sequence[int]) -> str:
    """How many samples there are, of which classes, and how many clients they could feed."""
    train, test = scene.train[modality], scene.test.get(modality)
    line = f"{modality.spec.samples}: {len(train)} for training, {0 if test is None else len(test)} for testing"
    if modality == ClientTask.IMAGE_CLASSIFICATION and scene.public is not None:
        line += f", {len(scene.public.images)} set aside for the server's models"
    names = scene.names_of(modality)
    if names and not isinstance(train, ImageTextPairs):
        counts = Counter(np.asarray(train.labels).tolist())
        each = sorted(counts.get(c, 0) for c in range(len(names)))
        some = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        line += f"; {len(names)} classes ({some}) of {each[0]} to {each[-1]} for training"
    if modality == ClientTask.IMAGE_CLASSIFICATION and sides:
        line += f"; sides of {min(sides)} to {max(sides)} pixels, read at {config.data.options.get('size', 32)}"
    most = len(train) // config.data.minimum
    clients = len(config.clients.names(modality))
    return f"{line}; enough for {most} clients of {config.data.minimum} samples at least, {clients} chosen"
