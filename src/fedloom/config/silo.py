"""What an operator sets for a server host and for a silo, as validated types; read from a YAML file or options."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from fedloom.config.archs import allowed, resolved, serves
from fedloom.config.base import Precision
from fedloom.config.bounds import SiloBounds
from fedloom.config.models import Frozen, ModelSettings
from fedloom.tasks import CLIENT_TASKS, ClientTask, Modality

PORT = 9092  # where silos reach the server, unless said otherwise
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def _is_here(server: str) -> bool:
    """Whether HOST:PORT is this machine's loopback."""
    host = server.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class HostSettings(Frozen):
    """The server host: one SuperLink, and the runs submitted to it.

    The folder holds `flower/` (the engine's own files), `runs/` (a folder a run), `jobs/` (what was handed over, and
    its events), `logs/` (the engine's, and one of each job), and `host.json` (address, process ids) while it is up.
    """

    folder: str = Field("fedloom-server", description="the server's own folder")
    host: str = Field("127.0.0.1", description="address it listens on; 0.0.0.0 for all of the machine's")
    port: int = Field(PORT, ge=0, le=65535, description="0: any free one")
    pki: str | None = Field("pki", description="folder made by `fedloom pki init`; null only with insecure")
    insecure: bool = Field(False, description="no TLS and no keys: for a closed test network only")
    database: bool = Field(True, description="keep the engine's state in a file, so that a restart forgets no key")
    clients: dict[str, tuple[str, ...]] = Field(
        {},
        description="silo -> clients that it may bring besides the one of its own name; a key is one client otherwise",
    )

    @field_validator("clients")
    @classmethod
    def _client_names(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name in (name for silo, clients in value.items() for name in (silo, *clients)):
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name[:60]!r}: expected at most 128 letters, digits, '_', '-', '.'")
        return value


class SiloData(Frozen):
    """The silo's own data: a data set's reader, of pairs too, and where it reads. `share` is for demonstrations."""

    name: str = Field("folder", description="see `fedloom datasets`")
    root: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    share: str | None = Field(None, description="INDEX/OF, such as 0/3: one part of the set instead of all of it")

    @field_validator("share")
    @classmethod
    def _share(cls, value: str | None) -> str | None:
        if value is not None:
            found = re.fullmatch(r"(\d+)/(\d+)", value)
            if not found or int(found[1]) >= int(found[2]):
                raise ValueError("expected INDEX/OF with INDEX below OF, such as 0/3")
        return value


class SiloSettings(Frozen):
    """One silo: its name, its server, its data, its model.

    The folder holds `state/` (models and records of every run, written by the resident worker), `logs/`, and
    `silo.json` (process ids, what was last heard of the server).
    """

    name: str = Field(description="letters, digits, '_', '-', '.'; the client's name in every result")
    modality: ClientTask
    model: ModelSettings | None = Field(None, description="null: the run's; of multimodal silos only")
    holds: Modality | None = Field(
        None, description="of multimodal samples the one kind of data to use; null: what is there"
    )
    data: SiloData = SiloData()
    server: str = Field(f"127.0.0.1:{PORT}", description="the server's host:port")
    folder: str = Field("fedloom-silo", description="the silo's own folder")
    kit: str | None = Field("kit", description="folder made by `fedloom pki issue`; null only with insecure")
    insecure: bool = Field(False, description="no TLS and no key: for a closed test network only")
    threads: int = Field(1, ge=1, description="torch threads of the resident worker")
    device: str = Field("cpu", description="where the model's backbone lives, as torch names it")
    precision: Precision = Field("fp32", description="arithmetic of the backbone; weights stay fp32")
    accumulate: int = Field(1, ge=1, description="parts that a batch is computed in: less memory, the same step")
    checkpointing: bool = Field(False, description="compute the backbone's activations twice instead of keeping them")
    private_errors: bool = Field(
        True, description="tell the server only the kind of an error; its text stays in the silo's log"
    )
    keep: int = Field(3, ge=2, description="rounds whose state is kept, to go back when the server does")
    bounds: SiloBounds = Field(SiloBounds(), description="what the server may have of this silo")
    engine: Literal["flower"] = "flower"

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("expected at most 128 letters, digits, '_', '-', '.'")
        return value

    @field_validator("server")
    @classmethod
    def _server(cls, value: str) -> str:
        found = re.fullmatch(r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})", value)
        if not found or int(found[1]) > 65535:
            raise ValueError("expected HOST:PORT, such as fed.example.org:9092")
        return value

    @model_validator(mode="before")
    @classmethod
    def _auto(cls, written: Any) -> Any:
        if not isinstance(written, dict) or "model" not in written or written.get("modality") not in CLIENT_TASKS:
            return written
        return {**written, "model": resolved(written["model"], written["modality"])}

    @model_validator(mode="after")
    def _allowed_methods(self) -> SiloSettings:
        if self.bounds.methods is None and not _is_here(self.server):
            raise ValueError(
                f"bounds.methods: needed where the server is another machine ({self.server}): the methods that this "
                "silo takes part in, such as [fedmmkt]"
            )
        return self

    @model_validator(mode="after")
    def _arch(self) -> SiloSettings:
        if self.holds is not None and self.modality != ClientTask.MULTIMODAL_CLASSIFICATION:
            raise ValueError(f"holds = {self.holds!r} is for modality 'joint', not {self.modality!r}")
        if self.model is None:
            if self.modality != ClientTask.MULTIMODAL_CLASSIFICATION:
                raise ValueError(f"model: needed, allowed for arch: {allowed(self.modality)}")
        elif not serves(self.model.arch, self.modality):
            raise ValueError(f"{self.model.arch!r} is no {self.modality} model, allowed: {allowed(self.modality)}")
        return self
