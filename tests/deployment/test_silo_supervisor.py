"""A silo brought up and down: its folder, its worker looked after, its settings."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from supervised_silo import SERVER, Silo, connect

from fedloom.config.silo import SiloSettings
from fedloom.deployment.silo import silo_status, supervise, worker_settings
from fedloom.errors import BadInput
from fedloom.processes.child import alive

MODEL = {"arch": "bert", "hidden": 16, "layers": 1, "heads": 2, "width": 16}


def test_its_folder_is_for_its_owner_alone_and_no_secret_is_on_a_command_line(up: Silo) -> None:
    folder = up.root / "silo"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "token").stat().st_mode & 0o777 == 0o600
    assert up.supervisor.socket.parent.stat().st_mode & 0o777 == 0o700
    token = (folder / "token").read_bytes()
    assert len(token) == 32
    lines = [" ".join(argv).encode(errors="surrogateescape") for _, _, argv in up.started]
    assert not any(token in line or token.hex().encode() in line for line in lines)


def test_how_it_stands_is_in_its_folder(up: Silo) -> None:
    worker, node = (child.pid for _, child, _ in up.started)
    facts = {
        "name": "clinic",
        "server": SERVER,
        "kit": str(up.root / "pki" / "silos" / "clinic"),
        "pid": os.getpid(),
        "worker_pid": worker,
        "supernode_pid": node,
    }
    assert up.file() == {**facts, "state": "connecting"}
    connect(up)
    assert up.file() == {**facts, "state": "connected"}
    told = silo_status(up.root / "silo")
    assert {key: value for key, value in told.items() if key != "kit_until"} == up.file()
    assert up.said == [f"silo clinic is connected to {SERVER}"]


def test_stopping_leaves_no_process_no_socket_and_no_token(up: Silo) -> None:
    room = up.supervisor.socket.parent
    pids = [child.pid for _, child, _ in up.started]
    assert all(map(alive, pids))
    up.supervisor.stop()
    assert all("was killed by signal 9" not in child.exit_reason() for _, child, _ in up.started)  # each was asked
    assert not any(map(alive, pids))
    assert not room.exists()
    assert not (up.root / "silo" / "token").exists()
    gone = dict.fromkeys(("pid", "worker_pid", "supernode_pid"))
    kit = str(up.root / "pki" / "silos" / "clinic")
    assert up.file() == {"name": "clinic", "server": SERVER, "kit": kit, "state": "stopped", **gone}
    up.supervisor.stop()  # a second time is no error


def test_several_are_asked_to_stop_at_once(up: Silo) -> None:
    up.supervisor.ask_to_stop()
    for _, child, _ in up.started:
        child.process.wait(300)


def test_a_second_one_on_the_folder_is_refused_and_changes_nothing(up: Silo) -> None:
    before, token = up.file(), (up.root / "silo" / "token").read_bytes()
    second = up.another()
    with pytest.raises(BadInput, match=r"/silo is the folder of a silo that is up already"):
        second.start()
    second.stop()
    assert up.file() == before
    assert (up.root / "silo" / "token").read_bytes() == token
    assert len(up.started) == 2


def test_one_that_was_killed_is_told_as_such(up: Silo) -> None:
    connect(up)
    left = up.file()
    up.supervisor.stop()
    (up.root / "silo" / "silo.json").write_text(json.dumps(left))  # as kill -9 leaves it
    assert silo_status(up.root / "silo")["state"] == "died"
    with pytest.raises(BadInput, match=r"pki is no silo's folder: it has no silo.json. `fedloom silo up` makes it"):
        silo_status(up.root / "pki")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kit": None}, "a silo needs a kit .* or --insecure in a test"),
        ({"kit": Path("nowhere")}, "nowhere has no ca.crt"),
    ],
)
def test_without_a_kit_nothing_is_made(silo: Silo, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        silo.another(**changes).start()
    assert not (silo.root / "silo").exists()
    assert silo.started == []


# ------------------------------------------------------------------------------------------------- its worker


def test_a_worker_that_dies_is_started_again_after_a_growing_pause(silo: Silo) -> None:
    silo.orders["worker"] = "say 12:00:00 silo clinic is ready|MemoryError: no room|bye\nexit 3"
    silo.supervisor.start()
    for tries, pause in enumerate((0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0), start=1):
        silo.check(lambda tries=tries: len(silo.said) == tries)
        dead = silo.started[-1 if tries > 1 else 0][1]
        assert silo.said[-1] == (
            f"silo clinic: the worker's process {dead.pid} ended with status 3 (MemoryError: no room); "
            f"restarting it in {pause:g} s"
        )
        silo.now += pause - 0.1
        silo.supervisor.check()
        assert silo.count("worker") == tries
        silo.now += 0.1
        silo.supervisor.check()
        assert silo.count("worker") == tries + 1
        assert silo.file()["worker_pid"] == silo.started[-1][1].pid
    assert silo.count("supernode") == 1


def test_a_worker_that_has_run_for_a_while_is_started_again_at_once(up: Silo) -> None:
    up.supervisor._worker_waits = 30.0
    up.now += 61
    up.supervisor.check()
    up.started[0][1].process.kill()
    up.check(lambda: up.said)
    assert "was killed by signal 9 (Killed) (its log is empty); restarting it in 0.5 s" in up.said[0]


def test_why_it_cannot_join_is_told_here_though_the_server_is_not_told(up: Silo) -> None:
    with up.started[0][1].log.open("a") as log:
        log.write("12:00:00 silo clinic is ready\n12:00:01 join: data 'folder' in /d: no training texts\nTraceback\n")
    up.supervisor.check()
    assert up.said == ["silo clinic: join: data 'folder' in /d: no training texts"]


# ----------------------------------------------------------------------------------------------- its settings


def settings(root: Path, **changes: Any) -> SiloSettings:
    given = {
        "name": "clinic",
        "modality": "text",
        "model": MODEL,
        "folder": str(root / "silo"),
        "kit": str(root / "pki"),
    }
    return SiloSettings.model_validate({**given, "data": {"root": str(root)}, **changes})


def test_the_worker_is_told_where_the_data_are_and_the_server_is_not(tmp_path: Path) -> None:
    own = settings(tmp_path, model={**MODEL, "pretrained": str(tmp_path / "weights")})
    told = worker_settings(own)
    assert told["recipe"]["arguments"]["silo"]["data"]["root"] == str(tmp_path)
    assert told["private_errors"]
    assert str(tmp_path) not in json.dumps(told["recipe"]["about"])


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"root": "nowhere"}, "data.root = 'nowhere': there is no such folder"),
        (
            {"options": {"texts_train": "no.csv"}},
            "data.options.texts_train = 'no.csv': there is no such file",
        ),
        ({"options": {"text_train": "no.csv"}}, r"no option 'text_train'. Did you mean 'texts_train'\?"),
        ({"name": "flra"}, "unknown data set 'flra'. Did you mean 'flora'"),
        ({"name": "flora", "root": "."}, "embedded"),
        ({}, "data: nothing to read; give --data, or data.root or data.options in --config"),
    ],
)
def test_data_that_are_not_there_are_told_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: dict[str, Any], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=told), supervise(settings(tmp_path, data=data), print):
        pass
    assert list(tmp_path.iterdir()) == []
