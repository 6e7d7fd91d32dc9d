"""`fedloom methods`: what there is, with paper and what crosses the wire; of one method, its settings."""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import typer

from fedloom.cli.options import JsonOption, tell_broken
from fedloom.cli.screen import grid, show, show_json

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

COLUMNS = ("method", "summary", "paper", "modalities", "down", "up")
SETTING = ("setting", "default", "allowed", "description")
NameArgument = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="A method, to show with its settings (default: list all).")
]
_KINDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "integer",
    float: "number",
    str: "text",
    tuple: "list",
    type(None): "null",
}
_BOUNDS = {"ge": ">= {}", "gt": "> {}", "le": "<= {}", "lt": "< {}"}


def methods(name: NameArgument = None, json: JsonOption = False) -> None:
    """List the methods, with paper and what crosses the wire.

    With a NAME, show that method's settings, each with its default, what is allowed, and what it does.

    Example: fedloom methods fedmmkt
    """
    from fedloom.registry import METHODS

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


def _one(name: str, json: bool) -> None:
    """What is known of a method, and its settings."""
    from fedloom.config.yaml_core import dump
    from fedloom.methods.base import load_method
    from fedloom.registry import METHODS

    method, fixed = load_method(name)
    about = {key: getattr(METHODS.about(name), key) for key in COLUMNS[1:]}
    rows = []
    for key, field in method.settings.model_fields.items():
        default = fixed.get(key, field.get_default(call_default_factory=True))
        allowed = "fixed by the name" if key in fixed else allowed_values(field)
        rows.append((key, default, allowed, field.description or ""))
    if json:
        settings = [dict(zip(SETTING, row)) for row in rows]
        return show_json({"method": name, **about, "settings": settings})
    show(f"{name}: {about['summary']}", *(f"{key}: {text}" for key, text in about.items() if text and key != "summary"))
    if not rows:
        return show(f"{name} has no settings.")
    shown = [(key, dump({"": default}).partition(":")[2].strip(), *rest) for key, default, *rest in rows]
    show(grid(SETTING, shown), f"Set one with: fedloom run --method {name} --set settings.{rows[0][0]}=VALUE")


def allowed_values(field: FieldInfo) -> str:
    """What a setting may be, in a few words: `integer >= 1`, `add, token or pooled`, `number > 0 or null`."""
    bounds = [
        text.format(f"{value:g}" if isinstance(value, float) else value)
        for part in field.metadata
        for key, text in _BOUNDS.items()
        if (value := getattr(part, key, None)) is not None
    ]
    kinds = get_args(field.annotation) if get_origin(field.annotation) in (Union, UnionType) else (field.annotation,)
    words: list[str] = []
    for kind in kinds:
        if get_origin(kind) is Literal:
            words += map(str, get_args(kind))
        else:
            of = _KINDS.get(get_origin(kind) or kind, "text")
            words.append(" ".join([of, " and ".join(bounds)]) if bounds and kind in (int, float) else of)
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]
