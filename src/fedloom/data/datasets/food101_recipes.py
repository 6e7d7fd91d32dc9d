"""Food-101 photographs beside recipe texts over one label space: unpaired image and text clients."""

from __future__ import annotations

from pathlib import Path

from fedloom.data.assemble import Reading
from fedloom.data.containers import FederatedDataset
from fedloom.data.datasets import folder
from fedloom.data.options import takes
from fedloom.data.registry import Dataset
from fedloom.tasks import ClientTask


@takes(Reading)
def load(root: str | Path, *, text_column: str = "text_masked", reading: Reading) -> FederatedDataset:
    """Read images_{train,test}.parquet and recipes_{train,test}.csv in `root`, with labels.json; see
    folder.load.

    Args:
        text_column: 'text_masked' hides the dish's name, which 'title' gives away.
    """
    return folder.load(
        root,
        images_train="images_train.parquet",
        images_test="images_test.parquet",
        texts_train="recipes_train.csv",
        texts_test="recipes_test.csv",
        text_column=text_column,
        label_column="class",
        labels_file="labels.json",
        reading=reading,
        name="food101_recipes",
    )


DATASET = Dataset(
    name="food101_recipes",
    summary="Food-101 photographs and, unpaired, recipe texts over 20 dishes",
    load=load,
    tasks=(ClientTask.IMAGE_CLASSIFICATION, ClientTask.TEXT_CLASSIFICATION),
    classes=20,
    layout="images_{train,test}.parquet, recipes_{train,test}.csv, labels.json",
    source="Food-101 and github.com/dpapathanasiou/recipes, labels by title",
    licence="see the data set's page",
)
