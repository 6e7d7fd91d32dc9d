"""`fedloom methods`: what there is, with paper and what crosses the wire."""

from __future__ import annotations

from fedloom.cli.options import JsonOption, tell_broken
from fedloom.cli.screen import grid, show, show_json

COLUMNS = ("method", "summary", "paper", "modalities", "down", "up")


def methods(json: JsonOption = False) -> None:
    """List the methods, with paper and what crosses the wire.

    Example: fedloom methods --json
    """
    from fedloom.registry import METHODS

    tell_broken(METHODS)
    rows = [
        (name, *(getattr(entry, c) for c in COLUMNS[1:]))
        for name, entry in ((name, METHODS.about(name)) for name in METHODS.usable())
    ]
    if json:
        show_json([dict(zip(COLUMNS, row)) for row in rows])
    else:
        show(grid(COLUMNS, rows), "Run one with: fedloom run --method NAME")
