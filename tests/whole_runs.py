"""What tests of whole runs share: what two runs must have in common, and the smallest configuration."""

from __future__ import annotations

from typing import Any

import numpy as np
from safetensors.numpy import load_file

from fedloom.config import load_config
from fedloom.results import Run

ROUNDS = 3  # of the run that the others are compared with


def rows_of(run: Run) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl without what a clock says."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in run.rounds]


def weights_of(run: Run, *parts: str) -> dict[str, np.ndarray[Any, Any]]:
    """Every array in the safetensors files below those parts of the run folder, by file and name."""
    found = {}
    for part in parts:
        for file in sorted((run.path / part).rglob("*.safetensors")):
            for name, array in load_file(file).items():
                found[f"{file.relative_to(run.path)}:{name}"] = array
    assert found
    return found


def last(run: Run) -> str:
    return f"checkpoints/round_{run.config['rounds']:04d}"


def assert_equal(one: Run, two: Run) -> None:
    """The same rows, the same last checkpoint and the same exports, to the bit."""
    assert rows_of(one) == rows_of(two)
    a, b = (weights_of(run, last(run), "export") for run in (one, two))
    assert a.keys() == b.keys()
    assert [k for k in a if not np.array_equal(a[k], b[k])] == []
    pictures = [{p.name: p.read_bytes() for p in (run.path / "samples").iterdir()} for run in (one, two)]
    assert pictures[0] == pictures[1]


def smallest(**changes: Any) -> dict[str, Any]:
    """The tree of the preset `smoke`, with whole parts replaced."""
    tree = load_config(preset="smoke").model_dump(mode="json", exclude={"settings", "engine", "checkpoints"})
    tree["clients"] |= changes.pop("clients", {})
    return {**tree, **changes}
