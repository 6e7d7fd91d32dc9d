"""`fedloom datasets`: the data sets and the folder each expects."""

from __future__ import annotations

from fedloom.cli.options import JsonOption, tell_broken
from fedloom.cli.screen import grid, show, show_json

COLUMNS = ("data", "summary", "tasks", "classes", "layout", "source", "licence")
PAIR_COLUMNS = ("pairs", "summary", "layout", "source", "licence")


def datasets(json: JsonOption = False) -> None:
    """List the data sets and the sets of captioned pictures, with the folder each expects.

    Example: fedloom datasets --json
    """
    from fedloom import registry
    from fedloom.data.registry import DATASETS, PAIR_SETS

    tell_broken(registry.DATASETS)
    declared, captioned = DATASETS.values(), PAIR_SETS.values()
    if json:
        keys = ("summary", "classes", "layout", "source", "licence")
        show_json(
            [
                {"data": d.name, "kind": "pairs" if d.captioned else "dataset", "tasks": d.tasks}
                | {"embedded": d.embedded, **{key: getattr(d, key) for key in keys}}
                for d in (*declared, *captioned)
            ]
        )
        return
    rows = [
        (d.name, d.summary, ", ".join(d.tasks), d.classes or "any", d.layout or "(embedded)", d.source, d.licence)
        for d in declared
    ]
    show(
        grid(COLUMNS, rows, numbers=(3,)),
        "Use one with: fedloom run --data NAME --root FOLDER\n",
        "Sets of captioned pictures, for image-text clients and as public sets:",
        grid(PAIR_COLUMNS, [(d.name, d.summary, d.layout, d.source, d.licence) for d in captioned]),
        "Use one in the data set mixed (data.options.pair, data.options.public), or as the data of a silo",
    )
