"""What a round of a method takes, as its server half declares it: for plans, and for what a run loads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from fedloom.federation.base import Federation
from fedloom.metrics.communication import Bytes, round_bytes
from fedloom.tasks import SINGLE_MODALITY


@dataclass(frozen=True)
class Formula:
    """A paper's bytes of a round.

    name: of the method whose formula it is. count: takes image_clients, text_clients, classes C, width D and
    image_bytes (of a synthetic picture; 0: none is sent), all by name.
    """

    name: str
    count: Callable[..., Bytes]


@dataclass(frozen=True)
class Workload:
    """A round. Steps of clients are those of each client, in batches of its own size.

    private_steps: on its own data. shared_steps: on samples that all clients see. answers: forward passes of such
    samples. checked: pictures a class that are drawn and asked about besides, to see whether tuning helped.
    synthetic: samples that the generator draws, in sampling_steps each; None: those it has for what is learned from.
    captions: whether the server reads their captions whatever clients there are. generator_steps, generator_batch: of
    tuning the generator. untouched: whether its weights of before round 1 are kept beside. server_steps: of the
    server's own task models. formula: None where no paper gives one.
    """

    private_steps: int = 0
    shared_steps: int = 0
    answers: int = 0
    checked: int = 0
    synthetic: int = 0
    sampling_steps: int | None = None
    captions: bool = False
    generator_steps: int = 0
    generator_batch: int = 1
    untouched: bool = False
    server_steps: int = 0
    formula: Formula | None = None


def formula(name: str, samples: int, public: int | None = None) -> Formula:
    """One of FedMMKT's appendix E, as `metrics.communication.round_bytes` takes it."""
    return Formula(name, partial(round_bytes, name, samples=samples, public=public))


def paper_bytes(formula: Formula, federation: Federation, context: Any) -> Bytes:
    """The formula's bytes for the clients of a federation; context: the server's."""
    images, texts = (len(federation.clients_of(m)) for m in SINGLE_MODALITY)
    return formula.count(
        image_clients=images,
        text_clients=texts,
        classes=len(context.class_names),
        width=context.width,
        image_bytes=3 * context.generator.size**2 if context.generator is not None else 0,
    )
