"""The table of retrieval in the report on one run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedloom.reporting.markup import Markup, section, table
from fedloom.reporting.scores import number
from fedloom.runs import RunFiles

SERVER = "server"  # its name among those of the clients
TERMS = ("i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10")
NONE = "–"


def retrieval(run: RunFiles) -> Markup:
    """Recalls of the clients with pairs and of the server, of the last round that was scored."""
    found, when = _last(run)
    names = sorted(found, key=lambda name: name == SERVER)  # the server last, clients in their order
    rows = [_line(name, found[name]) for name in names if isinstance(found[name], Mapping)]
    head = (
        *("Model", "i2t R@1", "R@5", "R@10", "t2i R@1", "R@5", "R@10"),
        *("Sum of R@1", "Gallery", "Folds"),
    )
    note = (
        f"{when}. i2t: a picture asks for one of its captions; t2i: a caption asks for its picture. R@k: percent of "
        "queries with a right answer among the first k. Gallery: pictures that a query is asked among; with several "
        "folds, recalls are the mean over them."
    )
    return section("Retrieval", note, table(head, rows, numbers=range(1, len(head))))


def _last(run: RunFiles) -> tuple[Mapping[str, Any], str]:
    """Recalls by name, and of when they are: from the rounds, else from the summary."""
    for row in reversed(run.rounds):
        if isinstance(row.get("retrieval"), Mapping) and row["retrieval"]:
            return row["retrieval"], f"After round {row.get('round', '?')}"
    told = run.summary.get("retrieval")
    return (told if isinstance(told, Mapping) else {}), "After the last round"


def _line(name: str, recalls: Mapping[str, Any]) -> list[object]:
    """A line of the table; an en dash for what is not known."""
    shares = [number(recalls.get(key)) for key in TERMS]
    ends = shares[0], shares[3]
    total = None if None in ends else sum(share for share in ends if share is not None)
    images, folds = number(recalls.get("images")), number(recalls.get("folds")) or 1.0
    bold = Markup(f"<b>{_percent(total)}</b>")
    return [
        name,
        *map(_percent, shares),
        bold,
        NONE if images is None else f"{images / folds:.0f}",
        f"{folds:.0f}",
    ]


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.2f}"
