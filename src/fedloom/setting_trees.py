"""Trees of settings: read from YAML, put together, and made into validated types whose complaints are one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from fedloom.errors import BadInput, nearest


def read_settings(
    kind: type[Any], file: str | Path | None, values: Mapping[str, Any], overrides: Sequence[str] = ()
) -> Any:
    """Settings of `kind`: defaults, then file, then `values`, then `key=value` overrides. Raises BadInput."""
    tree = read_tree(Path(file)) if file is not None else {}
    tree = merged(tree, values)
    for text in overrides:
        tree = merged(tree, override(text))
    return validate(kind, tree)


def validate(kind: type[Any], tree: Mapping[str, Any], where: str = "") -> Any:
    """`kind(**tree)`, with pydantic's complaint put as one line: key, value, what is allowed."""
    try:
        return kind(**tree)
    except ValidationError as error:
        raise BadInput(_one_line(kind, error, where)) from None


def _one_line(kind: type[BaseModel], error: ValidationError, where: str) -> str:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join([where, *path] if where else path)
    if first["type"] == "extra_forbidden":
        siblings = _fields_at(kind, path[:-1])
        prefix = key.rpartition(".")[0]
        named = [f"{prefix}.{s}" if prefix else s for s in siblings]
        return f"unknown key {key!r}.{nearest(key, named)} Allowed here: {', '.join(sorted(named))}."
    message = first["msg"].removeprefix("Value error, ")
    if not key:
        return message
    if isinstance(
        first["input"], Mapping
    ):  # a whole group: which of its values is at fault, the message says
        return f"{key}: {message}"
    return f"{key} = {first['input']!r}: {message[0].lower() + message[1:]}"


def _fields_at(kind: type[BaseModel], path: Sequence[str]) -> list[str]:
    """Names of the fields of the model that lies at `path` inside `kind`."""
    current: Any = kind
    for part in path:
        if part.isdigit():
            continue
        current = current.model_fields[part].annotation
        for inner in getattr(current, "__args__", ()):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                current = inner
    return list(getattr(current, "model_fields", {}))


def read_tree(path: Path) -> dict[str, Any]:
    """What a YAML file holds. Raises BadInput."""
    try:
        tree = yaml.safe_load(path.read_text())
    except OSError as error:
        raise BadInput(f"configuration {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise BadInput(f"configuration {path}: no valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(tree, dict | None):
        raise BadInput(f"configuration {path}: holds a {type(tree).__name__}, expected keys and values")
    return tree or {}


def override(text: str) -> dict[str, Any]:
    """The tree that a `key=value` says, value being YAML. Raises BadInput."""
    key, equals, raw = text.partition("=")
    if not equals or not key:
        raise BadInput(f"--set {text!r}: expected key=value")
    try:
        value: Any = yaml.safe_load(raw) if raw else ""
    except yaml.YAMLError:
        raise BadInput(f"--set {text!r}: {raw!r} is no YAML value") from None
    if isinstance(value, str) and _is_number(value):
        value = float(value)  # YAML 1.1 reads 1e-3 as a word
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two configuration trees as one; groups are merged key by key, anything else is replaced."""
    out = dict(below)
    for key, value in above.items():
        old = out.get(key)
        out[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return out
