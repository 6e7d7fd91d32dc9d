"""A study that is `like` a comparison that comes with fedloom: its rows in one column, as arms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedloom.comparison.plan_tree import comparisons
from fedloom.config.trees import merged, read_tree
from fedloom.errors import BadInput, unknown
from fedloom.registry import METHODS
from fedloom.reporting.scores import SCORES

_SCORES = {s.key: s.name for s in SCORES}


def study_tree(like: Mapping[str, Any]) -> dict[str, Any]:
    """title, preset, base, arms and scores of a comparison's column; the seeds are the study's own.

    Args:
        like: `comparison`, and `column` where it has several.

    Raises:
        BadInput: there is no such comparison or column.
    """
    if not isinstance(like, Mapping) or not {"comparison"} <= like.keys() <= {"comparison", "column"}:
        raise BadInput(f"like = {like!r}: expected {{comparison: NAME, column: NAME}}")
    name = str(like["comparison"])
    if name not in comparisons():
        raise unknown("comparison", name, comparisons())
    tree = read_tree(comparisons()[name], "plan")
    columns = {str(c["name"]): c.get("set", {}) for c in tree.get("columns", [{"name": ""}])}
    column = str(like.get("column", next(iter(columns))))
    if column not in columns:
        raise unknown("column", column, columns)
    base = dict(tree.get("base", {}))
    preset = base.pop("preset", None)
    arms = {}
    for row in tree["rows"]:
        if column in row.get("only", [column]):
            own = {"method": METHODS.lenient(row["method"]), **row.get("set", {})}
            # Settings of a column are of every method, as in `fedloom compare`.
            arms[row.get("name") or METHODS.label(row["method"])] = merged(columns[column], own)
    scores = {key: _SCORES[key] for key in tree.get("scores", []) if key in _SCORES}
    title = tree.get("title", name) + (f"; {column}" if column else "")
    return {"title": title, "preset": preset, "base": base, "arms": arms, "scores": scores}
