"""Flower's SuperNode, with four things changed.

    python -m fedloom.deployment.supernode_process ARGUMENTS OF flower-supernode

It looks for messages four times a second instead of every three seconds: Flower has no setting for this, and the pause
is most of what a message costs. One idle silo asks its server four short questions a second over a connection that
stays open.

For the same reason it waits less for the parts of a message that are still on their way: see `patches`.

Its SuperExec is ours, for the same reason: see `superexec_process`.

And it runs our app alone: Flower's own would run whatever code the server sends along.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from fedloom.deployment.bundle import is_ours
from fedloom.federation.engines.flower.patches import look_often, patch

PAUSE = 0.25  # seconds
SUPEREXEC = [sys.executable, "-P", "-m", "fedloom.deployment.superexec_process"]
REFUSED = "fedloom: refused to run code that is not fedloom's, of run "  # what the supervisor looks for in the log


def only_ours(get_fab: Callable[[str, int], Any]) -> Callable[[str, int], Any]:
    """`get_fab` for an app that is ours; the message that brought another is left alone, and that is logged."""
    from flwr.supercore.run import RunNotRunningException

    def checked(fab_hash: str, run: int) -> Any:
        fab = get_fab(fab_hash, run)
        if not is_ours(fab.content):
            sys.stdout.write(f"{REFUSED}{run}\n")
            sys.stdout.flush()
            raise RunNotRunningException  # what Flower itself passes over in silence
        return fab

    return checked


def main() -> None:
    """Is `flower-supernode`."""
    from flwr.supernode import start_client_internal
    from flwr.supernode.cli import flower_supernode

    def sleep(seconds: float) -> None:
        time.sleep(min(seconds, PAUSE))

    def start(argv: Sequence[str]) -> Any:
        return subprocess.Popen([*SUPEREXEC, *argv[1:]] if argv[0] == "flower-superexec" else argv)

    def ours_alone(pull: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *, get_fab, **rest: pull(get_fab=only_ours(get_fab), **rest)

    patch(start_client_internal, "_pull_and_store_message", ours_alone, parameters=("get_fab",), for_safety=True)
    patch(start_client_internal, "subprocess", lambda old: SimpleNamespace(Popen=start))
    look_often(start_client_internal)
    # The module looks its clock up by name; everything but `sleep` stays as it is.
    patch(start_client_internal, "time", lambda clock: SimpleNamespace(**{**vars(clock), "sleep": sleep}))
    sys.argv[0] = "flower-supernode"
    flower_supernode()


if __name__ == "__main__":
    main()
