"""`fedloom report`: one HTML page for one run, or for several side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedloom.cli.screen import show


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="The page to write.")] = None,
) -> None:
    """Write a run's report, or compare several.

    The page needs nothing else.
    By default the page is report.html in the run's folder; for several, comparison.html beside the first.

    Example: fedloom report runs/fedmmkt-flora-0 runs/standalone-flora-0 --out compared.html
    """
    from fedloom.reporting.html import write_report

    show(f"report {write_report(runs, out)}")
