"""Tables and figures in README and docs/results that are made of kept rows, between markers.

    <!-- rows: STUDY TABLE -->              a table, as `study.py table STUDY` has it; `STUDY TABLE 2-9`: of those seeds
    ...
    <!-- end rows -->

    <!-- row: STUDY, ARM, SCORE, WHAT -->0.757<!-- end -->      a figure in a sentence; WHAT: see `FIGURES`

Where a study has no rows yet, the text between stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path

from evidence.machine import ROOT
from evidence.studies import BEFORE, load
from evidence.tables import NONE, Kept, claimed, difference_text, kept, spread_text, tables, tested, text
from fedloom.cli.compare import seed_list
from fedloom.comparison.statistics import spread, verdict_text
from fedloom.errors import BadInput, unknown
from fedloom.runs.disk import write_atomic

BLOCK = re.compile(r"(<!-- rows: *(\S+) +(\S+)(?: +([\d,-]+))? *-->\n)(.*?)(\n?<!-- end rows -->)", re.DOTALL)
INLINE = re.compile(r"(<!-- row: *([^>\n]+?) *-->)(.*?)(<!-- end -->)", re.DOTALL)


def _claim(found: Kept, reference: str, score: str) -> str:
    """What became of the claim that the main arm differs from this one in that score.

    Raises:
        BadInput: the study does not claim that.
    """
    main = found.study.main
    for claim, d in claimed(found):
        if (claim.arm, claim.reference, claim.score, claim.reference_score) == (main, reference, score, None):
            return verdict_text(d) if d["n"] else NONE
    raise BadInput(f"{found.study.name} claims nothing of {main} and {reference} in {score}")


FIGURES: Mapping[str, Callable[[Kept, str, str], str]] = {
    "mean": lambda found, arm, score: f"{spread(found.values(arm, score))['mean']:.3f}",
    "spread": lambda found, arm, score: spread_text(found.values(arm, score)),
    "n": lambda found, arm, score: str(len(found.values(arm, score))),
    # of the main arm minus this one
    "difference": lambda found, arm, score: difference_text(d) if (d := tested(found, score).get(arm)) else NONE,
    "verdict": lambda found, arm, score: verdict_text(d) if (d := tested(found, score).get(arm)) else NONE,
    "claim": _claim,
}


def pages(root: Path = ROOT) -> list[Path]:
    """Where markers are looked for."""
    return [root / "README.md", *sorted((root / "docs" / "results").glob("*.md"))]


def renewed(page: str, results: Path | None = None) -> str:
    """The text of a page with its blocks and figures made anew.

    Raises:
        BadInput: a marker names what is not there, or one is not closed.
    """

    @cache
    def rows_of(study: str) -> Kept:
        return kept(load(study), results)

    def block(match: re.Match[str]) -> str:
        found = rows_of(match[2])
        if match[3] not in tables(found.study):
            raise unknown("table", match[3], tables(found.study))
        if not found.rows:
            return match[0]
        return f"{match[1]}{text(found.only(seed_list(match[4] or '') or None), match[3])}\n{match[6].lstrip()}"

    def inline(match: re.Match[str]) -> str:
        words = [word.strip() for word in match[2].split(",")]
        if len(words) != 4:
            raise BadInput(f"<!-- row: {match[2]} -->: expected STUDY, ARM, SCORE, WHAT")
        study, arm, score, what = words
        found = rows_of(study)
        if what not in FIGURES:
            raise unknown("figure", what, FIGURES)
        if (name := arm.removesuffix(BEFORE)) not in found.study.arms:
            raise unknown("arm", name, found.study.arms)
        if not found.rows:
            return match[0]
        there = bool(found.values(arm, score))
        return f"{match[1]}{FIGURES[what](found, arm, score) if there else NONE}{match[4]}"

    if len(BLOCK.findall(page)) != page.count("<!-- rows:") or len(INLINE.findall(page)) != page.count("<!-- row:"):
        raise BadInput("a marker <!-- rows: STUDY TABLE --> or <!-- row: ... --> is not closed, or has another form")
    return INLINE.sub(inline, BLOCK.sub(block, page))


def outdated(found: Iterable[Path], results: Path | None = None, write: bool = False) -> list[Path]:
    """The pages that differ from what the rows give; with `write` they are brought up to date."""
    out = []
    for path in found:
        old = path.read_text(encoding="utf-8")
        try:
            new = renewed(old, results)
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from None
        if new != old:
            out.append(path)
            if write:
                write_atomic(path, new)
    return out
