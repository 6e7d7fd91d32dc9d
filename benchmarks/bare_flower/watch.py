"""CPU seconds and peak memory of processes and all that they start, looked at from outside (Linux: /proc)."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Process:
    """One process seen: all that its command ever was, when (since 1970), its highest resident memory in bytes."""

    command: str
    first: float
    last: float = 0.0
    peak: int = 0


@dataclass
class Watch:
    """Looks every `every` seconds at the trees under `roots`, name -> process id; a context.

    A process that ends between two looks keeps what the last one saw.
    """

    roots: Mapping[str, int]
    every: float = 0.05
    seen: dict[int, Process] = field(default_factory=dict)
    cpu: list[tuple[float, float]] = field(default_factory=list)  # time, CPU seconds of all trees so far

    def __enter__(self) -> Watch:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            now, total = time.time(), 0.0
            for root in self.roots.values():
                total += sum(self._look(pid, now) for pid in tree(root))
            self.cpu.append((now, total))
            self._stop.wait(self.every)

    def _look(self, pid: int, now: float) -> float:
        """CPU seconds of the process and of its children that have ended."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            status = Path(f"/proc/{pid}/status").read_text()
            words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            if pid not in self.seen:
                self.seen[pid] = Process(words, now)
            elif words not in self.seen[pid].command:  # Ray's processes change their names
                self.seen[pid].command += f" {words}"
        except OSError:
            return 0.0
        process = self.seen[pid]
        if fields[0] != "Z":  # it has not ended, with nobody to hear of it
            process.last = now
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                process.peak = max(process.peak, 1024 * int(line.split()[1]))
        return sum(map(int, fields[11:15])) / TICK

    def cpu_between(self, start: float, end: float) -> float:
        """CPU seconds of all trees from `start` to `end`, each to the nearest look."""

        def at(t: float) -> float:
            return min(self.cpu, key=lambda look: abs(look[0] - t))[1] if self.cpu else 0.0

        return at(end) - at(start)

    def peak_between(self, start: float, end: float, *words: str) -> int:
        """Bytes: the highest peak of any process alive then whose command holds one of `words`."""
        alive = [p for p in self.seen.values() if p.first <= end and p.last >= start]
        return max((p.peak for p in alive if any(w in p.command for w in words)), default=0)


def tree(pid: int) -> list[int]:
    """The process and all its living descendants."""
    found = [pid]
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += tree(int(child))
    except OSError:  # it has just ended
        pass
    return found
