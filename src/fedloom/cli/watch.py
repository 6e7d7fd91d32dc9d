"""`fedloom watch`: a live page of a run, a comparison, a federation or a folder of runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer


def watch(
    run: Annotated[
        Path, typer.Argument(metavar="[RUN]", help="Folder of a run, a comparison, a server or of several runs.")
    ] = Path("runs"),
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="Port to listen on; 0: any.")] = 0,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Show a run in the browser as it goes on, until Ctrl-C.

    Also of finished runs, of comparisons, of a server and its silos, and, without RUN, of all runs in runs/.
    The page is on this machine alone (127.0.0.1), and only who has the whole address sees it. It reads the folder and
    nothing else: whatever is done to the page, the run does not notice.

    Example: fedloom watch runs/fedmmkt-flora-0
    """
    from fedloom.cli.service import say, until_asked_to_end
    from fedloom.watch.places import kind_of
    from fedloom.watch.serve import page, require_web

    require_web()
    kind_of(run)
    with until_asked_to_end(), page(run.resolve(), port) as url:
        say(f"{run} is shown at {url}")
        if open_:
            import webbrowser

            webbrowser.open(url)
        while True:
            time.sleep(1.0)
