"""`fedloom datasets`: the data sets and the folder each expects."""

from __future__ import annotations

from fedloom.cli.options import JsonOption
from fedloom.cli.screen import grid, show, show_json

COLUMNS = ("data", "summary", "modalities", "classes", "layout", "source")
PAIR_COLUMNS = ("pairs", "summary", "layout", "source")


def datasets(json: JsonOption = False) -> None:
    """List the data sets and the sets of captioned pictures, with the folder each expects.

    Example: fedloom datasets --json
    """
    from fedloom.data.registry import DATASETS, PAIR_SETS

    if json:
        scenes = [
            {"data": d.name, "kind": "scene", "modalities": list(d.modalities), "embedded": not d.layout}
            | {key: getattr(d, key) for key in ("summary", "classes", "layout", "source")}
            for d in DATASETS.values()
        ]
        pairs = [
            {"data": d.name, "kind": "pairs", "modalities": ["pair"], "embedded": False, "classes": None}
            | {key: getattr(d, key) for key in ("summary", "layout", "source")}
            for d in PAIR_SETS.values()
        ]
        show_json(scenes + pairs)
        return
    rows = [
        (d.name, d.summary, ", ".join(d.modalities), d.classes or "any", d.layout or "(embedded)", d.source)
        for d in DATASETS.values()
    ]
    pair_rows = [(d.name, d.summary, d.layout, d.source) for d in PAIR_SETS.values()]
    show(
        grid(COLUMNS, rows, numbers=(3,)),
        "Use one with: fedloom run --data NAME --root FOLDER\n",
        "Sets of captioned pictures, for clients of pairs and as public sets:",
        grid(PAIR_COLUMNS, pair_rows),
        "Use one in the data set mixed (data.options.pair, data.options.public), or as the data of a silo",
    )
