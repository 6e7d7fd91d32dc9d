"""One row a finished run, in `benchmarks/results/STUDY.csv`: appended whole, read back, told apart.

A row's key is study, arm, settings, seed and machine. Where a key is there twice, the later row counts. Rows of
machines that compute other figures stay beside one another: no difference is ever between two of them.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fedloom.errors import BadInput
from fedloom.runs.disk import append_line, locked, read_regular, write_atomic

RESULTS = Path(__file__).resolve().parents[1] / "results"
Row = Mapping[str, str]

AT = " @ "  # ARM @ the cell of a grid
FIRST = ("study", "arm", "seed", "settings")
LABELS = ("prompt_accuracy", "voted_accuracy", "kept_accuracy", "dropped_accuracy", "kept_share")
COSTS = ("bytes_up", "bytes_down", "seconds", "setup_seconds", "cpu_seconds")  # bytes: mean of a round
VERSIONS = ("fedloom", "torch", "numpy", "transformers", "diffusers", "python")
MACHINE = ("processor", "simd", "torch")  # what figures depend on to the last bit
LAST = ("curve", "commit", *VERSIONS, "processor", "simd", "cores", "date")


def columns(scores: Sequence[str]) -> list[str]:
    """Those of a study's file: a score after the last round under its name, before the first as NAME_before."""
    ends = [name for score in scores for name in (f"{score}_before", score)]
    labels = [f"{label}_{when}" for label in LABELS for when in ("round1", "mean")]
    return [*FIRST, *ends, *labels, *COSTS, *LAST]


def file_of(study: str, folder: Path | None = None) -> Path:
    """Where the rows of a study lie."""
    return (folder or RESULTS) / f"{study}.csv"


def read(path: Path) -> list[dict[str, str]]:
    """All rows of a file, none where there is no file. A last line that a crash cut short is left out.

    Raises:
        BadInput: it is no such file.
    """
    text = (read_regular(path) or b"").decode()
    found = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1])))
    if not found:
        return []
    head, *lines = found
    if missing := [name for name in FIRST if name not in head]:
        raise BadInput(f"{path}: no column {missing[0]!r}: this is no file of kept rows")
    for number, line in enumerate(lines, 2):
        if len(line) != len(head):
            raise BadInput(f"{path}, line {number}: {len(line)} fields, expected {len(head)}")
    return [dict(zip(head, line)) for line in lines]


def append(path: Path, row: Row) -> None:
    """Adds a row, whole or not at all, on disk when this returns; several processes may.

    Columns that the file has not are added to it, empty in the rows before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f".{path.stem}.lock")):
        there = read(path)
        text = (read_regular(path) or b"").decode()
        head = next(csv.reader(io.StringIO(text)), []) if "\n" in text else []
        new = [name for name in row if name not in head]
        if new:
            head = _ordered(head, list(row))
            write_atomic(path, "".join(map(_line, [head, *([r.get(k, "") for k in head] for r in there)])))
        append_line(path, _line([row.get(k, "") for k in head])[:-1])


def _line(fields: Iterable[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow([" ".join(str(f).split()) for f in fields])
    return buffer.getvalue()


def _ordered(head: Sequence[str], names: Sequence[str]) -> list[str]:
    """The columns of a row in its order, then those that only the file has."""
    return [*names, *(name for name in head if name not in names)]


def machine_of(row: Row) -> tuple[str, ...]:
    """What figures depend on besides code, settings and seed: processor, SIMD capability, torch."""
    return tuple(row.get(name, "") for name in MACHINE)


def machine_text(machine: Sequence[str]) -> str:
    """`Intel(R) Xeon(R) Processor, AVX512, torch 2.13.0`."""
    processor, simd, torch = machine
    return f"{processor}, {simd}, torch {torch}"


def key_of(row: Row) -> tuple[str, ...]:
    """What no two rows that count have in common."""
    return (*(row[name] for name in FIRST), *machine_of(row))


def latest(found: Iterable[Row]) -> list[Row]:
    """The rows that count: of each key the last."""
    return list({key_of(row): row for row in found}.values())


def chosen(found: Iterable[Row], main: str = "") -> list[Row]:
    """The rows that tables are made of. A seed's are all of one machine (in a grid a seed's of a cell, `ARM @ CELL`),
    so that no difference is between machines: that with the main arm there, then with most arms there, then with most
    rows in all, then the first in the file."""
    there = list(found)
    total = Counter(map(machine_of, there))
    arms: dict[tuple[str, str], dict[tuple[str, ...], set[str]]] = {}
    for row in there:
        machines = arms.setdefault(block_of(row), {})
        machines.setdefault(machine_of(row), set()).add(row["arm"].partition(AT)[0])
    best = {
        block: max(machines, key=lambda m: (main in machines[m], len(machines[m]), total[m]))
        for block, machines in arms.items()
    }
    return [row for row in there if machine_of(row) == best[block_of(row)]]


def block_of(row: Row) -> tuple[str, str]:
    """The cell of a grid ('' without one) and the seed: what is compared within one machine."""
    return row["arm"].partition(AT)[2], row["seed"]


def by_machine(found: Iterable[Row]) -> dict[tuple[str, ...], int]:
    """How many rows each machine has, most first."""
    return dict(Counter(map(machine_of, found)).most_common())


def number(row: Row, name: str) -> float | None:
    """A figure of a row; None where it has none."""
    text = row.get(name, "")
    return float(text) if text and math.isfinite(float(text)) else None


def text_of(value: float | int | None) -> str:
    """A figure as it is kept: eight significant digits; '' for none."""
    return "" if value is None else f"{value:.8g}"
