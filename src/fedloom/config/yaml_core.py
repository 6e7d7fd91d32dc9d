"""YAML as settings are written in it: the core schema of YAML 1.2, and nothing that is read otherwise than it looks.

    true, false          booleans; yes, no, on, off are words
    null, ~, nothing     no value
    12, 012, 0o14, 0x0c  integers (all twelve); 12:30 and 1_000 are words
    1.5, 1e-3, .inf      numbers
    2024-05-01           a word

No key is given twice, keys are words, aliases (`*name`) are few. `<<` merges, as in YAML 1.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from fedloom.outside import problem

MOST_CHARACTERS = 500_000  # of a text; what a person writes is a hundredth of that
MOST_NODES = 100_000  # of a text with its aliases written out
_TAG = "tag:yaml.org,2002:"
_NULL = re.compile(r"(?:~|null|Null|NULL|)\Z")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")
_FLOAT = re.compile(
    r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
)
_SCHEMA = (  # in the order in which they are tried
    ("null", _NULL, ["~", "n", "N", ""]),
    ("bool", _BOOL, list("tTfF")),
    ("int", _INT, list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
)


class YamlProblem(ValueError):
    """What is wrong with a text, on one line that begins with where."""


class Tree(dict[str, Any]):
    """A group of settings that knows where each of its keys was written: `places[key]`, such as `mine.yaml, line 3`."""

    def __init__(self, *given: Any, places: dict[str, str] | None = None) -> None:
        super().__init__(*given)
        self.places: dict[str, str] = dict(places or {})


def parse(text: str, name: str | None = None) -> Any:
    """What a YAML text says; None for an empty one. Groups are `Tree`s.

    Args:
        name: of the file, for the places of its keys; without one they have none.

    Raises:
        YamlProblem: it is not YAML, a key is given twice or is no word, it is too large or too deep, or a text holds
            what none may (`fedloom.outside`).
    """
    if len(text) > MOST_CHARACTERS:
        raise YamlProblem(f"{len(text)} characters, allowed: {MOST_CHARACTERS}")
    if found := yaml.reader.Reader.NON_PRINTABLE.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise YamlProblem(f"line {line}: the character {found[0]!r} is not allowed")
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        loader.file = name
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node)
        value = loader.construct_document(node)
        if (wrong := problem(value, names=True)) is not None:
            raise YamlProblem(wrong)
        return value
    except yaml.MarkedYAMLError as error:
        raise YamlProblem(_marked(error, text)) from None
    except RecursionError:
        raise YamlProblem("it is nested too deeply") from None
    finally:
        if loader is not None:
            loader.dispose()


def dump(value: Any) -> str:
    """Plain values as YAML that reads back the same by this schema and by that of YAML 1.1."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _at(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"


def _marked(error: yaml.MarkedYAMLError, text: str) -> str:
    """The parser's complaint on one line; of what it says of tabs, what to do."""
    mark = error.problem_mark or error.context_mark
    problem = (error.problem or error.context or "").removeprefix("but ")
    if mark is None:
        return problem
    line = text.split("\n")[mark.line] if mark.line <= text.count("\n") else ""
    if line[mark.column : mark.column + 1] == "\t":
        problem = "a tab; indent with spaces"
    opened = error.context_mark
    if opened is not None and opened.line != mark.line and error.context:
        problem += f" ({error.context} that begins in line {opened.line + 1})"
    return f"{_at(mark)}: not YAML, {problem}"


# -------------------------------------------------------------------------------------------------------------- reading


# The parser in C, where PyYAML was built with it, is ten times as fast.
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    """Tags by the core schema alone."""

    file: str | None = None
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - as in the base class
    yaml_constructors: dict[str, Any] = {}  # noqa: RUF012


def _scalar(loader: _Loader, node: yaml.Node, kind: str, pattern: re.Pattern[str]) -> str:
    text = str(loader.construct_scalar(node))
    if not pattern.match(text):
        raise yaml.constructor.ConstructorError(None, None, f"{text!r} is no {kind}", node.start_mark)
    return text


