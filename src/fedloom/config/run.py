"""The whole configuration of a run as validated types."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    Field,
    field_validator,
    model_validator,
)

from fedloom.config.base import Seed
from fedloom.config.clients import ClientsSettings
from fedloom.config.data import DataSettings
from fedloom.config.models import ClipSettings, Frozen, JudgeSettings
from fedloom.config.participation import ParticipationSettings
from fedloom.config.server import ServerSettings
from fedloom.config.topology import TopologySettings
from fedloom.errors import BadInput, nearest
from fedloom.registry import ENGINES, METHODS, METRICS
from fedloom.tasks import SINGLE_MODALITY

LARGEST_MESSAGE = 16_000_000_000  # bytes


class GateSettings(Frozen):
    """How often each must be right before round 1; null: it need not be."""

    judge: float | None = Field(None, gt=0, le=1, description="the judge, on real test pictures")
    generator: float | None = Field(None, gt=0, le=1, description="the generator, by the judge")
    captions: float | None = Field(
        None,
        gt=0,
        le=1,
        description="captions of real test pictures, by a classifier of the clients' texts",
    )


class EvaluationSettings(Frozen):
    """How a run is scored."""

    judge: JudgeSettings = JudgeSettings()
    clip: ClipSettings | None = Field(
        None,
        exclude_if=lambda clip: clip is None,
        description="the CLIP that scores, which learns true names from pictures that no model of the server sees; "
        "null: of the sizes, or of the pretrained weights, of server.clip",
    )
    fold: int | None = Field(
        None,
        ge=2,
        description="pictures of a fold, where retrieval is also scored on folds (COCO's 1K: 1000)",
    )
    every: int = Field(1, ge=1, description="score every so many rounds; first and last are always scored")
    probe: bool = Field(
        True,
        description="linear probes on the model that multimodal clients share: a pass over all training samples "
        "each time",
    )
    prompts_per_class: int = Field(12, ge=1, description="pictures a class for T2I accuracy, CLIP score, FID and IS")
    grid: int = Field(4, ge=1, description="pictures a class in the sample grids")
    features: str | None = Field(
        None,
        description="network of FID and Inception score: file of FID's Inception-v3, or folder or hub name of an image "
        "model; null: the judge",
    )
    generic: int = Field(
        0,
        ge=0,
        description="pictures of generic captions, to see what the generator forgets; 0: none, else >= 2",
    )
    gates: GateSettings | None = Field(
        None,
        exclude_if=lambda gates: gates is None,
        description="what a run asks of the server's models before its first round; null: nothing",
    )
    ungated: bool = Field(
        False, exclude_if=lambda ungated: not ungated, description="go on where a gate is missed, and say so"
    )
    metrics: tuple[str, ...] = Field(
        (),
        exclude_if=lambda names: not names,
        description="metrics of your own, by name or as package.module:NAME",
    )

    @field_validator("metrics")
    @classmethod
    def _known(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(METRICS.canonical, given))


class EngineSettings(Frozen):
    """What carries the messages."""

    name: str = "local"
    workers: int = Field(0, ge=0, description="local: 0: clients live in this process; n: pinned to n worker processes")
    resident: int | None = Field(
        None,
        ge=1,
        exclude_if=lambda resident: resident is None,
        description="local: clients that each process holds in memory at most, the others wait on disk; null: all",
    )
    threads: int = Field(
        1, ge=1, le=1024, description="torch threads of each process; results are defined for one value"
    )
    timeout: float | None = Field(None, gt=0, description="seconds to wait for a reply")
    quorum: int | None = Field(None, ge=1, description="go on as soon as so many clients have answered")
    mode: Literal["loopback", "simulation", "deployment"] = Field(
        "loopback",
        description="flower: a whole federation on this machine, Flower's simulation, or silos that have joined",
    )
    silos: int | None = Field(
        None,
        ge=1,
        description="flower: silos to start, default one a client; in a deployment, silos to wait for, default 1",
    )
    patience: float = Field(
        1800.0, gt=0, description="flower: seconds a silo has to connect, to join, to go back to a round"
    )
    largest_message: int = Field(
        LARGEST_MESSAGE,
        ge=10_000,
        exclude_if=lambda largest: largest == LARGEST_MESSAGE,
        description="bytes of one message; a larger one is refused unread",
    )
    keep_messages: bool = Field(
        False,
        exclude_if=lambda keep: not keep,
        description="keep all that crosses in the run's folder, as `fedloom audit` needs it: as many bytes as cross, "
        "what goes to several clients once",
    )
    cpus: float = Field(1.0, gt=0, description="simulation: processors of a client")
    gpus: float = Field(0.0, ge=0, description="simulation: share of a GPU of a client")
    address: str | None = Field(None, description="simulation: a Ray cluster's address; null starts one here")

    @field_validator("name")
    @classmethod
    def _known(cls, given: str) -> str:
        if not ENGINES.has(given):
            allowed = ENGINES.names()
            words = " or ".join(filter(None, [", ".join(map(repr, allowed[:-1])), repr(allowed[-1])]))
            hint = nearest(given, allowed)
            raise ValueError(f"allowed: {words}" + (f".{hint}" if hint else ""))
        return ENGINES.canonical(given)


class CheckpointSettings(Frozen):
    """What a killed run goes on from. At real size a checkpoint is gigabytes: see `fedloom run --plan`."""

    every: int = Field(1, ge=1, description="rounds between two checkpoints; the last round always leaves one")
    keep: int = Field(2, ge=1, description="checkpoints that stay on disk")


class Config(Frozen):
    """A run."""

    method: str = "fedmmkt"
    seed: Seed = 0
    rounds: int = Field(4, ge=0, lt=2**31)
    data: DataSettings = DataSettings()
    clients: ClientsSettings = ClientsSettings()
    server: ServerSettings = ServerSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    engine: EngineSettings = EngineSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()
    participation: ParticipationSettings | None = Field(
        None,
        exclude_if=lambda participation: participation is None,
        description="who takes part in which round; null: everybody in all of them",
    )
    topology: TopologySettings | None = Field(
        None,
        exclude_if=lambda topology: topology is None,
        description="the graph that messages go along; null: a star around a server",
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="the method's own settings")

    @field_validator("method", mode="before")
    @classmethod
    def _method(cls, given: Any) -> Any:
        return METHODS.lenient(given) if isinstance(given, str) else given

    @property
    def public_steps(self) -> int:
        """Steps of the public backbones: those that all start from, or those of the server's own models alone."""
        return self.clients.public_steps or self.server.public_steps

    @model_validator(mode="after")
    def _checkpoints(self) -> Config:
        if self.engine.name == "flower" and self.checkpoints.every > 1:
            raise ValueError(
                f"checkpoints.every = {self.checkpoints.every}: silos go back a few rounds only, allowed with "
                "engine.name = flower: 1"
            )
        return self

    @model_validator(mode="after")
    def _installed(self) -> Config:
        if self.engine.name == "flower" and self.engine.mode == "deployment" and METHODS.has(self.method):
            try:
                METHODS.check_installed(self.method)
            except BadInput as error:
                raise ValueError(f"method = {self.method!r}: {error}") from None
        return self

    @model_validator(mode="after")
    def _server(self) -> Config:
        if self.server.public_steps and self.clients.public_steps:
            raise ValueError(
                f"server.public_steps = {self.server.public_steps} is for clients that start from random weights; "
                f"allowed with it: clients.public_steps = 0, not {self.clients.public_steps}"
            )
        if self.server.public_steps and not (self.server.image and self.server.text):
            raise ValueError(
                f"server.public_steps = {self.server.public_steps} needs both server.image and server.text: models "
                "like the clients' start as the clients do"
            )
        for modality in SINGLE_MODALITY:
            own = getattr(self.server, modality)
            if own is not None and own.width != self.clients.width:
                raise ValueError(f"server.{modality}.width = {own.width}, allowed: {self.clients.width}, the clients'")
        return self
