"""Methods with clients that lie.

NOISE and FLIP: FedMMKT where one client of eight, image-0, answers something else than what it sees; else it is an
honest client. FEDMMKT, FEDMD, CREAMFL, FEDAVG, FEDAFD, FEDCMI, FEDLOOM: those methods with `settings.attack`,
`settings.liars` and `settings.unscored`. Arms of studies name them as `method: evidence.attackers:NOISE`;
`settings.variant: l` makes FedMMKT l-FedMMKT.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from fedloom.config.models import Frozen
from fedloom.methods.base import Done, Method, load_method
from fedloom.methods.fedavg import FedAvgClient
from fedloom.methods.fedmmkt import METHOD, FedMMKTClient

Array = NDArray[Any]

ATTACKER = "image-0"
SCALE = 10.0  # of noise as logits: about as sure as a client that has overfitted


class NoiseClient(FedMMKTClient):
    """Representations and logits are noise, and so what is said of them: a label at random, and sure of it."""

    def answer(self, message: Any, z: Tensor, logits: Tensor) -> Any:
        """C1, or C1 of noise."""
        if self.context.name == ATTACKER:
            rng = self.context.rng("noise", message.view_seed)  # another one each round
            z, logits = (torch.from_numpy(rng.standard_normal(x.shape)).float() for x in (z, logits))
            logits = SCALE * logits
        return super().answer(message, z, logits)


class FlippingClient(FedMMKTClient):
    """Each label is the next class's, as sure as it is of the right one."""

    def answer(self, message: Any, z: Tensor, logits: Tensor) -> Any:
        """C1, of logits that are moved on by a class."""
        return super().answer(message, z, logits.roll(1, 1) if self.context.name == ATTACKER else logits)


NOISE = replace(METHOD, name="fedmmkt-noise", client=NoiseClient)
FLIP = replace(METHOD, name="fedmmkt-flip", client=FlippingClient)


# ----------------------------------------------------------------------------- any method, any attack, any clients


class PoisonSettings(Frozen):
    """Who lies, and how.

    noise: numbers and labels at random, as large as the true ones; logits as sure as a client that has overfitted.
    flip: labels are the next class's, in answers and, where parameters are sent, in training; representations are the
    next sample's where nothing else is sent. constant: the same for every sample. scaled: a hundred times as large.
    nan: not a number. certain: flipped, and as sure as can be: entropy 0, one class alone, or a thousand times as many
    samples. late: the truth, but after `late_seconds`.
    """

    attack: Literal["none", "noise", "flip", "constant", "scaled", "nan", "certain", "late"] = "none"
    liars: tuple[str, ...] = Field((), description="clients that lie")
    unscored: tuple[str, ...] = Field((), description="clients that have no part in scores, liars or not")
    late_seconds: float = Field(10.5, ge=0, description="what `late` waits before it answers")


SURE = 1000.0  # a logit beside which all others are nothing
TOO_LARGE = 100.0


def poisoned(reply: Any, attack: str, rng: np.random.Generator, classes: int) -> Any:
    """A client's reply as one sends it that lies."""
    labels = any(hasattr(reply, name) for name in ("labels", "logits"))
    changed: dict[str, Any] = {}
    for field in fields(reply):
        value = getattr(reply, field.name)
        if isinstance(value, Mapping):
            if field.name != "classes":
                changed[field.name] = {k: _floats(v, attack, rng, field.name, True) for k, v in value.items()}
        elif isinstance(value, np.ndarray):
            if field.name == "labels":
                changed["labels"] = _labels(value, attack, rng, classes)
            elif field.name == "classes" and hasattr(reply, "shares"):  # the most probable classes, surest first
                changed["classes"] = _tops(value, attack, rng, classes)
            elif field.name == "shares" and attack in ("noise", "constant", "certain"):
                changed["shares"] = np.zeros_like(value)
                changed["shares"][:, 0] = 255
            elif field.name != "known":
                changed[field.name] = _floats(value, attack, rng, field.name, labels)
        elif field.name == "samples" and attack == "certain":
            changed["samples"] = 1000 * value
    return replace(reply, **changed)


