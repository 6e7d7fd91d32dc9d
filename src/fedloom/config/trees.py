"""Trees of settings: read from YAML, put together, and made into validated types whose complaints are one line."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from fedloom.config.yaml_core import MOST_CHARACTERS, Tree, YamlProblem, parse
from fedloom.encodings import decode
from fedloom.errors import BadInput, nearest
from fedloom.outside import problem

_SHOWN = 200  # characters of an argument
LITERAL = ("options", "settings")  # groups whose keys are a reader's or a method's own


def read_settings(
    kind: type[Any], file: str | Path | None, values: Mapping[str, Any], overrides: Sequence[str] = ()
) -> Any:
    """Settings of `kind`: defaults, then file, then `values`, then `key=value` overrides. Raises BadInput."""
    if (wrong := problem(values, names=True)) is not None:
        raise BadInput(f"settings: {wrong}")
    tree: Mapping[str, Any] = read_tree(Path(file)) if file is not None else {}
    tree = merged(tree, nested(values))
    for text in overrides:
        tree = merged(tree, override(text))
    return validate(kind, tree)


# ---------------------------------------------------------------------------------------------------------- validation


def validate(kind: type[Any], tree: Mapping[str, Any], where: str = "") -> Any:
    """`kind(**tree)`, with pydantic's complaint put as one line: file and line, key, value, what is allowed."""
    try:
        made = kind(**tree)
    except ValidationError as error:
        first = _telling(error.errors())
        said, place = _one_line(kind, first, where), _place(tree, first["loc"])
        raise BadInput(f"{place}: {said}" if place else said) from None
    if (path := _not_a_number(tree, made)) is not None:
        key, place = ".".join(map(str, (where, *path) if where else path)), _place(tree, path)
        said = f"{key} = {str(_at(tree, path)).lower()}: expected a number"
        raise BadInput(f"{place}: {said}" if place else said)
    return made


def _not_a_number(given: Any, taken: Any) -> tuple[str | int, ...] | None:
    """Where a truth value was given and has been taken for 0 or 1, which pydantic does."""
    if isinstance(given, bool):
        return () if type(taken) in (int, float) else None
    pairs: Iterable[tuple[Any, Any, Any]] = ()
    if isinstance(given, Mapping) and isinstance(taken, BaseModel):
        pairs = ((key, value, getattr(taken, str(key), None)) for key, value in given.items())
    elif isinstance(given, Mapping) and isinstance(taken, Mapping):
        pairs = ((key, value, taken.get(key)) for key, value in given.items())
    elif isinstance(given, list | tuple) and isinstance(taken, list | tuple):
        pairs = ((n, a, b) for n, (a, b) in enumerate(zip(given, taken)))
    for key, value, became in pairs:
        if (path := _not_a_number(value, became)) is not None:
            return (key, *path)
    return None


def _at(tree: Any, path: Sequence[str | int]) -> Any:
    for part in path:
        tree = tree[part]
    return tree


def _telling(errors: list[ErrorDetails]) -> ErrorDetails:
    """The first error; where a key is missing, rather that of one that is not known, which was meant for it."""
    if errors[0]["type"] == "missing":
        return next((error for error in errors if error["type"] == "extra_forbidden"), errors[0])
    return errors[0]


def fitting(kind: Any, value: Any, key: str) -> Any:
    """`value` as the annotation `kind` says, numbers taken for words where words are expected.

    What is wrong otherwise than by its kind, such as a word that is not on a list, is left to who takes the value.

    Raises:
        BadInput: no truth value, number or word where one is expected.
    """
    try:
        made = TypeAdapter(kind, config={"coerce_numbers_to_str": True, "allow_inf_nan": False}).validate_python(value)
        if (found := _not_a_number(value, made)) is None:
            return made
        raise BadInput(f"{'.'.join(map(str, (key, *found)))} = {str(_at(value, found)).lower()}: expected a number")
    except ValidationError as error:
        first = error.errors()[0]
        if not first["type"].startswith(("bool_", "int_", "float_", "finite_", "string_")):
            return value
        path = ".".join(map(str, first["loc"])) if isinstance(value, list | tuple | Mapping) else ""
        raise BadInput(_complaint(f"{key}.{path}" if path else key, first)) from None


