"""fedloom: clients of different data and models, and a text-to-image server, teach one another.

import fedloom
run = fedloom.run(method="fedmmkt", seed=0)      # a Run: .summary, .metrics, .generator
run = fedloom.load_run("runs/fedmmkt-flora-0")
plan = fedloom.plan(preset="paper/flowers102-glide", on="H200")         # a Plan: .models, .devices, .seconds
fedloom.compare(methods=["standalone", "fedmmkt"], seeds=[0, 1, 2])     # a Comparison: .table(score), .cells, .path
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "compare", "load_run", "plan", "run"]


def __getattr__(name: str) -> Any:
    # Late: importing fedloom must not import torch.
    if name == "run":
        from fedloom.experiment import run

        return run
    if name == "compare":
        from fedloom.comparison import compare

        return compare
    if name == "load_run":
        from fedloom.runs.load import load_run

        return load_run
    if name == "plan":
        from fedloom.planning import plan

        return plan
    raise AttributeError(f"module 'fedloom' has no attribute {name!r}")
