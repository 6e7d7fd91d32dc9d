"""A child process as the process that started it holds it."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fedloom.processes.frames import read_frame, write_frame

_THREAD_LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# Runs before the program proper: has the kernel end it when its parent dies, however that dies. (Linux means the thread
# that started it: start children in one that lives as long as they are to.) A separate program, because code between
# fork and exec is unsafe in a process with threads.
_TETHER = """\
import ctypes, os, signal, sys
if sys.platform.startswith("linux"):
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execvpe(sys.argv[2], sys.argv[2:], os.environ)
"""
_ERROR = re.compile(r"error|exit code|cannot|in use|invalid", re.IGNORECASE)
# Colours, and which of uvicorn's loggers a line is from.
_NOISE = re.compile(r"\x1b\[\d+m|^\S+Z (?:INFO|WARNING|ERROR) \[uvicorn\.\w+\] ", re.MULTILINE)


def python_environment(threads: int | None = None) -> dict[str, str]:
    """This process's environment for a Python that finds the same packages, with `threads` threads for arithmetic."""
    limits = {} if threads is None else dict.fromkeys(_THREAD_LIMITS, str(threads))
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return {**os.environ, **limits, "PYTHONPATH": path}


class Child:
    """One child process. Its standard output and error go to the end of `log`; it ends when this process does.

    own_group: it leads a process group and session of its own: Ctrl-C reaches this process alone, and `stop` ends
    what the child itself has started too. stdin: its standard input is a pipe, whose end it may watch. framed: standard
    input and output are pipes for frames, see `FramedChild`.
    """

    what = "process"  # in messages

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path | None,
        env: Mapping[str, str],
        cwd: Path | None = None,
        own_group: bool = True,
        stdin: bool = False,
        framed: bool = False,
    ) -> None:
        if not framed:  # one that reads frames ends with its pipe
            argv = [sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid()), *argv]
        self.log, self.own_group = log, own_group
        self._asked = self._gone = False
        self.log_start = self._read = log.stat().st_size if log is not None and log.exists() else 0
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") if log is not None else contextlib.nullcontext() as out:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE if stdin or framed else subprocess.DEVNULL,
                stdout=subprocess.PIPE if framed else out,
                stderr=out,
                env=dict(env),
                cwd=cwd,
                start_new_session=own_group,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def alive(self) -> bool:
        return self.process.poll() is None

    def exit_reason(self) -> str:
        """How it ended, in words."""
        code = self.process.poll()
        if code is None:
            how = "is running"
        else:
            how = f"ended with status {code}" if code >= 0 else f"was killed by signal {-code} ({_signal(-code)})"
        return f"{self.what} {self.pid} {how}"

    def logged(self, most: int = 4000) -> str:
        """The end of what it has written to its log, at most `most` bytes."""
        if self.log is None:
            return ""
        with self.log.open("rb") as file:
            file.seek(max(self.log_start, self.log.stat().st_size - most))
            return file.read().decode(errors="replace")

    def new_lines(self) -> list[str]:
        """The whole lines that it has written to its log since the last call."""
        assert self.log is not None
        with self.log.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = new.rfind(b"\n") + 1
        self._read += whole
        return new[:whole].decode(errors="replace").splitlines()

    def last_words(self) -> str:
        """What its log ends with, as `telling_line` has it."""
        return telling_line(self.logged())

    def ask_to_stop(self) -> None:
        """Asks it to end, once, and does not wait. SIGTERM: a shell's `&` has its children ignore SIGINT."""
        if not self._asked and self.alive():
            self._asked = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once, with all of its group if it has one of its own."""
        if self.own_group:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        else:
            self.process.kill()

    def stop(self, grace: float = 10.0) -> None:
        """Asks it to end, and kills it and its group after `grace` seconds; may be called twice."""
        if self._gone:
            return
        self.ask_to_stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(grace)
        self.kill()
        self.process.wait()
        self._gone = True  # from here on its number may be another's
        self._close()

    def _close(self) -> None:
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()


class Frame(NamedTuple):
    """What a child wrote, and when (time.monotonic()); `header` None: it writes no more."""

    child: Any
    header: dict[str, Any] | None
    payloads: tuple[bytes, ...]
    arrived: float


class FramedChild(Child):
    """A Python child that is sent frames, and whose frames a thread puts into `frames`. See `parent.Parent`.

    It is a plain child, not one of multiprocessing: the caller's script is not run again in it, so it needs no
    `if __name__ == "__main__"`, and limits of threads hold before anything is imported. It ends when its pipe closes,
    so also when this process does.

    Args:
        python: what Python is given, such as `-m module`.
        log: where its standard error goes, and what libraries print; None: to that of this process.
    """

    def __init__(
        self,
        python: Sequence[str],
        frames: queue.SimpleQueue[Frame],
        *,
        env: Mapping[str, str],
        log: Path | None = None,
        own_group: bool = False,
    ) -> None:
        super().__init__([sys.executable, "-P", *python], log=log, env=env, own_group=own_group, framed=True)
        self._frames = frames  # filled by a thread, so that a child never waits for this process to listen
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def send(self, header: Mapping[str, Any], *payloads: bytes) -> None:
        """Sends a frame. Raises OSError when the child is dead."""
        assert self.process.stdin is not None
        write_frame(self.process.stdin, header, *payloads)

    def exit_reason(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):  # its pipe closes a moment before it ends
            self.process.wait(1.0)
        return super().exit_reason().replace("is running", "closed its pipe")

    def ask_to_stop(self) -> None:
        """Closes its pipe, upon which it ends itself."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def _close(self) -> None:
        self._reader.join(1.0)
        # While a process that the child has forked holds the pipe, closing it here would wait for that one.
        if not self._reader.is_alive() and self.process.stdout is not None:
            self.process.stdout.close()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            while (frame := read_frame(self.process.stdout)) is not None:
                self._frames.put(Frame(self, *frame, time.monotonic()))
        self._frames.put(Frame(self, None, (), time.monotonic()))


def alive(pid: int) -> bool:
    """Whether that process runs. One that has ended and that nobody has waited for yet does not."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return True


def telling_line(log: str) -> str:
    """What a log ends with, as one line: the last line that names an error, else the last of all."""
    lines = [" ".join(line.split()) for line in _NOISE.sub("", log).splitlines() if line.strip()]
    telling = [line for line in lines if _ERROR.search(line)]
    return (telling or lines or ["its log is empty"])[-1][-300:]


def _signal(number: int) -> str:
    return signal.strsignal(number) or "unknown"
