"""Readers that take a group of options, such as Reading, whole; to their callers each is an option of its own."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T")
_ENTRY = re.compile(r" {4}(\w+(?:, \w+)*): (.*)")
UNSHARED: Mapping[str, Any] = {"generic_share": 0.0, "confusion": 0.0}  # of readers that make no public part


def takes(
    group: type, fixed: Mapping[str, Any] | None = None, **defaults: Any
) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Replace the parameter `reading` of a reader by the fields of `group`, as keyword-only parameters.

    Args:
        group: a dataclass; fields that are dataclasses are replaced by their fields in turn.
        fixed: fields that are not options of this reader, with their values.
        defaults: where they are others than the group's.

    Returns:
        A decorator. The reader may also be called with `reading` itself; its `check` raises what the group says of
        a mapping of all options.
    """
    fixed = fixed or {}
    flat = {key: (kind, defaults.get(key, default)) for key, kind, default in _flat(group) if key not in fixed}

    def decorate(load: Callable[..., T]) -> Callable[..., T]:
        @functools.wraps(load)
        def reader(*args: Any, **values: Any) -> T:
            if "reading" not in values:
                own = {key: values.pop(key, default) for key, (_, default) in flat.items()}
                values["reading"] = _build(group, {**own, **fixed})
            return load(*args, **values)

        types = get_type_hints(load)
        shown = [p.replace(annotation=types[p.name]) for p in inspect.signature(load).parameters.values()]
        shown = [p for p in shown if p.name != "reading"]
        shown += [
            inspect.Parameter(k, inspect.Parameter.KEYWORD_ONLY, default=d, annotation=t) for k, (t, d) in flat.items()
        ]

        def check(options: Mapping[str, Any]) -> None:
            _build(group, {**{key: options[key] for key in flat}, **fixed})

        vars(reader)["check"] = check
        vars(reader)["groups"] = (group,)
        vars(reader)["__signature__"] = inspect.Signature(shown, return_annotation=types["return"])
        reader.__annotations__ = {**{p.name: p.annotation for p in shown}, "return": types["return"]}
        return reader

    return decorate


def _flat(group: Any) -> list[tuple[str, Any, Any]]:
    """Name, type and default of the options in a group."""
    types = get_type_hints(group)
    nested = {f.name: _flat(types[f.name]) for f in fields(group) if is_dataclass(types[f.name])}
    return [row for f in fields(group) for row in nested.get(f.name, [(f.name, types[f.name], f.default)])]


def _build(group: Any, values: Mapping[str, Any]) -> Any:
    types = get_type_hints(group)
    own = {
        f.name: _build(types[f.name], values) if is_dataclass(types[f.name]) else values[f.name] for f in fields(group)
    }
    return group(**own)


def described(reader: Callable[..., Any]) -> dict[str, str]:
    """What the docstrings of a reader and of its groups of options say of each option, by name; of some nothing."""
    said: dict[str, str] = {}
    for part in (*getattr(reader, "groups", ()), reader):
        said |= _entries(inspect.getdoc(part) or "")
        for nested in get_type_hints(part).values() if isinstance(part, type) else ():
            said |= _entries(inspect.getdoc(nested) or "") if is_dataclass(nested) else {}
    return {name: text.rstrip().removesuffix(".") for name, text in said.items()}


def _entries(doc: str) -> dict[str, str]:
    """The entries below `Args:` or `Attributes:`: `name, other: text`, over several lines."""
    found: dict[str, str] = {}
    names: list[str] = []
    inside = False
    for line in doc.splitlines():
        if not line.startswith(" "):
            inside = line.strip() in ("Args:", "Attributes:") or (inside and not line.strip())
            continue
        if inside and (entry := _ENTRY.match(line)):
            names = entry[1].split(", ")
            found |= dict.fromkeys(names, entry[2])
        elif inside:
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found
