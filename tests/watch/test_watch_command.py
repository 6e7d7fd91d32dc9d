"""`fedloom watch`, and `fedloom run --watch`: whatever becomes of the page, the run goes on."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from long_run import LongRun  # type: ignore[import-not-found]

from fedloom.cli.main import main
from fedloom.processes.child import alive
from fedloom.watch import process, serve
from fedloom.watch.process import LivePage

RUN = ("run", "--preset", "smoke", "--method", "standalone", "--rounds", "0", "--quiet", "--watch", "--out")


def until(true: Callable[[], Any], limit: float = 120.0) -> Any:
    end = time.monotonic() + limit
    while not (found := true()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main([str(word) for word in words]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return line


def test_no_such_folder(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused(capsys, "watch") == "error: runs: there is no such folder\n"
    (tmp_path / "file").touch()
    assert refused(capsys, "watch", "file") == "error: file: it is a file\n"


def test_port_that_is_taken(capsys, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = refused(capsys, "watch", tmp_path, "--port", port)
    assert (
        line == f"error: --port {port}: it cannot be listened on (Address already in use); name another, or 0 for any\n"
    )


@pytest.mark.parametrize("words", [("watch", "."), (*RUN, "here")])
def test_extra_that_is_not_installed(capsys, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(serve, "find_spec", lambda name: None if name == "uvicorn" else object())
    assert refused(capsys, *words) == "error: the live page needs uvicorn: pip install 'fedloom[web]'\n"
    assert not (tmp_path / "here").exists()


def test_it_ends_by_ctrl_c(capsys, tmp_path, monkeypatch):
    def stop(seconds: float) -> None:
        if seconds == 1.0:
            raise KeyboardInterrupt

    monkeypatch.setattr("fedloom.cli.watch.time.sleep", stop)
    assert main(["watch", str(tmp_path)]) == 0
    assert f"{tmp_path} is shown at http://127.0.0.1:" in capsys.readouterr().out


def test_a_run_has_its_page_from_a_process_of_its_own(tmp_path):
    run, said = LongRun(tmp_path / "run", rounds=3, done=1), list[str]()
    watching = LivePage(said.append)
    try:
        watching.placed(run.path)
        watching.begin({"folder": run.path})  # the same again
        until(lambda: said)
        url = said[0].removeprefix("watch it at ")
        with urllib.request.urlopen(f"{url}state", timeout=30) as answer:
            assert json.loads(answer.read())["progress"]["done"] == 1
        child = watching._child
        assert child is not None
        assert alive(child.pid)
    finally:
        watching.close()
    assert not alive(child.pid)
    watching.close()
    assert len(said) == 1


def test_a_page_that_dies_is_told_once_and_the_run_goes_on(tmp_path):
    run, said = LongRun(tmp_path / "run", rounds=3, done=0), list[str]()
    watching = LivePage(said.append)
    try:
        watching.placed(run.path)
        until(lambda: said)
        assert watching._child is not None
        os.kill(watching._child.pid, signal.SIGKILL)
        until(lambda: len(said) > 1)
        assert said[1].startswith("the live page has ended, the run goes on")
        run.go_on()
        watching.round({"round": 1})
    finally:
        watching.close()


def broken(*arguments: Any, **options: Any) -> Any:
    raise OSError("no more processes")


def test_a_page_that_cannot_be_started_ends_no_run(cli_run, monkeypatch):
    monkeypatch.setattr(process, "FramedChild", broken)
    assert cli_run() == "no live page: no more processes\n"


def test_a_run_with_its_page(cli_run):
    said = cli_run()  # nothing, where the run ends before its page is up
    assert not said or said.startswith("watch it at http://127.0.0.1:")


@pytest.fixture
def cli_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Does a small run with a page; what it has said on stderr."""

    def do() -> str:
        capsys.readouterr()
        assert main([*RUN, str(tmp_path / "run")]) == 0
        assert (tmp_path / "run" / "summary.json").is_file()
        assert (tmp_path / "run" / "report.html").is_file()
        return capsys.readouterr().err

    return do
