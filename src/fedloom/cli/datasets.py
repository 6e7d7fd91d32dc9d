"""`fedloom datasets`: the data sets and the folder each expects."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, get_type_hints

import typer

from fedloom.cli.options import JsonOption, tell_broken
from fedloom.cli.screen import grid, show, show_json
from fedloom.cli.settings import Row, allowed_values, setting_table

if TYPE_CHECKING:
    from fedloom.data.registry import Dataset

COLUMNS = ("data", "summary", "tasks", "classes", "layout", "source", "licence")
PAIR_COLUMNS = ("pairs", "summary", "layout", "source", "licence")
OPTION = ("option", "default", "allowed", "description")
NameArgument = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="A data set, to show with its options (default: list all).")
]


def datasets(name: NameArgument = None, json: JsonOption = False) -> None:
    """List the data sets and the sets of captioned pictures, with the folder each expects.

    With a NAME, show that data set's options, each with its default, what is allowed, and what it does.

    Example: fedloom datasets flora
    """
    from fedloom import registry
    from fedloom.data.registry import DATASETS, PAIR_SETS

    if name is not None:
        return _one(registry.DATASETS.find(name), json)
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
        "Use one with: fedloom run --data NAME --root FOLDER",
        "Show the options of one with: fedloom datasets NAME\n",
        "Sets of captioned pictures, for image-text clients and as public sets:",
        grid(PAIR_COLUMNS, [(d.name, d.summary, d.layout, d.source, d.licence) for d in captioned]),
        "Use one in the data set mixed (data.options.pair, data.options.public), or as the data of a silo",
    )


def _one(declared: Dataset, json: bool) -> None:
    """What is known of a data set, and its options."""
    about = {
        "tasks": ", ".join(declared.tasks),
        "classes": declared.classes or "any",
        "layout": declared.layout or "(embedded)",
        "source": declared.source,
        "licence": declared.licence,
    }
    rows = _options(declared)
    if json:
        options = [dict(zip(OPTION, row)) for row in rows]
        return show_json({"data": declared.name, "summary": declared.summary, **about, "options": options})
    show(f"{declared.name}: {declared.summary}", *(f"{key}: {text}" for key, text in about.items() if text))
    if not rows:
        return show(f"{declared.name} has no options.")
    use = f"--data {declared.name} " + ("" if declared.embedded else "--root FOLDER ")
    show(setting_table(rows, OPTION), f"Set one with: fedloom run {use}--set data.options.{rows[0][0]}=VALUE")


def _options(declared: Dataset) -> list[Row]:
    from fedloom.data.options import described

    hints, said = get_type_hints(declared.load), described(declared.load)
    parameters = inspect.signature(declared.load).parameters
    return [
        (key, None if p.default is p.empty else p.default, allowed_values(hints.get(key, str)), said.get(key, ""))
        for key, p in parameters.items()
        if key != "root"
    ]
