"""A run under audit: what its server saw, and, to score by, what its clients had."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloom.config import Config
from fedloom.config.trees import validate
from fedloom.data.containers import FederatedDataset, ImageSet, TextSet
from fedloom.data.corruption import corrupt
from fedloom.errors import BadInput
from fedloom.experiment.checks import own_data
from fedloom.experiment.client_builder import ClientBuilder, backbones_of
from fedloom.experiment.clients import builder_of, planted, uncanaried
from fedloom.experiment.datasets import cached_dataset, own_test
from fedloom.experiment.pretraining import Assets, prepare
from fedloom.experiment.resolve import completed
from fedloom.federation.contract import WireContract
from fedloom.federation.kept import KeptExchange, check_kept, kept_exchanges
from fedloom.methods.base import Method
from fedloom.progress import Observer
from fedloom.runs import RunFiles
from fedloom.seeding import numpy_stream
from fedloom.tasks import SINGLE_MODALITY, ClientTask

Labelled = ImageSet | TextSet


@dataclass(frozen=True)
class Truth:
    """What a client had. held: the samples it trained on, but for canaries; canaries (m) and which were in (m,)."""

    held: Labelled
    canaries: Labelled | None
    inside: NDArray[np.bool_]

    def trained_on(self) -> NDArray[np.int64]:
        """The labels of all that it trained on."""
        own = self.held.labels
        return own if self.canaries is None else np.concatenate([own, self.canaries.labels[self.inside]])


@dataclass(frozen=True)
class AuditedRun:
    """A finished run that has kept its messages, with what they can be read and attacked by."""

    run: RunFiles
    config: Config
    method: Method
    settings: Any
    scene: FederatedDataset
    contract: WireContract
    exchanges: Mapping[str, list[KeptExchange]]

    @classmethod
    def open(cls, run: RunFiles) -> AuditedRun:
        """The run, with its data.

        Raises:
            BadInput: it is unfinished, has kept no messages, or not as they were, or its clients have data that are
                not here.
        """
        config: Config = validate(Config, run.config)
        if not run.finished:
            raise BadInput(f"{run.path} is unfinished: go on with it (fedloom run --resume {run.path}), then audit it")
        if own_data(config):
            raise BadInput(
                f"{run.path}: its silos had data of their own, so there is no truth here to score attacks by"
            )
        config, method, settings = completed(config)
        contract = method.contract(settings)
        contract.largest = config.engine.largest_message
        if method.tasks and not config.engine.keep_messages:
            raise BadInput(f"{run.path} has kept no messages: run it with --set engine.keep_messages=true")
        exchanges = kept_exchanges(run.ledger, run.path / "messages", contract)
        check_kept(exchanges)
        return cls(run, config, method, settings, cached_dataset(config.data), contract, exchanges)

    @cached_property
    def assets(self) -> Assets:
        """The public models that clients start from, and the public tokenizer."""
        return prepare(self.config, self.scene, frozenset({"backbones"}), Observer(), lambda line: None)[0]

    @property
    def clients(self) -> dict[str, ClientTask]:
        """All clients by name."""
        return self.config.clients.everyone() if self.method.tasks else {}

    def index(self, client: str) -> int:
        """Of a client among those of its task."""
        return self.config.clients.names(self.clients[client]).index(client)

    def builder(self, client: str, seed: int) -> ClientBuilder:
        """Of models like the client's, which all know; with random weights of another seed, as nobody knows its own."""
        task, index = self.clients[client], self.index(client)
        own = self.config.clients.models(task)[index]
        backbones = backbones_of(own, self.assets) if self.config.clients.public_steps else []
        tokenizer = str(self.assets.tokenizer or "")
        made = builder_of(self.config, self.scene, task, index, tokenizer, backbones)
        return replace(made, seed=seed)

    def truth(self, client: str) -> Truth:
        """What the client had. BadInput for one whose samples are not pictures or texts with a label each."""
        task, index = self.clients[client], self.index(client)
        held = uncanaried(self.config, self.scene, task, index)
        assert isinstance(held, ImageSet | TextSet)
        if self.config.data.canaries is None:
            return Truth(held, None, np.zeros(0, dtype=np.bool_))
        found = planted(self.config, self.scene, held, task, index)
        rest = found.samples.subset(np.arange(len(found.samples) - int(found.inside.sum())))
        return Truth(rest, found.canaries, found.inside)

    def strangers(self, client: str) -> Labelled:
        """Samples like the client's that it never trained on: of the test part, corrupted as its own were."""
        task, index = self.clients[client], self.index(client)
        found = own_test(self.scene, self.config.data, task, index)
        rng = numpy_stream(self.config.seed, task, index, "corruption")
        found = corrupt(found, self.config.data.corruption, len(self.scene.names_of(task)), rng).samples
        assert isinstance(found, ImageSet | TextSet)
        return found

    def public(self, client: str) -> Any:
        """The public part as its model takes it: pictures uint8 (N, H, W, 3) or N texts; None: there is none."""
        if self.scene.public is None or not len(self.scene.public):
            return None
        texts = self.scene.public.texts or self.scene.public.captions
        return self.scene.public.images if self.clients[client] == ClientTask.IMAGE_CLASSIFICATION else texts

    def delta(self) -> float:
        """Of the bound: the largest that any client's budget is stated at, else the usual one of its samples."""
        from fedloom.privacy.accounting import usual_delta
        from fedloom.reporting.budgets import spent_by_client

        told = [v["delta"] for v in spent_by_client(self.run.rounds).values() if v.get("delta")]
        sizes = [len(self.truth(k).trained_on()) for k, task in self.clients.items() if task in SINGLE_MODALITY]
        return max(told) if told else usual_delta(max(sizes, default=2))


Say = Callable[[str], None]