def _one_line(kind: type[BaseModel], error: ErrorDetails, where: str) -> str:
    path = [str(part) for part in error["loc"]]
    key = ".".join([where, *path] if where else path)
    if error["type"] == "extra_forbidden":
        siblings = _fields_at(kind, path[:-1])
        prefix = key.rpartition(".")[0]
        named = [f"{prefix}.{s}" if prefix else s for s in siblings]
        return f"unknown key {key!r}.{nearest(key, named)} Allowed here: {', '.join(sorted(named))}."
    return _complaint(key, error)


def _complaint(key: str, error: ErrorDetails) -> str:
    """Key, value, and what is allowed."""
    message, value = plainly(error), error["input"]
    if not key:
        return message
    if error["type"] == "missing":
        return f"{key}: required, and not given"
    if isinstance(value, Mapping) and error["type"] in (
        "value_error",
        "assertion_error",
    ):  # a whole group: which of its values is at fault, the message says
        return f"{key}: {message}"
    if error["type"] == "literal_error" and isinstance(value, str):
        hint = nearest(value, re.findall(r"'([^']*)'", error["ctx"]["expected"]))
        message = f"allowed: {error['ctx']['expected']}" + (f".{hint}" if hint else "")
    if error["type"] == "string_type" and (value is None or isinstance(value, bool | int | float)):
        said = "null" if value is None else str(value).lower()
        message = f"expected a word; in quotes it is one: '{said}'"
    return f"{key} = {reprlib.repr(value)}: {message}"


def plainly(error: ErrorDetails) -> str:
    """What is expected or allowed, in plain words for the common kinds of error; else as pydantic says it."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in _KINDS:
        return f"expected {_KINDS[kind]}"
    if kind in _BOUNDS:
        numbers = {name: f"{value:g}" if isinstance(value, float) else value for name, value in context.items()}
        return _BOUNDS[kind].format(**numbers)
    if kind in ("literal_error", "enum"):
        return f"allowed: {context['expected']}"
    message = error["msg"].removeprefix("Value error, ")
    return message if kind in ("value_error", "assertion_error") else message[0].lower() + message[1:]


_GROUP = "keys and values, such as {name: value}"
_KINDS = {"dict_type": _GROUP, "model_type": _GROUP, "model_attributes_type": _GROUP} | dict.fromkeys(
    ("tuple_type", "list_type"), "a list, in brackets, such as [a, b] or, of groups, [{name: value}]"
)
_KINDS |= dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "an integer")
_KINDS |= dict.fromkeys(("float_type", "float_parsing"), "a number")
_KINDS |= dict.fromkeys(("bool_type", "bool_parsing"), "true or false")
_KINDS |= {"finite_number": "a finite number", "string_type": "text", "int_parsing_size": "an integer of fewer digits"}
_BOUNDS = {
    "greater_than_equal": "allowed: {ge} or more",
    "greater_than": "allowed: above {gt}",
    "less_than_equal": "allowed: at most {le}",
    "less_than": "allowed: below {lt}",
    "too_short": "expected at least {min_length} entries, not {actual_length}",
    "too_long": "expected at most {max_length} entries, not {actual_length}",
    "string_too_short": "expected at least {min_length} characters",
    "string_too_long": "expected at most {max_length} characters",
    "string_pattern_mismatch": "expected a text that matches {pattern}",
}


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


def _place(tree: Any, path: Sequence[str | int]) -> str:
    """Where the value at `path` was written: file and line; of a group the file, if all of it is from one; else ''."""
    found = ""
    for part in path:
        if isinstance(tree, Mapping) and part in tree:
            found = tree.places.get(str(part), "") if isinstance(tree, Tree) else ""
        elif not (isinstance(tree, list | tuple) and isinstance(part, int) and part < len(tree)):
            break  # a key that is missing
        tree = tree[part]  # type: ignore[index, unused-ignore]
    if not isinstance(tree, Mapping):
        return found
    files = {place.rpartition(", line ")[0] for place in _places(tree)}
    return files.pop() if len(files) == 1 else ""


def _places(tree: Any) -> Iterator[str]:
    """The place of every key below; '' where it has none."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield tree.places.get(key, "") if isinstance(tree, Tree) else ""
            yield from _places(value)
    elif isinstance(tree, list | tuple):
        for part in tree:
            yield from _places(part)


# ------------------------------------------------------------------------------------------------------------- reading


def read_tree(path: Path, what: str = "configuration") -> Tree:
    """What a YAML file holds: the core schema of YAML 1.2, dotted keys as groups. Raises BadInput."""
    tree = read_yaml(path, what)
    if tree is None:
        return Tree()
    if not isinstance(tree, dict):
        raise BadInput(f"{what} {path}: holds a {_said(tree)}, expected keys and values")
    try:
        return nested(tree)
    except BadInput as error:
        raise BadInput(f"{what} {path}: {error}") from None


