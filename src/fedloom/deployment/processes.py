"""Child processes that end with us, with a log each."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from fedloom.errors import FedloomError
from fedloom.runs.disk import locked

# Runs before the program proper: has the kernel end it when the one that started it dies, however that dies. (Linux
# means the thread that started it: start children in one that lives as long as they are to.) A shim, because code
# between fork and exec is unsafe in a process with threads.
_TETHER = """\
import ctypes, os, signal, sys
if sys.platform.startswith("linux"):
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execvpe(sys.argv[2], sys.argv[2:], os.environ)
"""


class Child:
    """One child and what descends from it, in a process group of its own, so that Ctrl-C reaches us alone.

    Its output goes to the end of `log`. `heartline`: its standard input is a pipe from us, whose end it may watch.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str],
        cwd: Path | None = None,
        heartline: bool = False,
    ) -> None:
        self.log = log
        self._asked = self._gone = False
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log_start = self._read = log.stat().st_size if log.exists() else 0
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid()), *argv],
                stdin=subprocess.PIPE if heartline else subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def alive(self) -> bool:
        return self.process.poll() is None

    def fate(self) -> str:
        """How it ended, in words."""
        code = self.process.poll()
        if code is None:
            return f"process {self.pid} runs"
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        return f"process {self.pid} {how}"

    def said(self, most: int = 4000) -> str:
        """The end of what it has written to its log, `most` bytes."""
        with self.log.open("rb") as file:
            file.seek(max(self.log_start, self.log.stat().st_size - most))
            return file.read().decode(errors="replace")

    def news(self) -> list[str]:
        """The lines that it has written to its log since the last time."""
        with self.log.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = new.rfind(b"\n") + 1
        self._read += whole
        return new[:whole].decode(errors="replace").splitlines()

    def ask_to_stop(self, number: int = signal.SIGTERM) -> None:
        """Asks it to end, once, and does not wait. SIGTERM: a shell's `&` has its children ignore SIGINT."""
        if not self._asked and self.alive():
            self._asked = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def stop(self, grace: float = 10.0) -> None:
        """Asks it to end, after `grace` seconds makes it, and leaves none of its group; may be called twice."""
        if self._gone:
            return
        self.ask_to_stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(grace)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        self._gone = True  # from here on its number may be another's
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()


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


def is_held(lock: Path) -> bool:
    """Whether a process that is up holds that lock file, as `runs.disk.locked` does."""
    try:
        with locked(lock, wait=False):
            return False
    except BlockingIOError:
        return True


def speaks_tls(address: str, patience: float = 2.0) -> bool:
    """Whether a TLS server answers at host:port within `patience` seconds, whoever it is."""
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context()
    context.check_hostname = False  # asked is only whether it is TLS at all
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((host.strip("[]"), int(port)), patience) as plain:
            context.wrap_socket(plain).close()
    except (OSError, ValueError):  # ssl's own errors are of the first kind
        return False
    return True


def free_port(host: str = "127.0.0.1") -> int:
    """A port of this machine that nobody listens on just now. Raises FedloomError for an address that is not ours."""
    return _bound(host, 0)


def check_port(host: str, port: int) -> None:
    """Raises FedloomError when nobody can listen at that port, as when somebody does already."""
    _bound(host, port)


def _bound(host: str, port: int) -> int:
    """The port that could be listened at."""
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            # As servers do: a port whose last server has just ended is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
            return int(probe.getsockname()[1])
    except OSError as error:
        raise FedloomError(f"cannot listen at port {port} of {host}: {error.strerror or error}") from None
