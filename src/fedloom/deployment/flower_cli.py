"""Flower's own command line, kept running: a call costs milliseconds instead of a new process each.

This module (`python -m fedloom.deployment.flower_cli`) is the child; `FlowerCli` is who starts it.
"""

from __future__ import annotations

import io
import json
import queue
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedloom.errors import FedloomError
from fedloom.processes.child import Frame, FramedChild
from fedloom.processes.parent import Parent

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class FlowerCli:
    """Calls `flwr WORDS --format json` in one child process, with the environment and for its log the file given."""

    def __init__(self, env: Mapping[str, str], log: Path) -> None:
        self._env, self._log = env, log
        self._frames: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._child: FramedChild | None = None

    def call(self, *words: str) -> dict[str, Any]:
        """What Flower answers. Raises FedloomError with its reason when it fails, also when it only says so."""
        if self._child is None or not self._child.alive():
            self.close()
            self._frames = queue.SimpleQueue()
            module = ["-m", "fedloom.deployment.flower_cli"]
            self._child = FramedChild(module, self._frames, env=self._env, log=self._log, own_group=True)
        try:
            self._child.send({"words": [*words, "--format", "json"]})
            frame = self._frames.get()
        except OSError as error:
            raise FedloomError(f"flwr {words[0]}: {error}") from error
        except KeyboardInterrupt:
            self.close()  # or the next call would read this one's answer
            raise
        return _answer(words, frame.header["text"] if frame.header else self._child.last_words())

    def close(self) -> None:
        """Ends the child, if there is one."""
        if self._child is not None:
            self._child.stop(0.0)
            self._child = None


def _answer(words: tuple[str, ...], said: str) -> dict[str, Any]:
    said = _COLOURS.sub("", said)  # where FORCE_COLOR is set, as in notebooks
    try:
        answer = json.loads(said[said.index("{") :])
    except ValueError:
        raise FedloomError(f"flwr {' '.join(words[:2])}: {' '.join(said.split())[-500:]}") from None
    if not answer.get("success"):
        why = str(answer.get("error-message") or answer.get("error") or said)
        lines = [line for line in why.splitlines() if not line.startswith("Using SuperLink")]
        raise FedloomError(f"flwr {' '.join(words[:2])}: {' '.join(' '.join(lines).split())[:500]}")
    return dict(answer)


def main() -> None:
    """Calls Flower for each frame, and sends what it has printed."""
    parent = Parent()
    from flwr.cli.app import app

    while True:
        order, _ = parent.receive()
        text = io.StringIO()
        # Flower itself redirects what is printed, and then goes back to the originals.
        sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = text  # type: ignore[misc,assignment]
        try:
            app(order["words"], standalone_mode=False)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it is the answer, whatever it is
            if str(error) not in ("", "0"):
                text.write(f"{type(error).__name__}: {error}\n")
        parent.send({"text": text.getvalue()})


if __name__ == "__main__":
    main()
