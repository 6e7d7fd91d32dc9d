"""fedloom: clients of different data and models, and a text-to-image server, teach one another.

import fedloom
run = fedloom.run(method="fedmmkt", seed=0)      # a Run: .summary, .metrics, .generator
run = fedloom.resume("runs/fedmmkt-flora-0")     # go on with one that was interrupted
run = fedloom.load_run("runs/fedmmkt-flora-0")
plan = fedloom.plan(preset="paper/flowers102-glide", on="H200")         # a Plan: .models, .devices, .seconds
fedloom.compare(methods=["standalone", "fedmmkt"], seeds=[0, 1, 2])     # a Comparison: .table(score), .cells, .path
fedloom.register_method(METHOD)                  # and register_dataset, _client_model, _metric, _tracker, _engine
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
__all__ = [
    "__version__",
    "compare",
    "load_run",
    "plan",
    "register_client_model",
    "register_dataset",
    "register_engine",
    "register_method",
    "register_metric",
    "register_tracker",
    "resume",
    "run",
]

if TYPE_CHECKING:  # for editors and type checkers, which do not run what is below
    from fedloom.api import resume, run
    from fedloom.comparison import compare
    from fedloom.planning import plan
    from fedloom.registry import (
        register_client_model,
        register_dataset,
        register_engine,
        register_method,
        register_metric,
        register_tracker,
    )
    from fedloom.results import load_run

# Late: importing fedloom must not import torch.
_LATE = {
    "compare": "fedloom.comparison",
    "load_run": "fedloom.results",
    "plan": "fedloom.planning",
    **dict.fromkeys((name for name in __all__ if name.startswith("register_")), "fedloom.registry"),
    "resume": "fedloom.api",
    "run": "fedloom.api",
}
_MODULES = ("comparison", "config", "errors", "methods", "progress", "report")  # that the guides name


if not TYPE_CHECKING:  # else every misspelt name would have a type

    def __getattr__(name: str) -> Any:
        if name in _LATE:
            return getattr(import_module(_LATE[name]), name)
        if name in _MODULES:
            return import_module(f"fedloom.{name}")
        raise AttributeError(f"module 'fedloom' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What people call, and the modules that are there."""
    there = {n for n, v in globals().items() if n.startswith("__") or isinstance(v, ModuleType)}
    return sorted(there | set(__all__))
