"""What leaves a client, read from the contracts: for `fedloom methods --wire` and docs/methods/what-leaves.md."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterable
from itertools import groupby
from typing import Any, NamedTuple

from fedloom.federation.messages import fields_of
from fedloom.methods.base import COMMON_VERBS, load_method

HEAD = """\
# What leaves a silo

Made by `fedloom methods --wire` from the methods' contracts, with their default settings; methods that can be run by
secure sums (`settings.secure=true`), that way too. Nothing else can leave, and a value outside its range is refused at
both ends. The fields' names are those that
[`bounds.fields`](../guide/real-sites.md#bounds) of a silo allows. S and P count samples, D is the width of
representations, C counts classes, K clients, G groups of test samples, V blocks of a model, W its weights. What a field
means is in the method's file, beside the message.

"""


class Leaves(NamedTuple):
    """A field that may leave. verb: what the client is asked; what: what its message is, in the method's words."""

    verb: str
    field: str
    declared: str
    values: str
    what: str


def leaving(name: str, **changed: Any) -> list[Leaves]:
    """The fields that may leave a client of the method called `name`, with its default settings but for those that are
    changed. BadInput for none."""
    method, fixed = load_method(name)
    contract = method.contract(method.settings(**{**fixed, **changed}))
    return [
        Leaves(verb, f"{t.__name__}.{f.name}", str(f), f.range, _told(t))
        for verb in (contract.verbs if method.tasks else ())
        for t in contract.types(verb, "up")
        for f in fields_of(t)
    ]


def securely(name: str) -> list[Leaves]:
    """The same of what is the method's own, by secure sums; nothing where it has none."""
    setting = load_method(name)[0].settings.model_fields.get("secure")
    can = setting is not None and setting.annotation is bool
    return _own(leaving(name, secure=True)) if can else []


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


def page(names: Collection[str]) -> str:
    """The whole page: what every client answers, then the methods, those with the same fields together."""
    groups: dict[tuple[Leaves, ...], list[str]] = {}
    common: list[Leaves] = []
    for name in names:
        found = leaving(name)
        common = common or [row for row in found if row.verb in COMMON_VERBS]
        groups.setdefault(tuple(_own(found)), []).append(f"`{name}`")
    for name in names:
        if secure := securely(name):
            groups.setdefault(tuple(secure), []).append(f"`{name}`")
    parts = [f"## Every method\n\n{table(common)}\n"]
    for rows, methods in groups.items():
        how = " by secure sums" if any(row.field.startswith("Secure") for row in rows) else ""
        parts.append(f"## {', '.join(methods)}{how}\n\n{table(rows) or 'Nothing else.'}\n")
    return HEAD + "\n".join(parts)


def _own(rows: Iterable[Leaves]) -> list[Leaves]:
    """Without what every client answers."""
    return [row for row in rows if row.verb not in COMMON_VERBS]


def _told(message: type) -> str:
    """What a message class says that it is, without that it is a reply."""
    said = " ".join((inspect.getdoc(message) or "").split("\n\n")[0].split())
    return re.sub(r"^(Up(, once)?|M2|Reply to [^:]*): ", "", said)
