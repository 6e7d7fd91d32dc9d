"""Classes that appear in mid-run: no client has samples of them before, and the server does not ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloom.config import Config
from fedloom.data.containers import Attribute, FederatedDataset
from fedloom.errors import BadInput, unknown
from fedloom.experiment.checks import own_data
from fedloom.methods.base import Method
from fedloom.tasks import CLIENT_TASKS, ClientTask

OLD = "from the start"  # the classes that were there before the first round
STAGE = " stage"  # beside the client's own state, whose names are words
PLAIN = frozenset({"export", "context"})  # what is no verb of a client


def named_classes(config: Config, names: Sequence[str]) -> dict[int, int]:
    """Class -> the first round in which it is there, of those that the configuration names."""
    told = config.participation.classes if config.participation is not None else {}
    return {names.index(name): t for name, t in told.items() if name in names}


def new_classes(config: Config, names: Sequence[str]) -> dict[int, int]:
    """Of those the ones that are not there from the start."""
    return {c: t for c, t in named_classes(config, names).items() if t > 1}


def class_groups(config: Config, names: Sequence[str], labels: NDArray[np.int64]) -> Attribute | None:
    """Which samples are of each class that the configuration names, and which of the others; None: it names none."""
    named = named_classes(config, names)
    if not named:
        return None
    groups = np.zeros(len(labels), dtype=np.int64)
    for number, c in enumerate(named, start=1):
        groups[labels == c] = number
    return Attribute((OLD, *(names[c] for c in named)), groups)


def group_names(config: Config, scene: FederatedDataset, task: ClientTask) -> tuple[str, ...]:
    """The groups that a task's accuracy is also told of: old and new classes, else those of the test samples."""
    nothing = np.zeros(0, dtype=np.int64)
    found = class_groups(config, scene.names_of(task), nothing) or scene.groups.get("test", {}).get(task)
    return found.values if found is not None else ()


def by_group(groups: Attribute | None, right: NDArray[np.bool_]) -> dict[str, float | None]:
    """The share of each group's samples (N,) that are right, None of one without samples; nothing without groups."""
    if groups is None:
        return {}
    each = [right[groups.labels == g] for g in range(len(groups.values))]
    return {name: float(part.mean()) if len(part) else None for name, part in zip(groups.values, each)}


class Arriving:
    """A client that gets samples of further classes: before it answers anything in their round, or after.

    It first learns from what it then has by private steps, as it did before round 1: else it would be asked about what
    it cannot know.

    Args:
        client: of a method, which has those of before the first round.
        samples: all of them.
        new: as `new_classes` says.
        steps: private steps.
    """

    def __init__(self, client: Any, samples: Any, new: dict[int, int], steps: int) -> None:
        self._client, self._samples, self._new, self._steps = client, samples, new, steps
        self._stage = 0  # the round whose classes were the last to come

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        return found if name in PLAIN or not callable(found) else partial(self._answer, found)

    @property
    def aside(self) -> Any:
        """What the client has for no file."""
        return getattr(self._client, "aside", None)

    @aside.setter
    def aside(self, kept: Any) -> None:
        self._client.aside = kept

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The client's, and what it has."""
        arrays, meta = self._client.state()
        return arrays, {**meta, STAGE: self._stage}

    def load_state(self, arrays: dict[str, Any], meta: dict[str, Any]) -> None:
        """Take up `state()` again."""
        self._hold(meta[STAGE])
        self._client.load_state(arrays, {k: v for k, v in meta.items() if k != STAGE})

    def _answer(self, verb: Any, message: Any, *, round: int) -> Any:
        for t in sorted(set(self._new.values())):
            if self._stage < t <= round:
                before = len(self._client.context.private_labels)
                self._hold(t)
                if len(self._client.context.private_labels) > before:
                    self._client.context.train_private(self._steps, t, "arrived")
        return verb(message, round=round)

    def _hold(self, stage: int) -> None:
        self._client.context.hold(self._samples.subset(present(self._samples, self._new, stage)))
        self._stage = stage


def present(samples: Any, new: dict[int, int], t: int) -> NDArray[np.int64]:
    """The samples, by their places, whose classes are there in round t."""
    later = [c for c, first in new.items() if first > t]
    return np.flatnonzero(~np.isin(samples.labels, later))


def check_classes(config: Config, method: Method, scene: FederatedDataset) -> None:
    """Raises BadInput where a class cannot appear: unknown, all of them, or with clients that could not take it."""
    told = config.participation.classes if config.participation is not None and method.tasks else {}
    if not told:
        return
    place = f"participation.classes.{next(iter(told))}"
    if own_data(config) or config.clients.privacy is not None:
        why = "clients bring their own data" if own_data(config) else "a budget is of one set of samples"
        raise BadInput(f"{place}: {why}; allowed: none")
    if config.clients.pair:
        raise BadInput(f"{place}: image-text clients (clients.pair) have no classes; allowed: none")
    spaces = [scene.names_of(task) for task in CLIENT_TASKS if config.clients.models(task)]
    for name in told:
        if not any(name in names for names in spaces):
            raise BadInput(f"participation.classes: {unknown('class', name, {n for names in spaces for n in names})}")
    for names in spaces:
        if len(names) - len(new_classes(config, names)) < 2:
            raise BadInput(f"participation.classes: {len(told)} of {len(names)}; two must be there from the start")
