"""What every method is made of: a client half, a server half, messages, settings.

A client half works with what its site gives it (`Site`): learner, data, training, random streams. A server half works
with the server's tools (`Tools`), the federation and its own state. Neither sees an engine, a data set or the other.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from fedloom.config import ClientsSettings
from fedloom.data.scene import ImageSet, Modality, Samples
from fedloom.errors import FedloomError, unknown
from fedloom.federation.base import Federation
from fedloom.federation.contract import WireContract
from fedloom.federation.messages import Empty
from fedloom.functional.augment import drop_tokens, shift_flip
from fedloom.methods.catalogue import CATALOGUE
from fedloom.models.fit import adamw, fit, index_batches
from fedloom.models.pictures import soften, to_float
from fedloom.models.settings import Frozen
from fedloom.models.text import tokenize
from fedloom.randomness import global_torch_stream, numpy_stream, torch_stream

Inputs = dict[str, Tensor]
State = tuple[dict[str, NDArray[Any]], dict[str, Any]]


@dataclass(frozen=True)
class Scores:
    """Reply to `evaluate`: accuracy on the common test set of the client's modality, and its size."""

    accuracy: float
    samples: int


@dataclass(frozen=True)
class Done:
    """Reply to an order to train: the mean loss (nats)."""

    loss: float


@dataclass(frozen=True)
class TrainOrder:
    """Order to take `steps` steps on private data."""

    steps: int


# Verbs every method answers. They carry no knowledge and do not count as communication.
COMMON_VERBS: Mapping[str, tuple[type, type]] = {"evaluate": (Empty, Scores), "train": (TrainOrder, Done)}
UNCOUNTED = frozenset(COMMON_VERBS)


