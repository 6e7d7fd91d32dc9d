"""What a metric is: a number that a run's round is scored by, computed from clients' scores or generated pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fedloom.errors import unknown
from fedloom.tasks import ClientTask

Need = Literal["clients", "generator", "attributes"]


@dataclass(frozen=True)
class ShownAttribute:
    """An attribute with V values. real (C, V): its shares in real pictures of each class, zeros of one without any;
    drawn int (N,): its value in each generated picture, as a network of its own sees it.
    """

    values: tuple[str, ...]
    real: NDArray[np.float64]
    drawn: NDArray[np.int64]

    @property
    def varies(self) -> bool:
        """Whether it varies within a class."""
        return bool(((self.real > 0).sum(1) > 1).any())


def shares(values: NDArray[np.int64], labels: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Shares (C, V) of the values (N,) of samples of each class; zeros of a class without any."""
    counts = np.zeros(shape)
    np.add.at(counts, (labels, values), 1.0)
    return np.asarray(counts / np.maximum(counts.sum(1, keepdims=True), 1.0))


@dataclass(frozen=True)
class Evaluation:
    """What a round was scored on.

    per_client: each client's score on its test set (accuracy; R@1 of retrieval), of those that answered. images:
    generated pictures uint8 (N, H, W, 3), the same noise at every round, of `prompts` (N) for classes `labels` (N,) of
    `class_names` (C); None where the method has no generator. attributes: by name, where a metric needs them and the
    data set has them.
    """

    round: int
    per_client: Mapping[str, float] = field(default_factory=dict)
    tasks: Mapping[str, ClientTask] = field(default_factory=dict)  # of each client
    images: NDArray[np.uint8] | None = None
    prompts: tuple[str, ...] = ()
    labels: NDArray[np.int64] | None = None
    class_names: tuple[str, ...] = ()
    attributes: Mapping[str, ShownAttribute] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric:
    """A metric that is added to a run by `evaluation.metrics`.

    compute: gives the value, or None where there is none. needs: what must be there for it to be computed; where it is
    not, its value is null. unit: "%" for a share, from 0 to 1; else shown after the title.
    """

    name: str
    title: str
    compute: Callable[[Evaluation], float | None]
    needs: frozenset[Need] = frozenset({"clients"})
    unit: str = ""
    higher_is_better: bool = True
    note: str = ""

    def __post_init__(self) -> None:
        for need in self.needs:
            if need not in get_args(Need):
                raise unknown(f"need of metric {self.name!r}", need, get_args(Need))

    def value(self, evaluation: Evaluation) -> float | None:
        """The value, of an evaluation that has what is needed; else None."""
        there = {
            "clients": bool(evaluation.per_client),
            "generator": evaluation.images is not None,
            "attributes": bool(evaluation.attributes),
        }
        if not all(there[need] for need in self.needs):
            return None
        found = self.compute(evaluation)
        return None if found is None else float(found)

    def display(self) -> dict[str, str | bool]:
        """How its values are shown, as it stands in a run's summary."""
        return {
            "title": self.title,
            "unit": self.unit,
            "higher_is_better": self.higher_is_better,
            "note": self.note,
        }
