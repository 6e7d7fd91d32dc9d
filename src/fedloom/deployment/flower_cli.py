"""Flower's own command line, kept running: a call costs milliseconds instead of a new process each.

    python -m fedloom.deployment.flower_cli        reads a JSON list of words a line, writes what Flower says

This module is the child; `FlowerCli` is who starts it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from fedloom.errors import FedloomError

_END = "\x1e"  # after each answer, on a line of its own


class FlowerCli:
    """Calls `flwr WORDS --format json` in one child process, with the environment given."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = dict(env)
        self._child: subprocess.Popen[str] | None = None

    def call(self, *words: str) -> dict[str, Any]:
        """What Flower answers. Raises FedloomError with its reason when it fails, also when it only says so."""
        try:
            return _answer(words, "".join(self._said(words)))
        except OSError as error:
            raise FedloomError(f"flwr {words[0]}: {error}") from error
        except KeyboardInterrupt:
            self.close()  # or the next call would read this one's answer
            raise

    def _said(self, words: tuple[str, ...]) -> Iterator[str]:
        """The lines of the answer. A child that dies ends them; the next call starts another."""
        if self._child is None or self._child.poll() is not None:
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "fedloom.deployment.flower_cli"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=self._env,
                start_new_session=True,
            )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps([*words, "--format", "json"]) + "\n")
        self._child.stdin.flush()
        for line in self._child.stdout:
            if line.startswith(_END):
                return
            yield line

    def close(self) -> None:
        """Ends the child, if there is one."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None


def _answer(words: tuple[str, ...], said: str) -> dict[str, Any]:
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
    """Calls Flower for each line of standard input."""
    from flwr.cli.app import app

    for line in sys.stdin:
        try:
            app(json.loads(line), standalone_mode=False)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it is the answer, whatever it is
            if str(error) not in ("", "0"):
                sys.stdout.write(f"{type(error).__name__}: {error}\n")
        sys.stdout.write(f"\n{_END}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