def read_yaml(path: Path, what: str) -> Any:
    """What a YAML file says. Raises BadInput."""
    most = 4 * MOST_CHARACTERS  # bytes
    try:
        if path.is_fifo() and "fd" not in path.parts:  # a shell's `<(...)` is /dev/fd/63; to others nobody may write
            raise BadInput(f"{what} {path}: expected a file, this is a pipe")
        with path.open("rb") as file:
            data = file.read(most + 1)
    except (OSError, ValueError) as error:  # ValueError: a name that holds a zero byte
        raise BadInput(f"{what} {path}: {getattr(error, 'strerror', error)}") from None
    if len(data) > most:
        raise BadInput(f"{what} {path}: more than {most} bytes, expected a text of a few lines")
    text = decode(data, f"{what} {path}", "line", lambda before: before.count("\n") + 1)
    try:
        return parse(text, str(path))
    except YamlProblem as problem:
        joint = ", " if str(problem).startswith("line ") else ": "
        raise BadInput(f"{what} {path}{joint}{problem}") from None


def _said(value: Any) -> str:
    """The kind of a value that is no group, in a word."""
    kinds = {list: "list", str: "text", bool: "truth value", int: "number", float: "number"}
    return kinds.get(type(value), type(value).__name__)


def override(text: str) -> Tree:
    """The tree that a `key=value` says, value being YAML: nothing is null, as in a file. Raises BadInput."""
    key, equals, raw = text.partition("=")
    key, shown = key.strip(" "), f"{text[:_SHOWN]}..." if len(text) > _SHOWN else text
    if not equals or not key:
        raise BadInput(f"--set {shown!r}: expected key=value")
    if not key.isprintable():
        raise BadInput(f"--set {shown!r}: expected words with dots between before the =, such as clients.batch")
    try:
        return nested({key: parse(raw)})
    except YamlProblem as problem:
        raise BadInput(f"--set {shown!r}: {raw[:_SHOWN]!r} is no YAML value ({problem})") from None
    except BadInput as error:
        raise BadInput(f"--set {shown!r}: {error}") from None


# --------------------------------------------------------------------------------------------------- putting together


def nested(tree: Mapping[str, Any]) -> Tree:
    """The tree with dotted keys as groups: `{"clients.batch": 8}` is `{"clients": {"batch": 8}}`.

    The keys inside `options` and `settings` stay as they are: they belong to the data set's reader and to the method.

    Raises:
        BadInput: a key is no word, or says what another one says too.
    """
    out = Tree()
    for key, value in tree.items():
        parts = key.split(".") if isinstance(key, str) else []
        if not all(parts) or not parts:
            raise BadInput(f"the key {key!r}, expected words with dots between, such as clients.batch")
        place = tree.places.get(key, "") if isinstance(tree, Tree) else ""
        inside = value if parts[-1] in LITERAL else _nested_inside(value)
        for part in reversed(parts[1:]):
            inside = Tree({part: inside}, places={part: place} if place else {})
        _join(out, parts[0], inside, place)
    return out


def _nested_inside(value: Any) -> Any:
    if isinstance(value, Mapping):
        return nested(value)
    return [_nested_inside(part) for part in value] if isinstance(value, list) else value


def _join(into: Tree, key: str, value: Any, place: str, above: str = "") -> None:
    """Put a value under a key; groups are joined. Raises BadInput where there is a value already."""
    old, name = into.get(key), f"{above}{key}"
    if key in into and not (isinstance(old, Tree) and isinstance(value, Mapping)):
        places = [p.rpartition(", ")[2] for p in (into.places.get(key, ""), place) if p]
        raise BadInput(f"the key {name!r} is given twice" + (f", in {' and in '.join(places)}" if places else ""))
    if key not in into:
        into[key] = Tree(value, places=getattr(value, "places", {})) if isinstance(value, Mapping) else value
        if place:
            into.places[key] = place
        return
    for part, inner in value.items():
        _join(into[key], part, inner, getattr(value, "places", {}).get(part, ""), f"{name}.")


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Tree:
    """Two configuration trees as one; groups are merged key by key, anything else is replaced."""
    out = Tree(below, places=getattr(below, "places", {}))
    places = getattr(above, "places", {})
    for key, value in above.items():
        old = out.get(key)
        out[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
        out.places.pop(key, None)
        if key in places:
            out.places[key] = places[key]
    return out
