"""Tables of settings: each with its default, what is allowed, and what it does."""

from __future__ import annotations

import collections.abc
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from fedloom.cli.screen import grid

if TYPE_CHECKING:
    from pydantic import BaseModel

SETTING = ("setting", "default", "allowed", "description")
Row = tuple[str, Any, str, str]  # as SETTING has them
_KINDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "integer",
    float: "number",
    str: "text",
    tuple: "list",
    collections.abc.Sequence: "list",
    collections.abc.Mapping: "mapping",
    Path: "path",
    type(None): "null",
}
_BOUNDS = {"ge": ">= {}", "gt": "> {}", "le": "<= {}", "lt": "< {}"}


def field_rows(settings: type[BaseModel], fixed: Mapping[str, Any], without: Collection[str] = ()) -> list[Row]:
    """The fields of a settings class. fixed: values that the name of the method fixes."""
    rows = []
    for key, field in settings.model_fields.items():
        if key not in without:
            default = fixed.get(key, field.get_default(call_default_factory=True))
            allowed = "fixed by the name" if key in fixed else allowed_values(field.annotation, field.metadata)
            rows.append((key, default, allowed, field.description or ""))
    return rows


def setting_table(rows: Sequence[Row], columns: Sequence[str] = SETTING) -> Any:
    """The rows for a terminal, defaults as they are written in a configuration."""
    from fedloom.config.yaml_core import dump

    def written(value: Any) -> str:
        if isinstance(value, tuple | list):
            return f"[{', '.join(map(written, value))}]"
        return dump({"": value}).partition(":")[2].strip()

    return grid(columns, [(key, written(default), *rest) for key, default, *rest in rows])


def allowed_values(annotation: Any, bounds: Sequence[Any] = ()) -> str:
    """What a setting may be, in a few words: `integer >= 1`, `add, token or pooled`, `number > 0 or null`."""
    said = [
        text.format(f"{value:g}" if isinstance(value, float) else value)
        for part in bounds
        for key, text in _BOUNDS.items()
        if (value := getattr(part, key, None)) is not None
    ]
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    words: list[str] = []
    for kind in kinds:
        if get_origin(kind) is Literal:
            words += map(str, get_args(kind))
        else:
            of = _KINDS.get(get_origin(kind) or kind, "text")
            words.append(" ".join([of, " and ".join(said)]) if said and kind in (int, float) else of)
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]