def _null(loader: _Loader, node: yaml.Node) -> None:
    _scalar(loader, node, "null", _NULL)


def _bool(loader: _Loader, node: yaml.Node) -> bool:
    return _scalar(loader, node, "boolean", _BOOL).lower() == "true"


def _int(loader: _Loader, node: yaml.Node) -> int:
    text = _scalar(loader, node, "integer", _INT)
    if len(text) > 100:  # Python refuses thousands of digits
        raise yaml.constructor.ConstructorError(None, None, "a number of too many digits", node.start_mark)
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    return int(text[2:] if base != 10 else text, base)


def _float(loader: _Loader, node: yaml.Node) -> float:
    text = _scalar(loader, node, "number", _FLOAT).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


def _list(loader: _Loader, node: yaml.SequenceNode) -> Iterator[list[Any]]:
    data: list[Any] = []
    yield data
    data.extend(loader.construct_sequence(node))


def _group(loader: _Loader, node: yaml.MappingNode) -> Iterator[Tree]:
    data = Tree()
    yield data
    data.update(loader.construct_mapping(node))
    if loader.file is not None:
        data.places = {key.value: f"{loader.file}, line {key.start_mark.line + 1}" for key, _ in node.value}


for _kind, _pattern, _first in _SCHEMA:
    _Loader.add_implicit_resolver(_TAG + _kind, _pattern, _first)
_Loader.add_implicit_resolver(_TAG + "merge", re.compile(r"<<\Z"), ["<"])
for _kind, _make in (("null", _null), ("bool", _bool), ("int", _int), ("float", _float)):
    _Loader.add_constructor(_TAG + _kind, _make)
_Loader.add_constructor(_TAG + "str", lambda loader, node: loader.construct_scalar(node))
_Loader.add_constructor(_TAG + "seq", _list)
_Loader.add_constructor(_TAG + "map", _group)
_Loader.add_constructor(None, yaml.SafeLoader.construct_undefined)


def _check(root: Any) -> None:
    """Raises YamlProblem for a key that is given twice or is no word, and for aliases that grow without bound."""
    sizes: dict[int, int] = {}  # of the nodes that are done; 0: begun
    todo: list[Any] = [root]
    while todo:
        node = todo[-1]
        if node.id == "scalar":
            sizes[id(node)] = 1
            todo.pop()
            continue
        parts = [part for pair in node.value for part in pair] if node.id == "mapping" else node.value
        if id(node) not in sizes:
            sizes[id(node)] = 0
            if node.id == "mapping":
                _check_keys(node)
            for part in parts:
                if sizes.get(id(part)) == 0:
                    raise YamlProblem(f"{_at(part.start_mark)}: what is named here holds itself")
            todo += [part for part in parts if id(part) not in sizes]
            continue
        todo.pop()
        if sizes[id(node)] == 0:
            sizes[id(node)] = 1 + sum(sizes[id(part)] for part in parts)
        if sizes[id(node)] > MOST_NODES:
            raise YamlProblem(
                f"{_at(node.start_mark)}: more than {MOST_NODES} values, aliases written out; allowed: fewer"
            )


def _check_keys(node: yaml.MappingNode) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if key.tag not in (_TAG + "str", _TAG + "merge"):
            said = f"the key {key.value!r}" if key.id == "scalar" else f"a {key.id} as key"
            raise YamlProblem(f"{_at(key.start_mark)}: {said}, allowed: words; in quotes it is one")
        if key.value in lines:
            raise YamlProblem(f"the key {key.value!r} is given twice, in line {lines[key.value]} and in line {line}")
        lines[key.value] = line


# -------------------------------------------------------------------------------------------------------------- writing


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Values that occur twice are written twice."""
        return True


def _quoted(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """PyYAML quotes what is no word by YAML 1.1; here also what is none by 1.2."""
    special = any(pattern.match(text) for _, pattern, _ in _SCHEMA)
    return dumper.represent_scalar(_TAG + "str", text, "'" if special else None)


_Dumper.add_representer(str, _quoted)
_Dumper.add_multi_representer(dict, yaml.SafeDumper.represent_dict)
