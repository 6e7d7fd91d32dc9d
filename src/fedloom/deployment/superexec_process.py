"""Flower's SuperExec of a silo, whose ClientApps start warm.

    python -m fedloom.deployment.superexec_process ARGUMENTS OF flower-superexec

Flower starts a ClientApp for each message, as a new process that imports Flower again: a second of one core, and twice
that on two. Here a process that has imported all of it, and done nothing else, stands by and forks for each message.
Each ClientApp is a process of its own as before.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from fedloom.federation.engines.flower.patches import patch

APP = "flwr-clientapp"


class Warm:
    """A process that waits, and forks to run `main` with each command line that it is sent."""

    def __init__(self) -> None:
        """Forks. In the new processes this returns only in those that are to run a command: see `command`."""
        self.command: list[str] | None = None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork():
            theirs.close()
            self._orders = ours
            return
        ours.close()
        self._orders = theirs
        self._stand_by()

    def start(self, argv: Sequence[str]) -> None:
        """Runs `argv` in a fork. Raises OSError when the waiting process is gone."""
        self._orders.send(json.dumps(list(argv)).encode())

    def _stand_by(self) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for what is forked
        while order := self._orders.recv(65536):
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                self._orders.close()
                self.command = json.loads(order)
                return
        os._exit(0)  # the SuperExec is gone, however it went


def main() -> None:
    """Is `flower-superexec`, and in the processes that it starts `flwr-clientapp`."""
    from flwr.supernode.cli import flwr_clientapp

    import fedloom.federation.engines.flower.client_app  # noqa: F401  for the forks

    warm = Warm()  # before anything starts a thread
    if warm.command is not None:
        sys.argv = warm.command
        flwr_clientapp()
        return

    from flwr.supercore.cli import flower_superexec
    from flwr.supercore.superexec.executor import subprocess_executor

    def start(argv: Sequence[str], **how: Any) -> Any:
        if argv[0] == APP:
            try:
                return warm.start(argv)
            except OSError:  # somebody has ended it: as Flower does, then
                pass
        return subprocess.Popen(argv, **how)

    popen = SimpleNamespace(Popen=start, DEVNULL=subprocess.DEVNULL)
    patch(subprocess_executor, "subprocess", lambda old: popen)
    sys.argv[0] = "flower-superexec"
    flower_superexec()


if __name__ == "__main__":
    main()
