"""`fedloom runs`: the run folders of a folder, newest first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fedloom.cli.options import JsonOption, tell
from fedloom.cli.screen import grid, show, show_json

COLUMNS = ("run", "method", "data", "seed", "rounds", "state", "scores", "when")


def runs(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="The folder that holds the runs.")] = Path("runs"),
    json: JsonOption = False,
) -> None:
    """List the runs in a folder, newest first, with their state and scores.

    Example: fedloom runs --json
    """
    from fedloom.errors import BadInput, FedloomError
    from fedloom.reporting.listing import run_entry
    from fedloom.runs.load import read_run

    if not folder.is_dir():
        raise BadInput(f"{folder}: there is no such folder. Name the one that holds the runs: fedloom runs FOLDER")
    found, broken = [], []
    for path in sorted(entry.parent for entry in folder.glob("*/config.yaml")):
        try:
            found.append(run_entry(read_run(path)))
        except FedloomError as error:
            broken.append(f"not listed: {error}")
    found.sort(key=lambda row: str(row["when"]), reverse=True)
    tell(broken)
    if json:
        show_json(found)
    elif found:
        show(grid(COLUMNS, [_line(row) for row in found], numbers=(3,)), "Look at one with: fedloom report RUN")
    else:
        show(f"{folder} holds no runs.")


def _line(row: dict[str, Any]) -> list[object]:
    """A row of the table: the first three scores, the time without its zone."""
    from fedloom.reporting.listing import round_text, score_texts

    when = row["when"][:16].replace("T", " ")
    facts = [row[key] for key in ("run", "method", "data", "seed")]
    return [*facts, round_text(row), row["state"], score_texts(row), when]