class Site:
    """What a client half finds at its site: a learner, private data, an optimiser, and named random streams."""

    def __init__(
        self,
        *,
        name: str,
        modality: Modality,
        learner: nn.Module,
        tokenizer: Any,
        private: Samples,
        test: Samples,
        seed: int,
        batch: int = 32,
        rate: float = 2e-3,
        decay: float = 0.01,
        augment: bool = True,
        features: Callable[[Any, Tensor], Tensor] | None = None,
    ) -> None:
        self.name, self.modality, self.seed, self.batch = name, modality, seed, batch
        self.learner, self.tokenizer, self.augment = learner, tokenizer, augment
        self.export: Callable[[Path], None] | None = None  # writes the learner as a folder of its library
        self.side = private.images.shape[2] if isinstance(private, ImageSet) else 0  # of pictures, in pixels
        self.private = self.inputs(private, features)
        self.test = self.inputs(test, features)
        self.private_labels = torch.from_numpy(private.labels.copy())
        self.test_labels = torch.from_numpy(test.labels.copy())
        self.optimizer = adamw((p for p in learner.parameters() if p.requires_grad), rate, decay)

    def inputs(
        self,
        samples: Samples | NDArray[np.uint8] | Sequence[str],
        features: Callable[[Any, Tensor], Tensor] | None = None,
    ) -> Inputs:
        """Pictures uint8 (N, H, W, 3) or N texts as the learner's inputs.

        A learner on frozen features looks at each picture once, unless pictures are augmented. features: gives what
        `learner.look` does, from learner and pictures (N, 3, H, W): where it is known already.
        """
        raw = self.raw(samples)
        if self.augment or "pixel_values" not in raw or not hasattr(self.learner, "looks_with"):
            return raw
        look = features or (lambda learner, pixels: learner.look(pixels))
        return {"features": look(self.learner, raw["pixel_values"])}

    def raw(self, samples: Samples | NDArray[np.uint8] | Sequence[str]) -> Inputs:
        """Pictures or texts as inputs that can be augmented."""
        if self.modality == "image":
            images = samples.images if isinstance(samples, ImageSet) else samples
            return {"pixel_values": to_float(np.asarray(images))}
        texts: Any = getattr(samples, "texts", samples)
        return tokenize(self.tokenizer, texts)

    def rng(self, *names: object) -> np.random.Generator:
        """This client's NumPy stream called `names`."""
        return numpy_stream(self.seed, self.name, *names)

    def draws(self, *names: object) -> torch.Generator:
        """This client's torch stream called `names`."""
        return torch_stream(self.seed, self.name, *names)

    @torch.no_grad()
    def look(self, inputs: Inputs, batch: int = 256) -> tuple[Tensor, Tensor]:
        """Representations (N, D) and logits (N, C), without gradient and in evaluation mode."""
        self.learner.eval()
        n = len(next(iter(inputs.values())))
        seen = [self.learner.encode(**rows(inputs, slice(i, i + batch))) for i in range(0, n, batch)]  # type: ignore[operator]
        z = torch.cat(seen)
        return z, self.learner.classify(z)  # type: ignore[operator]

    def views(self, inputs: Inputs, draws: torch.Generator) -> Inputs:
        """A training view: pictures shifted, flipped and softened; one word in ten of a text hidden."""
        if not self.augment:
            return inputs
        if self.modality == "image":
            return {"pixel_values": soften(shift_flip(inputs["pixel_values"], draws), draws)}
        ids = drop_tokens(
            inputs["input_ids"], inputs["attention_mask"], 0.1, draws, self.tokenizer.unk_token_id
        )
        return {"input_ids": ids, "attention_mask": inputs["attention_mask"]}

    def fit(
        self, inputs: Inputs, steps: int, objective: Callable[[Inputs, Tensor], Tensor], *names: object
    ) -> float | None:
        """`steps` optimiser steps; `objective` gets a training view of the batch and its indices (B,)."""
        rng, draws = self.rng(*names, "batches"), self.draws(*names, "views")
        n = len(next(iter(inputs.values())))

        def loss(index: NDArray[np.int64]) -> Tensor:
            i = torch.from_numpy(index)
            return objective(self.views(rows(inputs, i), draws), i)

        with global_torch_stream(self.seed, self.name, *names, "dropout"):
            self.learner.train()
            what = f"client {self.name}, {' '.join(map(str, names))}"
            return fit(self.optimizer, index_batches(n, self.batch, steps, rng), loss, name=what)

    def train_private(self, steps: int, *names: object) -> float | None:
        """`steps` steps of the private objective (FedMMKT, eq. 1): cross-entropy on the site's own data."""

        def objective(inputs: Inputs, index: Tensor) -> Tensor:
            return F.cross_entropy(self.learner(**inputs), self.private_labels[index])

        return self.fit(self.private, steps, objective, *names, "private")

    def put_on(self, dress: Callable[[nn.Module], nn.Module]) -> None:
        """Put a method's own parts on the learner. New parameters join the optimiser; frozen ones stay out of it.

        Random weights come from this site's own stream, so that they do not depend on what was drawn before.
        """
        with global_torch_stream(self.seed, self.name, "parts"):
            self.learner = dress(self.learner)
        known = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        if new := [p for p in self.learner.parameters() if p.requires_grad and id(p) not in known]:
            self.optimizer.add_param_group({"params": new})

    def state(self) -> dict[str, NDArray[Any]]:
        """Learner and optimiser as arrays."""
        tensors = {f"learner.{k}": v.numpy().copy() for k, v in self.learner.state_dict().items()}
        return tensors | optimizer_state(self.optimizer)

    def load_state(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Take up `state()` again."""
        own = {k.removeprefix("learner."): v for k, v in tensors.items() if k.startswith("learner.")}
        self.learner.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in own.items()})
        load_optimizer_state(self.optimizer, tensors)


def rows(inputs: Inputs, index: Any) -> Inputs:
    """The same rows of every input."""
    return {key: value[index] for key, value in inputs.items()}


class ClientHalf:
    """A client: answers the verbs of its method. This one only trains alone and is scored."""

    def __init__(self, site: Site, settings: Any) -> None:
        self.site, self.settings = site, settings

    def evaluate(self, message: Empty, *, round: int) -> Scores:
        """Accuracy on the common test set."""
        _, logits = self.site.look(self.site.test)
        right = (logits.argmax(1) == self.site.test_labels).float().mean().item()
        return Scores(right, len(self.site.test_labels))

    def train(self, message: TrainOrder, *, round: int) -> Done:
        """Private steps only."""
        return Done(self.site.train_private(message.steps, round) or 0.0)

    def state(self) -> State:
        """All that must survive a crash: learner, optimiser, and what `memory` holds."""
        return self.site.state() | {f"memory.{k}": v for k, v in self.memory().items()}, {}

    def load_state(self, tensors: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Take up `state()` again."""
        self.site.load_state(tensors)
        self.remember({k.removeprefix("memory."): v for k, v in tensors.items() if k.startswith("memory.")})

    def export(self, folder: Path) -> None:
        """Write the learner into `folder`, where the site knows how."""
        if self.site.export is not None:
            self.site.export(folder)

    def memory(self) -> dict[str, NDArray[Any]]:
        """What a method's client keeps from round to round, as arrays."""
        return {}

    def remember(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up `memory()` again."""


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, NDArray[Any]]:
    """The optimiser's state as arrays called `optimizer.N.key`."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{n}.{key}": v.numpy().copy() for n, entry in state.items() for key, v in entry.items()
    }


def load_optimizer_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Put `optimizer_state` back, each moment in the memory layout of its parameter.

    The fused optimiser pairs moments with parameters as they lie in memory: a channels-last weight with a contiguous
    moment would be stepped wrongly.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, n, key = name.split(".", 2)
            like, moment = parameters[int(n)], torch.from_numpy(np.array(value))
            if moment.shape == like.shape:
                moment = torch.empty_like(like, dtype=moment.dtype).copy_(moment)
            state.setdefault(int(n), {})[key] = moment
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


@dataclass(frozen=True)
class Tools:
    """What a server half may use. A method that needs none of a kind never touches it."""

    class_names: tuple[str, ...]
    prompts: tuple[str, ...]
    width: int
    seed: int
    rounds: int
    timeout: float | None = None
    quorum: int | None = None
    generator: Any = None
    captioner: Any = None
    features: Callable[[NDArray[np.uint8]], Tensor] | None = None  # a frozen picture encoder's vectors (N, D)
    real: Any = None  # labelled real pictures: for the centralised upper bound only
    public: Any = None  # pairs of picture and text that no client holds
    modalities: tuple[Modality, ...] = ()  # of the clients
    learners: Callable[[Modality], Site] | None = None  # a task model of the server's own, with no data

    def rng(self, *names: object) -> np.random.Generator:
        """The server's NumPy stream called `names`."""
        return numpy_stream(self.seed, "server", *names)

    def draws(self, *names: object) -> torch.Generator:
        """The server's torch stream called `names`."""
        return torch_stream(self.seed, "server", *names)


@dataclass(frozen=True)
class LabelInfo:
    """A round's synthetic samples and what became of their labels. voted: -1 where nobody voted."""

    images: NDArray[np.uint8]  # (S, H, W, 3)
    captions: tuple[str, ...]
    drawn: NDArray[np.int64]  # (S,) the class each was prompted with
    voted: NDArray[np.int64]  # (S,)
    kept: NDArray[np.bool_]  # (S,)


@dataclass(frozen=True)
class Info:
    """What a reader of the run wants to know of a round."""

    labels: LabelInfo | None = None
    losses: Mapping[str, float | None] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    formula: tuple[int, int] | None = None  # the paper's bytes up and down, where it gives a formula


class ServerHalf:
    """A server: `round` is one round of the method; state is what must survive a crash."""

    def __init__(self, tools: Tools, settings: Any) -> None:
        self.tools, self.settings = tools, settings

    def round(self, federation: Federation) -> Info:
        """Do round `federation.round` (1-based)."""
        raise FedloomError(f"{type(self).__name__} has no round")

    def state(self) -> dict[str, NDArray[Any]]:
        """Arrays to keep."""
        return {}

    def load_state(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Take up `state()` again."""


@dataclass(frozen=True)
class Method:
    """A method: its settings, its two halves, and its wire contract as a function of the settings."""

    name: str
    settings: type[Frozen]
    client: type[ClientHalf]
    server: type[ServerHalf]
    verbs: Callable[[Any], Mapping[str, tuple[Any, Any]]]
    # Tools beyond the federation, of generator, captioner, features, real, public, learners; or a function of the
    # settings that says which.
    uses: frozenset[str] | Callable[[Any], frozenset[str]] = frozenset()
    clients: bool = True  # False: a server on its own
    resolve: Callable[[Any, Sequence[str]], Any] = lambda settings, modalities: (
        settings
    )  # settings for these modalities
    # The clients' models that the method is defined on, in place of the configured ones.
    models: Callable[[Any, ClientsSettings], ClientsSettings] = lambda settings, clients: clients
    # The method's own parts on a client's warm-started learner.
    dress: Callable[[nn.Module, Any], nn.Module] = lambda learner, settings: learner

    def tools(self, settings: Any) -> frozenset[str]:
        """The tools that the server half is given."""
        return self.uses if isinstance(self.uses, frozenset) else self.uses(settings)

    def contract(self, settings: Any) -> WireContract:
        """What may cross the wire."""
        return WireContract(verbs={**COMMON_VERBS, **self.verbs(settings)})


def load_method(name: str) -> tuple[Method, dict[str, Any]]:
    """The method called `name`, and the settings that its name stands for.

    Raises:
        BadInput: no such method; offers the nearest name.
    """
    if name not in CATALOGUE:
        raise unknown("method", name, CATALOGUE)
    entry = CATALOGUE[name]
    module, _, attribute = entry.method.partition(":")
    return getattr(importlib.import_module(module), attribute), dict(entry.settings)
