"""Writing to the terminal: results go to stdout, progress to stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

WIDE = 160  # columns where there is no terminal that knows better


def console(*, stderr: bool = False) -> Console:
    """A console on stdout or stderr as they are now; without a terminal, wide enough not to fold tables."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else WIDE, highlight=False)


class LiveView:
    """A picture on a terminal that is drawn again as work goes on. Use it as a context.

    It is made anew at every refresh, so that time runs on between events; lines are printed above it.
    """

    def __init__(self, console: Console, clock: Callable[[], float], *tasks: str) -> None:
        from rich.live import Live
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        texts = (TextColumn(f"{{task.{what}}}", markup=False) for what in ("description", "fields[facts]"))
        self.bars = Progress(SpinnerColumn(finished_text=" "), next(texts), BarColumn(30), next(texts), get_time=clock)
        self.tasks = {name: self.bars.add_task(name, facts="") for name in tasks}
        self.live = Live(get_renderable=self.picture, console=console, refresh_per_second=4)

    def picture(self) -> RenderableType:
        """What is shown now."""
        return self.bars

    def bar(self, task: str, name: str, done: int, total: int, *facts: str) -> None:
        """Bring a bar up to date: hidden without a `name`, moving to and fro without a `total`."""
        counts = [f"{min(done, total)}/{total}"] if total else []
        text = " ".join(fact for fact in (*counts, *facts) if fact)
        self.bars.update(
            self.tasks[task],
            description=name,
            completed=min(done, total),
            total=total or None,
            facts=text,
            visible=bool(name),
        )

    def filled(self, line: str) -> None:
        """Print a line above the picture."""
        self.live.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.live.stop()


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
