"""What the report on a run says of bytes, time, missing answers, and how to run it again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

from fedloom.config.yaml_core import dump
from fedloom.formatting import byte_text
from fedloom.reporting.ledger import DIRECTIONS, flows, total
from fedloom.reporting.pages import Table, drawn
from fedloom.reporting.plots import bytes_plot
from fedloom.reporting.scores import number, series
from fedloom.runs import RunFiles
from fedloom.runs.folder import flatten

FILES = (  # of a run, that a reader of its report may want
    *("metrics.jsonl", "summary.json", "ledger.jsonl", "split.json", "config.yaml", "environment.json", "log.txt"),
    *("audit.json", "samples/", "export/", "checkpoints/", "messages/"),
)


def wire(run: RunFiles) -> dict[str, Any]:
    """Bytes a round, against the paper's formula, and by field."""
    active = [row for row in run.rounds if row.get("bytes_up") or row.get("bytes_down")]
    rows = []
    for key, name in (("up", "Up, from all clients"), ("down", "Down, to all clients")) if active else ():
        measured, formula = series(active, f"bytes_{key}")[1], series(active, f"formula_{key}")[1]
        average = sum(measured) / len(measured) if measured else None
        expected = sum(formula) / len(formula) if formula else None
        ratio = f"{average / expected:.3f}" if average is not None and expected else "–"
        rows.append((name, byte_text(sum(measured)), byte_text(average), byte_text(expected), ratio))
    names = ("Direction", "All rounds", "Mean a round", "Paper's formula", "Measured / formula")
    return {
        "plot": drawn(partial(bytes_plot, active), "bytes in each round") if active else None,
        "totals": Table(names, rows, numbers=(1, 2, 3, 4)),
        "fields": _fields(run) if run.ledger else None,
        "up": byte_text(total(run.ledger, "up")),
        "down": byte_text(total(run.ledger, "down")),
    }


def _fields(run: RunFiles) -> Table:
    """The ledger by field, all clients together."""
    found = flows(run.ledger, by_client=False)
    whole: dict[str, int] = {}
    for f in found:
        whole[f.direction] = whole.get(f.direction, 0) + f.bytes * f.counted
    rows = []
    for f in found:
        way = DIRECTIONS.get(f.direction, f.direction)
        share = f"{f.bytes / max(1, whole[f.direction]):.1%}" if f.counted else "not counted"
        rows.append((way, f.verb, f.message, f.name, f.dtype, f.shape, f.messages, byte_text(f.bytes), share))
    names = ("Direction", "Verb", "Message", "Field", "Type", "Shape", "Messages", "Bytes", "Share")
    return Table(names, rows, numbers=(6, 7, 8), dim=[i for i, f in enumerate(found) if not f.counted])


def phases(run: RunFiles) -> dict[str, float]:
    """Seconds by phase over the whole run: from the summary, else added up over the rounds."""
    found: dict[str, float] = {}
    known = run.summary.get("seconds")
    for source in [known] if isinstance(known, Mapping) else [row.get("seconds") or {} for row in run.rounds]:
        for phase, value in source.items():
            if phase != "total" and (seconds := number(value)) is not None:
                found[str(phase)] = found.get(str(phase), 0.0) + seconds
    return found


def time(run: RunFiles) -> dict[str, Any] | None:
    """Seconds by phase, and peak memory."""
    found = phases(run)
    if not any(found.values()):
        return None
    memory = number(run.summary.get("peak_memory_bytes"))
    note = f"Peak memory {byte_text(memory)}." if memory is not None else ""
    devices = run.summary.get("peak_device_bytes")
    for name, peak in devices.items() if isinstance(devices, Mapping) else ():
        if (most := number(peak)) is not None:
            note += f" {name}: {byte_text(most)}."
    return {
        "phases": list(found.items()),
        "total": sum(found.values()),
        "longest": max(found.values()),
        "memory": note,
    }


def missing(run: RunFiles) -> Table:
    """Which clients did not answer, when and why."""
    rows = [
        (row.get("round", ""), *(item.get(k, "") for k in ("client", "verb", "error", "detail")))
        for row in run.rounds
        for item in row.get("missing") or ()
        if isinstance(item, Mapping)
    ]
    return Table(("Round", "Client", "Verb", "Error", "Detail"), rows)


def origin(run: RunFiles, base: str = "") -> dict[str, Any]:
    """How to run it again: command, configuration, environment; where its files are, from the page at `base`."""
    environment = [(k, v) for k, v in flatten(run.environment).items() if k != "command"]
    return {
        "command": f"fedloom run --config {shlex.quote(str(run.path / 'config.yaml'))}",
        "ran": run.environment.get("command"),
        "config": dump(run.config),
        "files": [(name, quote(f"{base}{name}")) for name in FILES if (run.path / name.rstrip("/")).exists()],
        "environment": Table(("Fact", "Value"), environment),
    }
