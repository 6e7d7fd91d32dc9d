"""The tables of a comparison as CSV, Markdown, LaTeX and on the terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fedloom.comparison.doubts import place_text
from fedloom.comparison.grids import Grid, GridEntry, grids, legend
from fedloom.comparison.measures import ADDED, MEASURES, RARE
from fedloom.reporting.health import RunWarning
from fedloom.reporting.text import warning_lines
from fedloom.runs.disk import write_atomic

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from fedloom.comparison.results import Comparison

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}
_PADDING = 3  # of a column on the terminal


def write_tables(found: Comparison) -> None:
    """Write cells.csv, table.csv, table.md and table.tex into the comparison's folder."""
    for name, text in (
        ("cells.csv", cells_csv(found)),
        ("table.csv", table_csv(found)),
        ("table.md", markdown(found)),
        ("table.tex", latex(found)),
    ):
        write_atomic(found.path / name, text)


def _csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """RFC 4180, with lines that end in a newline; None is an empty field."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return buffer.getvalue()


def cells_csv(found: Comparison) -> str:
    """The long form: a line for each cell and round, with every score, and bytes and seconds up to then."""
    points = [point for c in found.cells for point in c["rounds"]]
    there = {k for point in points for k, value in point.items() if value is not None}
    keys = [k for k in MEASURES if k in there or not (k in RARE or k.startswith(ADDED))]
    rows = [
        [c[k] for k in ("row", "column", "seed", "state", "folder")] + [point["round"], *(point.get(k) for k in keys)]
        for c in found.cells
        for point in c["rounds"]
    ]
    return _csv(["row", "column", "seed", "state", "folder", "round", *keys], rows)


def table_csv(found: Comparison) -> str:
    """A line for each row, column and score, figures in full."""
    own = ("row", "column", "score", "n", "planned", "mean", "sd")
    paired = ("n", "mean", "low", "high", "p", "p_holm", "p_flip", "effect", "effect_low", "effect_high", "verdict")
    rows = [[*(e[k] for k in own), *((e["difference"] or {}).get(k) for k in paired)] for e in found.tree["table"]]
    return _csv([*own, *(f"difference_{k}" for k in paired)], rows)


def markdown(found: Comparison) -> str:
    """The tables in Markdown, best values bold."""
    parts = [f"# {found.plan.title or found.tree['name']}", found.plan.note]
    for grid in grids(found):
        lines = [["", *map(_md, grid.head)], ["---", *["---:"] * len(grid.head)]]
        lines += [[_md(name), *map(_md_entry, line)] for name, line in grid.lines]
        parts += [f"## {_md(grid.title)}" if grid.title else ""]
        parts += ["\n".join(f"| {' | '.join(line)} |" for line in lines), legend(found, grid)]
    if doubts := [f"- `{w.name}`: {w.message}. {w.advice}" for w in _doubts(found)]:
        parts += ["## Before you trust these scores", "\n".join(doubts)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _md(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*").replace("\n", " ")


def _md_entry(entry: GridEntry) -> str:
    text = f"**{entry.whole}**" if entry.best else entry.whole
    return f"{text}<br>{entry.difference}" if entry.difference else text


def latex(found: Comparison) -> str:
    r"""The tables in LaTeX with booktabs, one `table` each; needs `\usepackage{booktabs}`."""
    parts = [r"% \usepackage{booktabs}"]
    for grid in grids(found):
        caption = ": ".join(x for x in (found.plan.title, grid.title) if x)
        body = []
        for name, line in grid.lines:
            body.append([escape(name), *map(_tex_entry, line)])
            if any(entry.difference for entry in line):
                body.append(["", *(_tex_small(entry.difference) for entry in line)])
        parts.append(
            "\n".join(
                [
                    r"\begin{table}",
                    r"\centering",
                    rf"\caption{{{escape(caption)}. {escape(legend(found, grid))}}}",
                    rf"\begin{{tabular}}{{l{'r' * len(grid.head)}}}",
                    r"\toprule",
                    " & ".join(["", *map(escape, grid.head)]) + r" \\",
                    r"\midrule",
                    *(" & ".join(line) + r" \\" for line in body),
                    r"\bottomrule",
                    r"\end{tabular}",
                    r"\end{table}",
                ]
            )
        )
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Text that stands for itself in LaTeX; signs that its fonts may lack are spelled."""
    safe = "".join(_LATEX.get(sign, sign) for sign in " ".join(text.split()))
    if safe.startswith(("[", "*")):  # at the start of a line, these would be taken for options of the one before
        safe = f"{{{safe[0]}}}{safe[1:]}"
    return safe.replace("±", r"$\pm$").replace("−", "$-$").replace("–", "--")


def _tex_entry(entry: GridEntry) -> str:
    text = escape(entry.text)
    text = rf"\textbf{{{text}}}" if entry.best else text
    return rf"{text} (n = {entry.short})" if entry.short else text


def _tex_small(text: str) -> str:
    return rf"{{\footnotesize {escape(text)}}}" if text else ""


def terminal(found: Comparison, width: int) -> list[Table | Text]:
    """The tables for the terminal, each with its legend, then warnings and notes on the data."""
    from rich.text import Text

    notes = [Text(f"data: {line}") for line in found.data_notes]
    return [*shown(found, width), *warning_lines(_doubts(found)), *notes]


def shown(found: Comparison, width: int) -> list[Table | Text]:
    """The tables, each with its legend; one that is wider is divided by columns."""
    from rich.text import Text

    parts: list[Table | Text] = []
    for grid in grids(found):
        parts += [_rich(found, part) for part in divided(grid, width)]
        parts.append(Text(f"{legend(found, grid)}\n", style="dim italic"))
    return parts


def _doubts(found: Comparison) -> list[RunWarning]:
    """The warnings, those on runs with the rows and seeds that they are of."""
    done = sum(bool(cell["scores"]) for cell in found.cells)
    placed = ((w, place_text(w, done)) for w in found.warnings)
    return [
        RunWarning(w["name"], f"{place}: {w['message']}" if place else w["message"], w["advice"], w["level"])
        for w, place in placed
    ]


def divided(grid: Grid, width: int) -> list[Grid]:
    """Tables of as many columns of `grid` as `width` holds without folding a figure; each has one at least."""
    names = max(len(name) for name, _ in grid.lines)
    parts: list[list[int]] = []
    room = 0
    for i, head in enumerate(grid.head):
        words = (
            *head.split(),
            *(text for _, line in grid.lines for text in (line[i].whole, line[i].difference)),
        )
        need = max(map(len, words)) + _PADDING
        if not parts or need > room:
            parts.append([])
            room = width - names - _PADDING
        parts[-1].append(i)
        room -= need
    return [
        replace(
            grid,
            head=tuple(grid.head[i] for i in part),
            lines=tuple((name, tuple(line[i] for i in part)) for name, line in grid.lines),
        )
        for part in parts
    ]


def _rich(found: Comparison, grid: Grid) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = ": ".join(x for x in (found.plan.title, grid.title) if x)
    table = Table(title=Text(title), title_justify="left")
    table.box = box.SIMPLE_HEAD
    table.add_column("")
    for name in grid.head:
        table.add_column(Text(name), justify="right")
    for name, line in grid.lines:
        cells = []
        for entry in line:
            text = Text(entry.whole, style="bold green" if entry.best else "")
            if entry.difference:
                text.append(f"\n{entry.difference}", style="dim not bold")
            cells.append(text)
        table.add_row(Text(name), *cells)
    return table