def _labels(labels: Array, attack: str, rng: np.random.Generator, classes: int) -> Array:
    if attack == "noise":
        return rng.integers(0, classes, labels.shape).astype(labels.dtype)
    if attack in ("flip", "certain"):
        return np.where(labels < 0, labels, (labels + 1) % classes).astype(labels.dtype)
    return np.zeros_like(labels) if attack == "constant" else labels


def _tops(tops: Array, attack: str, rng: np.random.Generator, classes: int) -> Array:
    """Each row names no class twice."""
    if attack == "noise":
        return rng.random((len(tops), classes)).argsort(1)[:, : tops.shape[1]].astype(tops.dtype)
    if attack in ("flip", "certain"):
        return ((tops + 1) % classes).astype(tops.dtype)
    return np.broadcast_to(np.arange(tops.shape[1], dtype=tops.dtype), tops.shape) if attack == "constant" else tops


def _floats(a: Array, attack: str, rng: np.random.Generator, name: str, labelled: bool) -> Array:
    """labelled: labels, logits or parameters cross, so that a flip needs nothing of the representations."""
    if a.dtype.kind != "f":
        return a
    if name == "entropies" and attack != "nan":
        return np.zeros_like(a) if attack in ("noise", "constant", "certain") else a
    if attack == "noise":
        size = SCALE if name == "logits" else float(np.sqrt(np.square(a, dtype=np.float64).mean())) if a.size else 0.0
        return (size * rng.standard_normal(a.shape)).astype(a.dtype)
    if attack == "constant":
        return _sure(np.zeros(a.shape[:1], np.int64), a, SCALE) if name == "logits" else np.ones_like(a)
    if attack == "scaled":
        return np.asarray(TOO_LARGE * a, a.dtype)
    if attack == "nan":
        return np.full_like(a, np.nan)
    if name == "logits" and attack == "flip":
        return np.ascontiguousarray(np.roll(a, 1, axis=1))
    if name == "logits" and attack == "certain":
        return _sure((a.argmax(1) + 1) % a.shape[1], a, SURE)
    return a if labelled else np.ascontiguousarray(np.roll(a, 1, axis=0))


def _sure(labels: Array, like: Array, size: float) -> Array:
    return np.asarray(size * np.eye(like.shape[1])[labels], like.dtype)


def with_liars(method: Method) -> Method:
    """The method with `PoisonSettings` beside its own: `settings.attack`, `settings.liars`, `settings.unscored`."""

    class Liar(method.client):  # type: ignore[name-defined, misc]
        def __init__(self, context: Any, settings: Any) -> None:
            super().__init__(context, settings)
            self._lies = context.name in settings.liars and settings.attack != "none"
            if self._lies and settings.attack in ("flip", "certain") and issubclass(method.client, FedAvgClient):
                labels = context.private_labels
                context.private_labels = (labels + 1) % (int(labels.max()) + 1) if len(labels) else labels

        def evaluate(self, message: Any, *, round: int) -> Any:
            if self.context.name in self.settings.unscored:
                raise RuntimeError("not scored, as it lies in some arms of the study")
            return super().evaluate(message, round=round)

    def lying(verb: str) -> Any:
        def answer(self: Any, message: Any, *, round: int) -> Any:
            reply = getattr(super(Liar, self), verb)(message, round=round)
            if not self._lies or isinstance(reply, Done):
                return reply
            if self.settings.attack == "late":
                time.sleep(self.settings.late_seconds)
                return reply
            classes = int(self.context.test_labels.max()) + 1 if hasattr(self.context, "test_labels") else 1
            return poisoned(reply, self.settings.attack, self.context.rng("poison", round), classes)

        return answer

    for verb in ("infer", "learn", "fit"):
        if hasattr(method.client, verb):
            setattr(Liar, verb, lying(verb))
    settings = type(f"Poisoned{method.settings.__name__}", (method.settings, PoisonSettings), {"__module__": __name__})
    return replace(method, name=f"{method.name}-poisoned", settings=settings, client=Liar)


_NAMES = ("fedmmkt", "fedmd", "creamfl", "fedavg", "fedafd", "fedcmi", "fedloom")
FEDMMKT, FEDMD, CREAMFL, FEDAVG, FEDAFD, FEDCMI, FEDLOOM = (with_liars(load_method(name)[0]) for name in _NAMES)
