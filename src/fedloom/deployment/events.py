"""A run's events (see `progress.Observer`) as lines of a file, for another process to follow or to read later.

{"event": "begin" | "notes" | "stage" | "at" | "phase" | "within" | "round" | "end", "arguments": [...]}
                                                                                      of `progress.Observer`
{"event": "process", "pid": 1234}                                                     first
{"event": "over", "folder": "...", "error": null | "...", "bad_input": false}         last

Each line also has a `time`, in seconds since 1970.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedloom.deployment.shapes import read_event
from fedloom.errors import BadInput, FedloomError
from fedloom.federation.host import one_line
from fedloom.processes.child import alive
from fedloom.progress import Observer
from fedloom.runs.disk import append_line, explained, json_line

_PACE = 0.5  # seconds between lines of `at`, and of `within`


class EventLog(Observer):
    """Writes each event to `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder: str | None = None
        self._last_at = 0.0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._write({"event": "process", "pid": os.getpid()})

    def stage(self, name: str, total: int | None = None) -> None:
        self._last_at = 0.0
        self._tell("stage", name, total)

    def at(self, done: int, note: str = "") -> None:
        if time.monotonic() - self._last_at >= _PACE:
            self._last_at = time.monotonic()
            self._tell("at", done, note)

    def notes(self, lines: Sequence[str]) -> None:
        self._tell("notes", list(lines))

    def begin(self, facts: Mapping[str, Any]) -> None:
        self.folder = str(facts["folder"])
        self._tell("begin", {**facts, "folder": self.folder})

    def phase(self, round: int, name: str) -> None:
        self._tell("phase", round, name)

    def within(self, done: int, total: int, doing: str) -> None:
        if time.monotonic() - self._last_at >= _PACE:
            self._last_at = time.monotonic()
            self._tell("within", done, total, doing)

    def round(self, row: Mapping[str, Any]) -> None:
        self._tell("round", row)

    def end(self, summary: Mapping[str, Any]) -> None:
        self._tell("end", summary)

    def over(self, folder: Path | None, error: BaseException | None = None) -> None:
        """The run has come to its end, or could not go on."""
        where = str(folder) if folder is not None else self.folder
        line = one_line(error) if error is not None else None
        if isinstance(error, FedloomError):  # its message is for people as it is
            line = " ".join(str(error).split()) or line
        self._write({"event": "over", "folder": where, "error": line, "bad_input": isinstance(error, BadInput)})

    def _tell(self, event: str, *arguments: Any) -> None:
        self._write({"event": event, "arguments": arguments})

    def _write(self, line: Mapping[str, Any]) -> None:
        append_line(self.path, json_line({**line, "time": round(time.time(), 3)}))


class EventClock:
    """For an observer of `follow`: the time at which the event being passed on was written."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def follow(
    path: Path,
    observer: Observer,
    watch: Callable[[], None],
    *,
    clock: EventClock | None = None,
    start: float = 120.0,
    pause: float = 0.2,
) -> Path:
    """Passes the events in `path` to `observer` as they are written, until the run is over; the run's folder.

    watch: called between looks; what it raises ends the following. clock: is set to each event's time. start: seconds
    until the first line must be there. Raises what the run failed with: BadInput or FedloomError; FedloomError when
    its process is gone.
    """
    at, pid, begun, gone = 0, 0, time.monotonic(), False
    while True:
        lines, at = _new_lines(path, at)
        for line in lines:
            if clock is not None:
                clock.now = float(line.get("time", clock.now))
            event = line.get("event")
            if event == "process":
                pid = line["pid"]
            elif event == "over":
                return _result(line)
            elif event in ("stage", "at", "notes", "begin", "phase", "within", "round", "end"):
                getattr(observer, event)(*line["arguments"])
        if gone and not lines:
            raise FedloomError(f"the run's process {pid} has died; its last output is in {run_log(path)}")
        gone = bool(pid) and not alive(pid)  # looked at once more: it may have written just before it ended
        if not pid and time.monotonic() - begun > start:
            raise FedloomError(f"the run did not begin within {start:g} s")
        watch()
        time.sleep(pause)


def run_log(path: Path) -> Path:
    """Where the process whose events are written to `path` logs what went wrong, tracebacks too."""
    return path.parent.parent / "logs" / f"{path.stem}.log"


def run_status(path: Path) -> dict[str, Any]:
    """The status of an event file's run: pid, folder, round, rounds, and once it is over `error` (None: it is done).

    state: waiting (nothing written yet), running, died (its process is gone, unfinished), failed, done.
    """
    found = _last_status(path)
    if found["state"] == "running" and not alive(found["pid"]):
        found = _last_status(path)  # once more: it may have written its end just before it ended
        if found["state"] == "running":
            found["state"] = "died"
    return found


def _last_status(path: Path) -> dict[str, Any]:
    """The status by the event file alone, whether or not the process still runs."""
    found: dict[str, Any] = {"state": "waiting", "pid": None, "folder": None, "round": None, "rounds": None}
    for line in _new_lines(path, 0)[0]:
        arguments = line.get("arguments", ())
        match line.get("event"):
            case "process":
                found |= {"pid": line["pid"], "state": "running"}
            case "begin":
                found |= {"folder": arguments[0]["folder"], "rounds": arguments[0]["rounds"]}
            case "phase":
                found["round"] = arguments[0]
            case "over":
                found |= {"state": "done" if line["error"] is None else "failed", "error": line["error"]}
                found["folder"] = line["folder"] or found["folder"]
    return found


def _result(line: Mapping[str, Any]) -> Path:
    if line["error"] is not None:
        raise (BadInput if line.get("bad_input") else FedloomError)(line["error"])
    return Path(line["folder"])


def _new_lines(path: Path, at: int) -> tuple[list[dict[str, Any]], int]:
    """The whole lines after byte `at`, and where they end. Raises BadInput for lines that are none of ours."""
    try:
        if path.exists() and not path.is_file():
            raise BadInput(f"{path}: expected a file, this is a folder, a pipe or a device")
        with explained("read", path), path.open("rb") as file:
            file.seek(at)
            data = file.read()
    except FedloomError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return [], at
        raise
    whole = data.rfind(b"\n") + 1
    return [read_event(line, str(path)) for line in data[:whole].splitlines()], at + whole
