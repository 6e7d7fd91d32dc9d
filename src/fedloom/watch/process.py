"""A run's live page in a process of its own, so that nothing it does can hold up or end the run.

This module (`python -m fedloom.watch.process FOLDER`) is that process; `LivePage` is who starts it.
"""

from __future__ import annotations

import os
import queue
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedloom.processes.child import Frame, FramedChild, python_environment
from fedloom.processes.parent import Parent
from fedloom.progress import Observer
from fedloom.watch.serve import page

_MODEST = 10  # niceness: the run comes first


class LivePage(Observer):
    """Has the page of a run served from when the run has its folder until `close`.

    say: is told the address; and, in a line, what went wrong: the run goes on all the same.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._begun = self._over = False
        self._child: FramedChild | None = None
        self._log = tempfile.TemporaryDirectory(prefix="fedloom-watch-", ignore_cleanup_errors=True)

    def placed(self, folder: Path) -> None:
        """The run's folder is there."""
        self._open(folder)

    def begin(self, facts: Mapping[str, Any]) -> None:
        """The run is set up, perhaps by another process."""
        self._open(Path(facts["folder"]))

    def close(self) -> None:
        """Ends the page; may be called twice."""
        self._over = True
        if self._child is not None:
            self._child.stop(1.0)
        self._log.cleanup()

    def _open(self, folder: Path) -> None:
        if self._begun:
            return
        self._begun = True
        frames: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        try:
            self._child = FramedChild(
                ["-m", "fedloom.watch.process", str(folder.resolve())],
                frames,
                env=python_environment(1),
                log=Path(self._log.name) / "log.txt",
                own_group=True,  # Ctrl-C is the run's to hear: the page lasts as long as that does
            )
        except OSError as error:
            self._say(f"no live page: {error}")
            return
        threading.Thread(target=self._listen, args=(self._child, frames), daemon=True).start()

    def _listen(self, child: FramedChild, frames: queue.SimpleQueue[Frame]) -> None:
        while (frame := frames.get()).header is not None:
            self._say(f"watch it at {frame.header['url']}")
        if not self._over:
            self._say(f"the live page has ended, the run goes on: {child.last_words()}")


def main() -> None:
    """Serve until the parent closes the pipe, or dies."""
    parent = Parent()
    os.nice(_MODEST)
    with page(Path(sys.argv[1])) as url:
        parent.send({"url": url})
        threading.Event().wait()


if __name__ == "__main__":
    main()
