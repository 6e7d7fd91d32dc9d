"""The tasks of clients and the modalities of data; what differs by task stands here, once. Light: no arrays.

Beside it two tables stand where their classes are known: `data.containers.CONTAINERS` (samples) and
`config.archs.serves` (models).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Modality(StrEnum):
    """A kind of data. In the order of a multimodal model's streams."""

    AUDIO = "audio"
    IMAGE = "image"
    TEXT = "text"

    __repr__ = str.__repr__  # messages quote it as what is written in a configuration


class ClientTask(StrEnum):
    """What a client learns.

    The value is its persistent name: key of the configuration (`clients.image`), of client names (`image-0`), random
    streams, caches, files of a run and messages on the wire. It never changes.
    """

    IMAGE_CLASSIFICATION = "image"
    TEXT_CLASSIFICATION = "text"
    RETRIEVAL = "pair"
    MULTIMODAL_CLASSIFICATION = "joint"

    __repr__ = str.__repr__

    @property
    def spec(self) -> TaskSpec:
        """What differs by task."""
        return TASKS[self]


@dataclass(frozen=True)
class TaskSpec:
    """What differs by task.

    clients, samples: who learns it, and what they hold, for people. reads: the modalities of its samples; (): two of
    them, as the data set says. labelled: whether samples have a class. metric: its score in run folders.
    """

    clients: str
    samples: str
    reads: tuple[Modality, ...]
    metric: str
    labelled: bool = True


TASKS: Mapping[ClientTask, TaskSpec] = {
    ClientTask.IMAGE_CLASSIFICATION: TaskSpec("image clients", "pictures", (Modality.IMAGE,), "image_accuracy"),
    ClientTask.TEXT_CLASSIFICATION: TaskSpec("text clients", "texts", (Modality.TEXT,), "text_accuracy"),
    ClientTask.RETRIEVAL: TaskSpec(
        "image-text clients", "pairs", (Modality.IMAGE, Modality.TEXT), "pair_recall", labelled=False
    ),
    ClientTask.MULTIMODAL_CLASSIFICATION: TaskSpec("multimodal clients", "multimodal samples", (), "joint_accuracy"),
}
CLIENT_TASKS = tuple(ClientTask)
SINGLE_MODALITY = (ClientTask.IMAGE_CLASSIFICATION, ClientTask.TEXT_CLASSIFICATION)
MODALITIES = tuple(Modality)


def client_word(task: str) -> str:
    """What a client of that task is called: "image-text" for "pair". What is no task's name stays as it is."""
    known = task in list(ClientTask)
    return ClientTask(task).spec.clients.removesuffix(" clients") if known else task
