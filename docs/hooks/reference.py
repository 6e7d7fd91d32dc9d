"""Reference pages, made of the package itself while the site is built: nothing in them is written twice."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, get_args

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from typer.cli import get_docs_for_click

import fedloom
from fedloom.cli.main import command_tree
from fedloom.cli.settings import field_rows
from fedloom.config import Config
from fedloom.config.yaml_core import dump
from fedloom.methods.base import load_method
from fedloom.registry import METHODS

# Beside the names of `fedloom` itself: what they give and take, and what one's own method is made of.
CLASSES = (
    *("fedloom.results.Run", "fedloom.comparison.results.Comparison", "fedloom.planning.records.Plan"),
    *("fedloom.progress.Observer", "fedloom.errors.FedloomError", "fedloom.errors.BadInput"),
    *("fedloom.methods.base.Method", "fedloom.methods.base.Client", "fedloom.methods.base.Server"),
    *("fedloom.methods.base.Info", "fedloom.methods.context.ClientContext", "fedloom.federation.base.Federation"),
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages."""
    pages = {
        "python": python(),
        "configuration": configuration(),
        "methods": methods(),
        "command-line": command_line(),
        "wire-format": wire_format(),
    }
    for name, text in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def python() -> str:
    """The names of `fedloom`, and the classes that they lead to."""
    names = [name for name in fedloom.__all__ if name != "__version__"]
    functions = [f"{getattr(fedloom, name).__module__}.{name}" for name in names]
    found = []
    for path in (*functions, *CLASSES):
        module, _, name = path.rpartition(".")
        getattr(importlib.import_module(module), name)  # an error here names what has moved
        found.append(f"::: {path}")
    intro = "Names of `fedloom`, then the classes that they give and take. [How to use them](../guide/python-api.md)."
    return "\n\n".join(["# Python interface", intro, *found])


def configuration() -> str:
    """Every key of the configuration, group by group."""
    intro = "Every key, its default, and what is allowed. [How they are set](../guide/configuration.md)."
    return "\n\n".join(["# Configuration keys", intro, *_groups(Config, "", set())])


def methods() -> str:
    """The settings of each method that is built in."""
    intro = "`settings.KEY` of each method; `fedloom methods NAME` shows the same."
    parts = ["# Settings of methods", intro]
    for name in METHODS.builtin():
        method, fixed = load_method(name)
        parts += [f"## {name}", METHODS.about(name).summary, _table(field_rows(method.settings, fixed))]
    return "\n\n".join(part for part in parts if part)


def command_line() -> str:
    """Every command, its arguments and options."""
    tree = command_tree()
    return get_docs_for_click(obj=tree, ctx=typer.Context(tree), name="fedloom", title="Command line")


def wire_format() -> str:
    """What the modules that make and check messages say of them."""
    options = "    options: {members: false, show_root_heading: false, show_root_toc_entry: false}"
    told = {"Bytes": "codec", "Header": "header", "Fields": "messages", "Contract": "contract"}
    parts = [f"## {title}\n\n::: fedloom.federation.{module}\n{options}" for title, module in told.items()]
    intro = "How a message is laid out, and what is checked. [What each method sends](../methods/what-leaves.md)."
    return "\n\n".join(["# Wire format", intro, *parts])


def _groups(group: type[BaseModel], key: str, seen: set[type]) -> Iterator[str]:
    """The table of a group of keys, then those of the groups below; a group that stands in two places is told once."""
    below = {name: list(_models(field.annotation)) for name, field in group.model_fields.items()}
    told = group in seen
    seen.add(group)
    own = [row for row in field_rows(group, {}) if not below[row[0]]]
    yield f"## {key or 'Top level'}"
    text = " ".join((group.__doc__ or "").split())
    if told:
        yield f"The keys of a `{group.__name__}`, as above."
        return
    yield f"{text}\n\n{_table(own)}" if own else text
    for name, kinds in below.items():
        for kind in kinds:
            yield from _groups(kind, f"{key}.{name}".lstrip("."), seen)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The classes of settings in a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _table(rows: Any) -> str:
    lines = ["| key | default | allowed | |", "|---|---|---|---|"]
    for key, default, allowed, description in rows:
        cells = (f"`{key}`", f"`{_written(default)}`", allowed, description)
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |")
    return "\n".join(lines) if rows else "It has no settings."


def _written(value: Any) -> str:
    """As in a configuration file, in one line; a key that must be given has none."""
    if value is PydanticUndefined:
        return "needed"
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {_written(v)}" for k, v in value.items()) + "}"
    return dump({"": value}).partition(":")[2].strip()
