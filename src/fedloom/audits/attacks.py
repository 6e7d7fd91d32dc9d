"""An audit: the attacks on one finished run, and what is written down of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from fedloom import __version__
from fedloom.audits.canary_guesses import canary_audit
from fedloom.audits.inversion import reconstruction
from fedloom.audits.labels import label_inference
from fedloom.audits.membership import membership
from fedloom.audits.subject import AuditedRun, Say
from fedloom.config.base import Frozen, Seed
from fedloom.errors import BadInput, unknown
from fedloom.processes import settle_process
from fedloom.reporting.audits import mechanisms
from fedloom.runs import read_run
from fedloom.runs.disk import json_text, write_atomic
from fedloom.tasks import SINGLE_MODALITY, ClientTask

ATTACKS = ("membership", "reconstruction", "labels", "canaries")
FORMAT = 1


class AuditSettings(Frozen):
    """Which attacks, on whom, and how much work."""

    attacks: tuple[str, ...] = ATTACKS
    clients: tuple[str, ...] = Field((), description="by name; none: the first of each task")
    shadows: int = Field(16, ge=0, le=1000, description="shadow clients of the likelihood ratio; 0: by loss alone")
    samples: int = Field(500, ge=10, description="members, and as many others, at most")
    seed: Seed = 0

    @field_validator("attacks")
    @classmethod
    def _known(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for name in given:
            if name not in ATTACKS:
                raise ValueError(f"{name!r}, allowed: {', '.join(ATTACKS)}")
        return given or ATTACKS

    @field_validator("shadows")
    @classmethod
    def _even(cls, given: int) -> int:
        if given % 2 or given == 2:
            raise ValueError("allowed: 0, or an even number from 4 on, as each sample is in half of them")
        return given


def audit(path: Path | str, settings: AuditSettings | None = None, say: Say = lambda line: None) -> dict[str, Any]:
    """Attack the run in folder `path` and write `audit.json` there; what it holds.

    Args:
        say: is told what is being done, a line at a time.

    Raises:
        BadInput: it is no finished run, has kept no messages, or lacks a client that is named.
    """
    settings = settings or AuditSettings()
    run = AuditedRun.open(read_run(path))
    settle_process(run.config.engine.threads)
    clients = _chosen(run, settings.clients)
    labelled = [k for k in clients if run.clients[k] in SINGLE_MODALITY]
    found: dict[str, Any] = {
        "format": FORMAT,
        "version": __version__,
        "settings": settings.model_dump(mode="json"),
        "mechanisms": mechanisms(run.config.model_dump(mode="json")),
        "clients": {k: _attacked(run, k, settings, say) for k in clients},
    }
    if "canaries" in settings.attacks:
        everyone = [k for k, task in run.clients.items() if task in SINGLE_MODALITY]
        found["canaries"] = canary_audit(run, everyone if not settings.clients else labelled, settings.seed, say)
    if not clients:
        found["note"] = f"{run.config.method} has no clients: nothing crosses, so nothing is learned"
    write_atomic(Path(path) / "audit.json", json_text(found))
    return found


def compared(
    paths: Sequence[Path | str], settings: AuditSettings | None = None, say: Say = lambda line: None
) -> list[tuple[str, dict[str, Any]]]:
    """`audit` of each run, by its folder. All are opened before the first is attacked."""
    if len({str(Path(path).resolve()) for path in paths}) < len(paths):
        raise BadInput("the same run is named twice")
    for path in paths:
        AuditedRun.open(read_run(path))
    found = []
    for path in paths:
        say(str(path))
        found.append((str(path), audit(path, settings, say)))
    return found


def _chosen(run: AuditedRun, named: Sequence[str]) -> list[str]:
    """The clients that are attacked: those named, else the first of each task."""
    for client in named:
        if client not in run.clients:
            raise unknown("client", client, run.clients)
    if named:
        return list(dict.fromkeys(named))
    first: dict[ClientTask, str] = {}
    for client, task in run.clients.items():
        first.setdefault(task, client)
    return list(first.values())


def _attacked(run: AuditedRun, client: str, settings: AuditSettings, say: Say) -> Mapping[str, Any]:
    """What each attack on a client found, by its name."""
    task, seed, found = run.clients[client], settings.seed, dict[str, Any]()
    if task not in SINGLE_MODALITY:
        said = f"there are no attacks on clients of {task}; there are on: {', '.join(SINGLE_MODALITY)}"
        return {"task": task, **{name: {"skipped": said} for name in settings.attacks if name != "canaries"}}
    for name in settings.attacks:
        say(f"{client}: {name}")
        if name == "membership":
            found[name] = membership(run, client, settings.shadows, settings.samples, seed, say)
        elif name == "reconstruction":
            found[name] = reconstruction(run, client, seed)
        elif name == "labels":
            found[name] = label_inference(run, client, seed)
    return {"task": task, **found}
