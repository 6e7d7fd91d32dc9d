"""The parts of the report that account for a run: bytes, time, who was missing, and how to run it again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import partial

from fedloom.config.yaml_core import dump
from fedloom.reporting.ledger import DIRECTIONS, flows, total
from fedloom.reporting.markup import Markup, drawn, esc, join, section, table
from fedloom.reporting.pictures import bytes_plot
from fedloom.reporting.scores import byte_text, number, second_text, series
from fedloom.runs import RunFiles
from fedloom.runs.folder import flatten


def wire(run: RunFiles) -> Markup:
    """Bytes a round, against the paper's formula, and by field."""
    active = [row for row in run.rounds if row.get("bytes_up") or row.get("bytes_down")]
    parts: list[Markup] = []
    if active:
        parts.append(drawn(partial(bytes_plot, active), "bytes in each round"))
        rows = []
        for key, name in (("up", "Up, from all clients"), ("down", "Down, to all clients")):
            measured, formula = series(active, f"bytes_{key}")[1], series(active, f"formula_{key}")[1]
            average = sum(measured) / len(measured) if measured else None
            expected = sum(formula) / len(formula) if formula else None
            ratio = f"{average / expected:.3f}" if average is not None and expected else "–"
            rows.append((name, byte_text(sum(measured)), byte_text(average), byte_text(expected), ratio))
        names = ("Direction", "All rounds", "Mean a round", "Paper's formula", "Measured / formula")
        parts.append(table(names, rows, numbers=(1, 2, 3, 4)))
    parts.append(_fields(run))
    return section("What crossed the wire", "Bytes as encoded, from the ledger of every message.", *parts)


def _fields(run: RunFiles) -> Markup:
    """The ledger by field, all clients together."""
    found = flows(run.ledger, by_client=False)
    if not found:
        return Markup("")
    whole: dict[str, int] = {}
    for f in found:
        whole[f.direction] = whole.get(f.direction, 0) + f.bytes * f.counted
    rows = []
    for f in found:
        way = DIRECTIONS.get(f.direction, f.direction)
        share = f"{f.bytes / max(1, whole[f.direction]):.1%}" if f.counted else "not counted"
        rows.append((way, f.verb, f.message, f.name, f.dtype, f.shape, f.messages, byte_text(f.bytes), share))
    names = ("Direction", "Verb", "Message", "Field", "Type", "Shape", "Messages", "Bytes", "Share")
    dim = [i for i, f in enumerate(found) if not f.counted]
    up, down = byte_text(total(run.ledger, "up")), byte_text(total(run.ledger, "down"))
    return join(
        [
            Markup("<h3>By field</h3>"),
            table(names, rows, numbers=(6, 7, 8), dim=dim),
            Markup(f'<p class="note">In all {up} left the sites and {down} came to them.</p>'),
        ]
    )


def phases(run: RunFiles) -> dict[str, float]:
    """Seconds by phase over the whole run: from the summary, else added up over the rounds."""
    found: dict[str, float] = {}
    given = run.summary.get("seconds")
    for source in [given] if isinstance(given, Mapping) else [row.get("seconds") or {} for row in run.rounds]:
        for phase, value in source.items():
            if phase != "total" and (seconds := number(value)) is not None:
                found[str(phase)] = found.get(str(phase), 0.0) + seconds
    return found


def time(run: RunFiles) -> Markup:
    """Seconds by phase, and peak memory."""
    found = phases(run)
    whole, longest = sum(found.values()), max(found.values(), default=0.0)
    if not whole:
        return Markup("")
    rows: list[tuple[object, ...]] = []
    for phase, seconds in found.items():
        bar = Markup(f'<span class="bar" style="width:{260 * seconds / longest:.0f}px"></span>')
        rows.append((phase, second_text(seconds), f"{seconds / whole:.0%}", bar))
    rows.append((Markup("<b>all</b>"), Markup(f"<b>{second_text(whole)}</b>"), "", ""))
    memory = number(run.summary.get("peak_memory_bytes"))
    note = f"Peak memory {byte_text(memory)}." if memory is not None else ""
    devices = run.summary.get("peak_device_bytes")
    for name, peak in devices.items() if isinstance(devices, Mapping) else ():
        if (most := number(peak)) is not None:
            note += f" {name}: {byte_text(most)}."
    return section("Time", note, table(("Phase", "Time", "Share", ""), rows, numbers=(1, 2)))


def missing(run: RunFiles) -> Markup:
    """Who did not answer, when and why."""
    rows = [
        (row.get("round", ""), *(item.get(k, "") for k in ("client", "verb", "error", "detail")))
        for row in run.rounds
        for item in row.get("missing") or ()
        if isinstance(item, Mapping)
    ]
    if not rows:
        nobody = Markup("<p>Nobody: every client answered in every round.</p>")
        return section("Who was missing", "", nobody if run.rounds else "")
    note = "The round went on without these answers."
    return section("Who was missing", note, table(("Round", "Client", "Verb", "Error", "Detail"), rows))


def origin(run: RunFiles) -> Markup:
    """How to run it again: command, configuration, environment."""
    command = f"fedloom run --config {shlex.quote(str(run.path / 'config.yaml'))}"
    ran = run.environment.get("command")
    config = dump(run.config)
    environment = [(k, v) for k, v in flatten(run.environment).items() if k != "command"]
    parts = [
        Markup(f"<pre>{esc(command)}</pre>"),
        Markup(f'<p class="note">It was started as <code>{esc(ran)}</code>.</p>') if ran else "",
        Markup(f"<details><summary>Configuration</summary><pre>{esc(config)}</pre></details>"),
        Markup(f"<details><summary>Environment</summary>{table(('Fact', 'Value'), environment)}</details>"),
    ]
    return section("Run it again", "The configuration holds every resolved value, the seed included.", *parts)
