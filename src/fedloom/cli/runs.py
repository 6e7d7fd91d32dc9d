"""`fedloom runs`: the run folders of a folder, newest first."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedloom.cli.options import JsonOption, tell
from fedloom.cli.screen import grid, show, show_json

if TYPE_CHECKING:
    from fedloom.runs.load import RunFiles

COLUMNS = ("run", "method", "data", "seed", "rounds", "state", "scores", "when")


def runs(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="The folder that holds the runs.")] = Path("runs"),
    json: JsonOption = False,
) -> None:
    """List the runs in a folder, newest first, with their state and scores.

    Example: fedloom runs --json
    """
    from fedloom.errors import BadInput, FedloomError
    from fedloom.runs.load import read_run

    if not folder.is_dir():
        raise BadInput(f"{folder}: there is no such folder. Name the one that holds the runs: fedloom runs FOLDER")
    found, broken = [], []
    for path in sorted(entry.parent for entry in folder.glob("*/config.yaml")):
        try:
            found.append(_facts(read_run(path)))
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


def _facts(run: RunFiles) -> dict[str, Any]:
    """What is listed of a run."""
    from fedloom.reporting.scores import before_after, told

    data = run.config.get("data")
    done = max((int(row.get("round", 0)) for row in run.rounds), default=None)
    scores = {score.key: before_after(score, run.summary, run.rounds)[1] for score in told(run.summary)}
    state = "not scored yet" if done is None else "unfinished"
    if run.finished:
        state = "finished" if (run.path / "report.html").is_file() else "finished, no report"
    changed = max(
        (run.path / name).stat().st_mtime
        for name in ("config.yaml", "metrics.jsonl", "summary.json")
        if (run.path / name).exists()
    )
    return {
        "run": str(run.path),
        "method": run.config.get("method"),
        "data": data.get("name") if isinstance(data, dict) else data,
        "seed": run.config.get("seed"),
        "round": done,
        "rounds": run.config.get("rounds"),
        "state": state,
        "scores": {key: value for key, value in scores.items() if value is not None},
        "when": datetime.fromtimestamp(changed).astimezone().isoformat(timespec="seconds"),
    }


def _line(row: dict[str, Any]) -> list[object]:
    """A row of the table: the first three scores, the time without its zone."""
    from fedloom.reporting.scores import SCORES

    named = {score.key: score for score in SCORES}
    scores = [f"{named[key].name} {named[key].say(value)}" for key, value in row["scores"].items() if key in named]
    rounds = f"{'–' if row['round'] is None else row['round']}/{row['rounds']}"
    when = row["when"][:16].replace("T", " ")
    return [row["run"], row["method"], row["data"], row["seed"], rounds, row["state"], ", ".join(scores[:3]), when]
