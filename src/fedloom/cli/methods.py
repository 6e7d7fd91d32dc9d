"""`fedloom methods`: what there is, with paper and what crosses the wire; of one method, its settings."""

from __future__ import annotations

from typing import Annotated

import typer

from fedloom.cli.options import JsonOption, tell_broken
from fedloom.cli.screen import grid, show, show_json
from fedloom.cli.settings import SETTING, field_rows, setting_table

COLUMNS = ("method", "summary", "paper", "modalities", "down", "up")
NameArgument = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="A method, to show with its settings (default: list all).")
]


WireOption = Annotated[bool, typer.Option("--wire", help="Show, as Markdown, each field that may leave a client.")]


def methods(name: NameArgument = None, json: JsonOption = False, wire: WireOption = False) -> None:
    """List the methods, with paper and what crosses the wire.

    With a NAME, show that method's settings, each with its default, what is allowed, and what it does.

    Example: fedloom methods fedmmkt
    """
    from fedloom.registry import METHODS

    if wire:
        return _wire(name, json)
    if name is not None:
        return _one(METHODS.canonical(name), json)
    tell_broken(METHODS)
    rows = [
        (name, *(getattr(entry, c) for c in COLUMNS[1:]))
        for name, entry in ((name, METHODS.about(name)) for name in METHODS.usable())
    ]
    if json:
        show_json([dict(zip(COLUMNS, row)) for row in rows])
    else:
        show(
            grid(COLUMNS, rows),
            "Run one with: fedloom run --method NAME",
            "Show the settings of one with: fedloom methods NAME",
        )


def _wire(name: str | None, json: bool) -> None:
    """What may leave a client, of one method or of all that are built in."""
    from fedloom.methods.leaving import leaving, page, securely, table
    from fedloom.registry import METHODS

    names = list(METHODS.builtin()) if name is None else [METHODS.canonical(name)]
    if json:
        rows = {n: leaving(n) for n in names}
        rows |= {f"{n}, settings.secure=true": secure for n in names if (secure := securely(n))}
        show_json({n: [row._asdict() for row in found] for n, found in rows.items()})
    elif name is None:
        typer.echo(page(names), nl=False)
    else:
        secure = securely(names[0])
        more = ("With settings.secure=true, in place of that:", table(secure)) if secure else ()
        typer.echo("\n\n".join((table(leaving(names[0])), *more)))


def _one(name: str, json: bool) -> None:
    """What is known of a method, and its settings."""
    from fedloom.methods.base import load_method
    from fedloom.registry import METHODS

    method, fixed = load_method(name)
    about = {key: getattr(METHODS.about(name), key) for key in COLUMNS[1:]}
    rows = field_rows(method.settings, fixed)
    if json:
        settings = [dict(zip(SETTING, row)) for row in rows]
        return show_json({"method": name, **about, "settings": settings})
    show(f"{name}: {about['summary']}", *(f"{key}: {text}" for key, text in about.items() if text and key != "summary"))
    if not rows:
        return show(f"{name} has no settings.")
    show(setting_table(rows), f"Set one with: fedloom run --method {name} --set settings.{rows[0][0]}=VALUE")
