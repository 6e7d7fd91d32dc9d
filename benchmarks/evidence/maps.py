"""The map of a study with a grid: what its main arm gains over another, cell by cell and along each axis."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean
from typing import Any

from evidence.rows import AT
from evidence.studies import cells
from evidence.tables import Kept, Values, difference_text, table
from fedloom.comparison.statistics import ABOVE, BELOW, corrected, paired

Gains = dict[tuple[str, str], dict[str, Any]]  # (score, cell) or (score, level) -> `paired`'s difference


def gains(found: Kept) -> Gains:
    """Of each cell and score the main arm minus the map's reference, corrected over all with rows."""
    study = found.study
    assert study.map is not None
    out = {(s, cell): paired(*_ends(found, s, cell)) for s in study.map.scores for cell in cells(study.grid)}
    corrected(d for d in out.values() if d["n"])
    return out


def by_level(found: Kept) -> Gains:
    """The same of all cells together, and of those with one value of one axis; the level of all is "".

    Each seed counts once, with the mean over those cells; only seeds that have them all. Corrected over all levels and
    scores.
    """
    study = found.study
    assert study.map is not None
    levels = {f"{axis}={value}": (axis, value) for axis, values in study.grid.items() for value in values}
    out = {}
    for score in study.map.scores:
        for name, level in {"": None, **levels}.items():
            chosen = [c for c, values in cells(study.grid).items() if level is None or values[level[0]] == level[1]]
            both = [_ends(found, score, cell) for cell in chosen]
            out[score, name] = paired(_mean(left for left, _ in both), _mean(right for _, right in both))
    corrected(d for d in out.values() if d["n"])
    return out


def map_table(found: Kept) -> str:
    """The gains of `gains`, a cell a line."""
    return _table(found, gains(found), "cell")


def level_table(found: Kept) -> str:
    """The gains of `by_level`, a level a line."""
    return _table(found, by_level(found), "cells")


MAPS = {"map": map_table, "map-levels": level_table}


def _table(found: Kept, made: Gains, heading: str) -> str:
    study = found.study
    assert study.map is not None
    lines = []
    for place in dict.fromkeys(place for _, place in made):
        there = [made[score, place] for score in study.map.scores]
        if n := max(d["n"] for d in there):
            lines.append([place or "all", str(n), *(_text(d) for d in there)])
    head = [heading, "n", *(f"{study.scores[s]} [95 %]" for s in study.map.scores)]
    return table(head, lines)


def _text(gain: dict[str, Any]) -> str:
    """`+0.031 [+0.010, +0.052]`, bold where it is shown."""
    text = difference_text(gain)
    return f"**{text}**" if gain.get("verdict") in (ABOVE, BELOW) else text


def _ends(found: Kept, score: str, cell: str) -> tuple[Values, Values]:
    study = found.study
    assert study.map is not None
    left, right = (found.values(f"{arm}{AT}{cell}", score) for arm in (study.main, study.map.reference))
    return left, right


def _mean(columns: Iterable[Values]) -> Values:
    """Of each seed that is in all columns, the mean."""
    there = list(columns)
    return {seed: fmean(c[seed] for c in there) for seed in there[0] if all(seed in c for c in there)}
