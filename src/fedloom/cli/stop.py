"""`fedloom stop`: have a run of this machine end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from fedloom.cli.screen import show

NOTHING_YET = "Nothing to resume yet: give the same command again, what was pretrained stays in the cache"


def stop(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run that is under way.")],
    now: Annotated[bool, typer.Option("--now", help="At once, as Ctrl-C does, not after its round.")] = False,
) -> None:
    """Have a run of this machine end, after its round or at once. It can be resumed.

    Example: fedloom stop runs/fedmmkt-flora-0
    """
    from fedloom.formatting import second_text
    from fedloom.runs.stop import ask_to_stop

    since = ask_to_stop(run, now)
    when = "now" if now else "after its round"
    if since is not None:
        at, ago = time.strftime("%H:%M:%S", time.localtime(since)), second_text(max(0, round(time.time() - since)))
        when += f" (it was asked to at {at}, {ago} ago)"
    rows = run / "metrics.jsonl"
    begun = rows.is_file() and rows.stat().st_size > 0
    show(f"{run} ends {when}. " + (f"Go on with: fedloom run --resume {run}" if begun or not now else NOTHING_YET))
