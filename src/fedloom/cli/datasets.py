"""`fedloom datasets`: the data sets and the folder each expects."""

from __future__ import annotations

from fedloom.cli.options import JsonOption
from fedloom.cli.screen import grid, show, show_json

COLUMNS = ("data", "summary", "modalities", "classes", "layout", "source")


def datasets(json: JsonOption = False) -> None:
    """List the data sets, with the folder each expects.

    Example: fedloom datasets --json
    """
    from fedloom.data.registry import DATASETS

    if json:
        show_json(
            [
                {"data": d.name, "modalities": list(d.modalities), "embedded": not d.layout}
                | {key: getattr(d, key) for key in ("summary", "classes", "layout", "source")}
                for d in DATASETS.values()
            ]
        )
        return
    rows = [
        (d.name, d.summary, ", ".join(d.modalities), d.classes or "any", d.layout or "(embedded)", d.source)
        for d in DATASETS.values()
    ]
    show(grid(COLUMNS, rows, numbers=(3,)), "Use one with: fedloom run --data NAME --root FOLDER")
