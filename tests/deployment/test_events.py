"""Events of a run in a file: told to an observer as they were, and how a run stands when it is gone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fedloom.cli.live import Lines
from fedloom.deployment import events
from fedloom.deployment.events import EventClock, EventLog, follow, run_log, run_status
from fedloom.deployment.submit import jobs
from fedloom.errors import BadInput, FedloomError
from fedloom.progress import Observer

FACTS = {
    "method": "fedmmkt", "data": "flora", "rounds": 2, "folder": Path("/runs/a"), "resumed_at": 0,
    "clients": {"image": ["image-0"], "text": []},
}  # fmt: skip
TOLD = ("stage", "at", "begin", "phase", "round", "end")


class Kept(Observer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def __getattribute__(self, name: str) -> Any:
        if name in TOLD:
            return lambda *arguments: self.told.append((name, *arguments))
        return super().__getattribute__(name)


class Enough(Exception):
    pass


def enough() -> None:
    raise Enough


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "server" / "jobs" / "3f2a.jsonl"


def play(path: Path) -> EventLog:
    """A run of two rounds, but for its end."""
    log = EventLog(path)
    log.stage("pretraining", 10)
    log.at(5, "half")
    log.begin(FACTS)
    for t in range(3):
        log.phase(t, "round")
        log.round({"round": t, "image_accuracy": t / 4, "labels": None})
    log.end({"done": True})
    return log


def dead() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    return ended.pid


def write(path: Path, *lines: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_an_observer_is_told_what_the_run_told(path: Path) -> None:
    play(path).over(Path("/runs/a"))
    kept = Kept()
    assert follow(path, kept, lambda: None) == Path("/runs/a")
    assert kept.told[:3] == [
        ("stage", "pretraining", 10),
        ("at", 5, "half"),
        ("begin", {**FACTS, "folder": "/runs/a"}),
    ]
    assert kept.told[3:5] == [
        ("phase", 0, "round"),
        ("round", {"round": 0, "image_accuracy": 0.0, "labels": None}),
    ]
    assert kept.told[-1] == ("end", {"done": True})


def test_each_line_has_its_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events.time, "time", lambda: 1700000000.1234)
    EventLog(path).over(None)
    assert [json.loads(line)["time"] for line in path.read_text().splitlines()] == [1700000000.123] * 2


def test_a_run_read_later_shows_the_seconds_it_took(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(events.time, "time", lambda: now[0])
    log = EventLog(path)
    log.begin(FACTS)
    for t in range(3):
        log.round({"round": t})
        now[0] += 30
    log.over(Path("/runs/a"))
    said: list[str] = []
    clock = EventClock()
    follow(path, Lines(said.append, clock), lambda: None, clock=clock)
    assert said[-2].startswith("round 1/2  30 s")
    assert said[-2].endswith("30 s left")
    assert said[-1].startswith("round 2/2  30 s")


def test_steps_are_told_twice_a_second_at_most(path: Path) -> None:
    log = EventLog(path)
    log.stage("pretraining", 1000)
    for step in range(1000):
        log.at(step)
    assert 2 <= len(path.read_text().splitlines()) <= 10


def test_a_torn_last_line_is_waited_for(path: Path) -> None:
    play(path)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"event": "over", "fol')
    kept, looks = Kept(), []

    def look() -> None:
        looks.append(len(kept.told))
        if len(looks) == 2:
            path.write_bytes(whole)
            with path.open("a") as file:
                file.write(json.dumps({"event": "over", "folder": "/runs/a", "error": None}) + "\n")

    assert follow(path, kept, look, pause=0.0) == Path("/runs/a")
    assert looks == [10, 10]
    assert run_status(path)["state"] == "done"


def test_events_of_a_later_version_are_passed_over(path: Path) -> None:
    EventLog(path)
    with path.open("a") as file:
        file.write('{"event": "weather", "arguments": [3]}\n')
        file.write('{"event": "over", "folder": "/x", "error": null, "bad_input": false}\n')
    assert follow(path, Kept(), lambda: None) == Path("/x")


def test_what_the_watch_raises_ends_the_following(path: Path) -> None:
    play(path)
    with pytest.raises(Enough):
        follow(path, Kept(), enough)


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (BadInput("rounds = 'x':\nexpected a number"), BadInput, "rounds = 'x': expected a number"),
        (FedloomError("2 of 3 silos"), FedloomError, "2 of 3 silos"),
        (ValueError("shapes\n differ"), FedloomError, "ValueError: shapes differ"),
        (KeyboardInterrupt(), FedloomError, "KeyboardInterrupt"),
        (FedloomError(), FedloomError, "FedloomError"),
    ],
)
def test_what_it_failed_with_is_raised_in_one_line(
    path: Path, error: BaseException, kind: type[FedloomError], told: str
) -> None:
    play(path).over(None, error)
    with pytest.raises(kind) as raised:
        follow(path, Kept(), lambda: None)
    assert str(raised.value) == told
    assert type(raised.value) is kind
    found = run_status(path)
    assert (found["state"], found["error"], found["folder"]) == ("failed", told, "/runs/a")


def test_a_run_whose_process_is_gone_is_told_with_where_it_logged(path: Path) -> None:
    play(path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    pid = dead()
    write(path, {"event": "process", "pid": pid}, *lines[1:])
    with pytest.raises(FedloomError, match=f"the run's process {pid} has died") as error:
        follow(path, Kept(), lambda: None, pause=0.0)
    assert str(run_log(path)) in str(error.value)
    assert run_log(path) == path.parent.parent / "logs" / "3f2a.log"


def test_the_last_words_of_a_process_that_ended_are_heard(path: Path) -> None:
    """It wrote its end between our look at the file and our look at the process."""
    write(path, {"event": "process", "pid": dead()})
    over = {"event": "over", "folder": "/x", "error": None, "bad_input": False}

    def look() -> None:
        with path.open("a") as file:
            file.write(json.dumps(over) + "\n")

    assert follow(path, Kept(), look, pause=0.0) == Path("/x")


def test_a_run_that_does_not_begin(path: Path) -> None:
    with pytest.raises(FedloomError, match="the run did not begin within 0 s"):
        follow(path, Kept(), lambda: None, start=0.0, pause=0.0)


def test_how_a_run_stands(path: Path) -> None:
    assert run_status(path) == {"state": "waiting", "pid": None, "folder": None, "round": None, "rounds": None}
    log = EventLog(path)
    assert run_status(path)["state"] == "running"
    log.begin(FACTS)
    log.phase(1, "round")
    now = {"state": "running", "pid": os.getpid(), "folder": "/runs/a", "round": 1, "rounds": 2}
    assert run_status(path) == now
    log.over(Path("/runs/a"))
    assert run_status(path) == {**now, "state": "done", "error": None}


def test_one_that_died_and_one_that_ended_while_we_looked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, {"event": "process", "pid": dead()})
    assert run_status(path)["state"] == "died"

    def ends(pid: int) -> bool:
        with path.open("a") as file:
            file.write('{"event": "over", "folder": "/x", "error": null, "bad_input": false}\n')
        return False

    monkeypatch.setattr(events, "alive", ends)
    assert run_status(path)["state"] == "done"


# ------------------------------------------------------------------------------------------------- damaged files


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"[1]", "expected an object, not list"),
        (b'{"event": "process"', "not JSON"),
        (b'{"event": "process", "pid": "many"}', "pid = 'many'"),
        (b'{"event": "phase", "arguments": [1]}', "1 arguments of 'phase', expected 2"),
        (b'{"event": "begin", "arguments": [[]]}', "the argument of 'begin' is a list"),
        (
            b'{"event": "over", "folder": 3, "error": null, "bad_input": false}',
            "folder = '3': expected text",
        ),
    ],
)
def test_a_line_that_no_run_wrote_is_named(line: bytes, said: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(line + b"\n")
    with pytest.raises(BadInput, match=re.escape(str(path))) as error:
        run_status(path)
    assert said in str(error.value)


def test_a_damaged_job_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    for name, content in (
        ("ab", '{"id": "ab", "flower": "1", "out": "runs/a", "resume": null}'),
        ("cd", "{}{"),
    ):
        (tmp_path / "jobs" / f"{name}.json").write_text(content)
    rows = {row["id"]: row for row in jobs(tmp_path)}
    assert (rows["ab"]["state"], rows["ab"]["folder"]) == ("waiting", "runs/a")
    assert rows["cd"]["state"] == "unreadable"
    assert "cd.json: not JSON" in rows["cd"]["error"]
