"""dishes: a photograph and a recipe of the same dish as one sample, from the files of `food101_recipes`.

Picture and recipe share the dish and nothing else: they are paired at random within it, each at most once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from fedloom.data.assemble import Reading
from fedloom.data.containers import FederatedDataset, ImageSet, TextSet
from fedloom.data.datasets import food101_recipes
from fedloom.data.joint import MultimodalSamples
from fedloom.data.options import UNSHARED, takes
from fedloom.data.registry import Dataset
from fedloom.seeding import numpy_stream
from fedloom.tasks import ClientTask, Modality


def paired(apart: FederatedDataset, part: Literal["train", "test"], rng: np.random.Generator) -> MultimodalSamples:
    """Pictures (M = 1) and texts of the same class, in random order, as many of each as there are of the fewer."""
    images = apart.labelled(part, ClientTask.IMAGE_CLASSIFICATION)
    texts = apart.labelled(part, ClientTask.TEXT_CLASSIFICATION)
    assert isinstance(images, ImageSet)
    assert isinstance(texts, TextSet)
    seen, read = list[int](), list[int]()
    for label in np.intersect1d(images.labels, texts.labels):
        own, other = (rng.permutation(np.flatnonzero(held.labels == label)).tolist() for held in (images, texts))
        n = min(len(own), len(other))
        seen, read = seen + own[:n], read + other[:n]
    order = rng.permutation(len(seen))
    at, of = np.array(seen, dtype=np.int64)[order], np.array(read, dtype=np.int64)[order]
    said = tuple(texts.texts[i] for i in of.tolist())
    return MultimodalSamples({Modality.IMAGE: images.images[at][:, None], Modality.TEXT: said}, images.labels[at])


@takes(Reading, UNSHARED, size=64)
def load(root: str | Path, *, text_column: str = "text_masked", reading: Reading) -> FederatedDataset:
    """Read the files in `root` as `food101_recipes` does, and pair them.

    Args:
        root: the folder with images_{train,test}.parquet, recipes_{train,test}.csv and labels.json.
        text_column: 'text_masked' hides the dish's name, which 'title' gives away.
    """
    apart = food101_recipes.load(root, text_column=text_column, reading=reading)
    train = paired(apart, "train", numpy_stream(reading.seed, "dishes", "train"))
    test = paired(apart, "test", numpy_stream(reading.seed, "dishes", "test"))
    kind = ClientTask.MULTIMODAL_CLASSIFICATION
    return FederatedDataset("dishes", apart.class_names, {kind: train}, {kind: test}, notes=apart.notes)


DATASET = Dataset(
    name="dishes",
    summary="Food-101 photographs and recipe texts in pairs: both of one of 20 dishes",
    load=load,
    tasks=(ClientTask.MULTIMODAL_CLASSIFICATION,),
    classes=20,
    modalities=(Modality.IMAGE, Modality.TEXT),
    layout=food101_recipes.DATASET.layout,
    source=food101_recipes.DATASET.source,
    licence=food101_recipes.DATASET.licence,
)
