"""What leaves a client, read from the contracts: for `fedloom methods --wire` and docs/methods/what-leaves.md."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from fedloom.federation.messages import fields_of
from fedloom.methods.base import COMMON_VERBS, load_method

HEAD = """\
# What leaves a silo

Made by `fedloom methods --wire` from the methods' contracts, with their default settings. Nothing else can leave, and
a value outside its range is refused at both ends. The fields' names are those that
[`bounds.fields`](../guide/real-sites.md#bounds) of a silo allows. S and P count samples, D is the width of
representations, C counts classes, G groups of test samples, V blocks of a model, W its weights. What a field means is
in the method's file, beside the message.

"""


class Leaves(NamedTuple):
    """A field that may leave. verb: what the client is asked; what: what its message is, in the method's words."""

    verb: str
    field: str
    declared: str
    values: str
    what: str


def leaving(name: str) -> list[Leaves]:
    """The fields that may leave a client of the method called `name`, with its default settings. BadInput for none."""
    method, fixed = load_method(name)
    contract = method.contract(method.settings(**fixed))
    return [
        Leaves(verb, f"{t.__name__}.{f.name}", str(f), f.range, _told(t))
        for verb in (contract.verbs if method.tasks else ())
        for t in contract.types(verb, "up")
        for f in fields_of(t)
    ]


def table(rows: Iterable[Leaves]) -> str:
    """The fields as Markdown, under the sentence of each message."""
    parts = []
    for (verb, message, what), fields in groupby(rows, lambda row: (row.verb, row.field.partition(".")[0], row.what)):
        lines = [f"| `{row.field.partition('.')[2]}` | {row.declared} | {row.values} |" for row in fields]
        parts.append(
            "\n".join(
                (f"`{verb}` brings `{message}`: {what}", "", "| field | kind | values |", "|---|---|---|", *lines)
            )
        )
    return "\n\n".join(parts)


def page(names: Iterable[str]) -> str:
    """The whole page: what every client answers, then the methods, those with the same fields together."""
    groups: dict[tuple[Leaves, ...], list[str]] = {}
    common: list[Leaves] = []
    for name in names:
        found = leaving(name)
        common = common or [row for row in found if row.verb in COMMON_VERBS]
        groups.setdefault(tuple(row for row in found if row.verb not in COMMON_VERBS), []).append(name)
    parts = [f"## Every method\n\n{table(common)}\n"]
    for rows, methods in groups.items():
        title = ", ".join(f"`{name}`" for name in methods)
        parts.append(f"## {title}\n\n{table(rows) or 'Nothing else.'}\n")
    return HEAD + "\n".join(parts)


def _told(message: type) -> str:
    """What a message class says that it is, without that it is a reply."""
    said = " ".join((inspect.getdoc(message) or "").split("\n\n")[0].split())
    return re.sub(r"^(Up(, once)?|M2|Reply to [^:]*): ", "", said)
