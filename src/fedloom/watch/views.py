"""What the page draws, as JSON: sections of charts, tables, pictures and lines. Texts all: none is taken as HTML.

A chart: {"title", "unit" ("share", "bytes", "seconds" or ""), "lines": [{"name", "colour", "thin", "x", "y"}]}.
A table: {"head", "numbers" (columns set flush right), "rows" of texts or {"text", "css", "small", "at", "bold"}}; `at`:
the folder that a cell leads to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedloom.reporting.pages import Cell, Table
from fedloom.reporting.scores import Row, series

View = dict[str, Any]
COLOURS = ("blue", "vermillion", "green", "purple", "orange", "sky", "ink", "muted")  # of watch.css


def section(title: str, note: str = "", **parts: Any) -> View | None:
    """A part of the page: charts, table, pictures, lines; None where it would be empty."""
    there = {key: value for key, value in parts.items() if value}
    return {"id": title, "title": title, "note": note, **there} if there else None


def table(made: Table | None) -> View | None:
    """A table of the reports; None where it has no rows."""
    rows = [[_cell(cell) for cell in row] for row in made.rows] if made else []
    if made is None or not rows:
        return None
    return {"head": [str(name) for name in made.head], "numbers": sorted(made.numbers), "rows": rows}


def _cell(cell: Any) -> Any:
    if not isinstance(cell, Cell):
        return str(cell)
    facts = {"css": cell.css, "bold": cell.bold, "at": cell.href, "small": cell.small.text if cell.small else ""}
    there = {key: value for key, value in facts.items() if value}
    return {"text": cell.text, **there} if there else cell.text


def line(rows: Sequence[Row], *keys: str, name: str, colour: str, thin: bool = False) -> View | None:
    """The values of a (nested) key over rounds; None where there are none."""
    x, y = series(rows, *keys)
    return {"name": name, "colour": colour, "thin": thin, "x": x, "y": [rounded(v) for v in y]} if x else None


def chart(title: str, lines: Iterable[View | None], unit: str = "") -> View | None:
    """None where no line has a value."""
    there = [one for one in lines if one]
    return {"title": title, "unit": unit, "lines": there} if there else None


def charts(*made: View | None) -> list[View]:
    """Those that there are."""
    return [one for one in made if one]


def rounded(value: float) -> float:
    """To five digits: what a chart can show."""
    return float(f"{value:.5g}")


def alerts(warnings: Iterable[Any]) -> list[View]:
    """Warnings of a run, or of a comparison."""
    keys = ("name", "level", "message", "advice")
    return [{key: w[key] if isinstance(w, Mapping) else getattr(w, key) for key in keys} for w in warnings]
