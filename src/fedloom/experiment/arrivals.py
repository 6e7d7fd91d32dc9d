"""Samples that come in mid-run: of classes that appear, or of a kind of data that a client did not have.

No client has samples of a class before it appears, and the server does not ask for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloom.config import Config
from fedloom.data.containers import Attribute, FederatedDataset
from fedloom.data.joint import held_kinds
from fedloom.errors import BadInput, unknown
from fedloom.experiment.checks import own_data
from fedloom.methods.base import Method
from fedloom.tasks import CLIENT_TASKS, ClientTask, Modality

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


@dataclass(frozen=True)
class Coming:
    """What a client does not have from the start.

    classes: class -> its first round; kinds: of a multimodal client, kind of data -> its first round.
    """

    classes: Mapping[int, int]
    kinds: Mapping[Modality, int] = field(default_factory=dict)

    @property
    def rounds(self) -> list[int]:
        """When something comes."""
        return sorted({*self.classes.values(), *self.kinds.values()})

    def present(self, samples: Any, t: int) -> Any:
        """What is there of the samples in round t."""
        later = [c for c, first in self.classes.items() if first > t]
        held = samples.subset(np.flatnonzero(~np.isin(samples.labels, later)))
        lacking = {k: np.ones(len(held), dtype=np.bool_) for k, first in self.kinds.items() if first > t}
        return held.lacking(lacking) if lacking else held


def coming(config: Config, name: str, class_names: Sequence[str]) -> Coming:
    """What comes to the client called `name`."""
    told = config.participation.kinds if config.participation is not None else {}
    kinds = {kind: t for kind, t in told.get(name, {}).items() if t > 1}
    return Coming(new_classes(config, class_names), kinds)


class Arriving:
    """A client that gets more samples: before it answers anything in their round, or after.

    It first learns from what it then has by private steps, as it did before round 1: else it would be asked about what
    it cannot know.

    Args:
        client: of a method, which has what is there before the first round.
        samples: all of them.
        coming: what of them comes later.
        steps: private steps.
    """

    def __init__(self, client: Any, samples: Any, coming: Coming, steps: int) -> None:
        self._client, self._samples, self._coming, self._steps = client, samples, coming, steps
        self._stage = 0  # the round whose samples were the last to come

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
        for t in self._coming.rounds:
            if self._stage < t <= round and self._hold(t):
                self._client.context.train_private(self._steps, t, "arrived")
        return verb(message, round=round)

    def _hold(self, stage: int) -> bool:
        """Take what is there in round `stage`; whether that is more than before."""
        before, now = (self._coming.present(self._samples, t) for t in (self._stage, stage))
        self._client.context.hold(now)
        self._stage = stage
        return _amount(now) > _amount(before)


def _amount(samples: Any) -> int:
    """How many samples, each counted once a kind of data."""
    masks = getattr(samples, "present", None)
    return sum(int(mask.sum()) for mask in masks.values()) if masks else len(samples)


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


def check_kinds(config: Config, method: Method, settings: Any, scene: FederatedDataset) -> None:
    """Raises BadInput where a client cannot be without a kind of data at first."""
    told = config.participation.kinds if config.participation is not None and method.tasks else {}
    if not told:
        return
    names = config.clients.names(ClientTask.MULTIMODAL_CLASSIFICATION)
    if own_data(config) or config.clients.privacy is not None:
        why = "clients bring their own data" if own_data(config) else "a budget is of one set of samples"
        raise BadInput(f"participation.kinds.{next(iter(told))}: {why}; allowed: none")
    if getattr(settings, "secure", False):
        raise BadInput("participation.kinds: secure sums are of clients that hold the same; allowed: none")
    for name, kinds in told.items():
        if name not in names:
            raise BadInput(f"participation.kinds: {unknown('multimodal client', name, set(names))}")
        held = held_kinds(scene.modalities, config.data.multi_ratio, len(names), names.index(name))
        if len(held) < 2:
            raise BadInput(f"participation.kinds.{name}: it has {held[0]} alone (data.multi_ratio); allowed: none")
        if bad := next((k for k in kinds if k not in held), None):
            raise BadInput(f"participation.kinds.{name}: {bad}, allowed: {' or '.join(held)}")
        if len(kinds) > 1:
            raise BadInput(f"participation.kinds.{name}: both kinds, allowed: one of {' and '.join(held)}")
