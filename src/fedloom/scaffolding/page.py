"""A configuration as a file for people: what is set, and beside it as comments what else could be, with its default."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fedloom.config import Config
from fedloom.config.yaml_core import dump

WIDTH = 110
# What the keys without a description are, which their types say to programmers.
WHAT = {
    "method": "see `fedloom methods`",
    "seed": "of split, clients and method",
    "rounds": "0 only scores the start",
    "data.name": "see `fedloom datasets`",
    "data.partition": "or iid, dirichlet-uncapped, dirichlet-hsu, pathological",
    "clients.image": "groups of clients of pictures: arch, count, sizes, or pretrained weights",
    "clients.text": "groups of clients of texts",
    "clients.batch": "samples of a step",
    "clients.optimizer": "or sgd",
    "clients.decay": "weight decay",
    "server.clip": "dual encoder: text tower of the generator",
    "server.captioner": "describes pictures for clients of texts",
    "server.generator": "the text-to-image model that is trained with the clients",
    "evaluation.judge": "recognises generated pictures",
    "engine.name": "or flower",
}


def page(config: Config, head: Sequence[str], shown: Sequence[str]) -> str:
    """The text of the file.

    Args:
        config: whose values are set in it where they are not the defaults.
        head: what is said above.
        shown: the keys, such as `data.name`, that are set in any case.
    """
    lines = [f"# {line}".rstrip() for text in head for line in textwrap.wrap(text, WIDTH - 2) or [""]]
    lines += [
        "#",
        "# Lines behind a # are defaults. The value of a key stands after the colon, its meaning behind a #.",
        "",
    ]
    default = Config()
    for name, info in Config.model_fields.items():
        value = getattr(config, name)
        lines += [""] if isinstance(value, BaseModel) else []
        lines += _entry(name, info, value, getattr(default, name), name, "", shown)
    return "\n".join(lines).rstrip() + "\n"


def _entry(
    name: str, info: FieldInfo, value: Any, default: Any, key: str, indent: str, shown: Sequence[str]
) -> Iterator[str]:
    """The lines of a field: of a group its fields, but of a model's own sizes all in one."""
    if isinstance(value, BaseModel) and not indent:
        parts = [
            line
            for part, field in type(value).model_fields.items()
            for line in _entry(part, field, getattr(value, part), getattr(default, part), f"{key}.{part}", "  ", shown)
        ]
        said = any(not line.lstrip().startswith("#") for line in parts)
        yield f"{name}:" if said else f"# {name}:"
        yield from parts
        return
    said = value != default or key in shown
    what = WHAT.get(key) or info.description or ""
    lines = _lines(name, _plain(value), indent if said else f"{indent}# ")
    remarked = f"{lines[0]:<34}  # {what}" if what else lines[0]
    if len(remarked) <= WIDTH:
        yield from (remarked, *lines[1:])
    else:
        yield from (f"{indent}# {line}" for line in textwrap.wrap(f"({what})", WIDTH - 4))
        yield from lines


def _lines(name: str, value: Any, indent: str) -> list[str]:
    """`name: value`; a list of groups a line each."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [f"{indent}{name}:", *(f"{indent}  - {_flow(group)}" for group in value)]
    if isinstance(value, dict) and value and len(f"{name}: {_flow(value)}") > WIDTH - 4:
        return [f"{indent}{name}:", *(line for k, v in value.items() for line in _lines(k, v, f"{indent}  "))]
    return [f"{indent}{name}: {_flow(value)}"]


def _flow(value: Any) -> str:
    """A value in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    text = dump([value]).removeprefix("- ").rstrip("\n")
    if "\n" in text or (any(sign in text for sign in ",[]{}#&*!|>%@`") and text[0] not in "'\""):
        text = yaml.dump(value, default_style='"', width=10**6, allow_unicode=True).rstrip("\n")
    return text


def _plain(value: Any) -> Any:
    """As plain values; of models only what is not their own default."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True) or value.model_dump(mode="json")
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return value
