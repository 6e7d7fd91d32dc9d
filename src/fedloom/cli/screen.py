"""Writing to the terminal: results go to stdout, progress to stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

WIDE = 160  # columns where there is no terminal that knows better


def console(*, stderr: bool = False) -> Console:
    """A console on stdout or stderr as they are now; without a terminal, wide enough not to fold tables."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else WIDE, highlight=False)


def show(*parts: RenderableType) -> None:
    """Print tables and texts on stdout. A string is taken as it is, not as markup."""
    screen = console()
    for part in parts:
        screen.print(part, markup=False, soft_wrap=isinstance(part, str))


def show_json(value: Any) -> None:
    """Print a value as JSON on stdout; NaN and infinity become null."""
    from fedloom.runs.disk import json_text

    typer.echo(json_text(value).rstrip())


def grid(columns: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[int] = ()) -> Any:
    """A plain table; the columns in `numbers` are aligned to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(columns):
        table.add_column(name, justify="right" if i in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    return table
