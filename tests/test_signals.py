"""Ctrl-C, SIGTERM and a closed terminal: one line, an exit code of their own, no folder, no process left."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedloom.cli.main import main
from fedloom.deployment.simulation import own_sigterm
from fedloom.errors import BadInput
from fedloom.runs.folder import RunFolder, new_run
from fedloom.signals import endings, heard

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.fixture(autouse=True)
def _heed_all() -> Any:
    """Whoever runs the tests in the background may have them ignore some of these signals."""
    before = {number: signal.getsignal(number) for number in endings()}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def struck(number: int) -> Callable[..., Any]:
    """Stands in for a function, in the midst of which the signal comes."""

    def strike(*given: Any, **more: Any) -> Any:
        signal.raise_signal(number)
        raise AssertionError("the signal did not end this")

    return strike


# ------------------------------------------------------------------------------------------------- the handler


@pytest.mark.parametrize("number", endings())
def test_each_is_a_keyboard_interrupt_and_all_is_as_before(number: signal.Signals) -> None:
    before = [signal.getsignal(n) for n in endings()]
    with heard() as asked:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        assert asked.code == CODES[number]
    assert [signal.getsignal(n) for n in endings()] == before


def test_what_is_ignored_stays_ignored() -> None:
    """`nohup fedloom run` goes on when the terminal is closed; a shell's `&` has its children ignore Ctrl-C."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    with heard() as asked:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGINT)
    assert asked.number is None
    assert asked.code == 130


def test_the_cleaning_up_is_cut_short_by_a_second_ctrl_c_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """`timeout` and batch systems send SIGTERM twice; a finger on the keys may tremble."""
    now = [100.0]
    monkeypatch.setattr("fedloom.signals.time.monotonic", lambda: now[0])
    with heard() as asked:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        now[0] += 5
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert asked.code == 143


def test_ray_takes_sigterm_over_and_it_is_an_interrupt_still() -> None:
    def of_ray(number: int, frame: Any) -> None:
        sys.exit(number)

    @own_sigterm()
    def simulated() -> None:
        signal.signal(signal.SIGTERM, of_ray)
        signal.raise_signal(signal.SIGTERM)

    with heard() as asked:
        with pytest.raises(KeyboardInterrupt):
            simulated()
        assert signal.getsignal(signal.SIGTERM) is asked
    assert asked.code == 143


# ------------------------------------------------------------------------------------------------ every command

HOW_TO_GO_ON = "interrupted. Nothing to resume yet: give the same command again"
QUICK = ("run", "--preset", "smoke", "--method", "standalone", "--rounds", "1", "--quiet")
# What is called, where the signal comes, what is said.
COMMANDS = {
    "run": (QUICK, "fedloom.experiment.loop.pretrained_models", HOW_TO_GO_ON),
    "run --out": ((*QUICK, "--out", "new/here"), "fedloom.experiment.loop.pretrained_models", HOW_TO_GO_ON),
    "run, its first file": ((*QUICK, "--out", "a"), "fedloom.runs.folder.describe_environment", HOW_TO_GO_ON),
    "run --engine flower": (
        (*QUICK, "--engine", "flower", "--set", "engine.silos=2"),
        "fedloom.deployment.loopback.hand_over",
        HOW_TO_GO_ON,
    ),
    "compare": (
        ("compare", "--methods", "standalone", "--quiet"),
        "fedloom.comparison.compare",
        "interrupted. Nothing was started: give the same command again",
    ),
    "fetch": (
        ("fetch", "google-bert/bert-base-uncased", "--json"),
        "fedloom.weights.order.order_of",
        "interrupted",
    ),
    "generate": (("generate", "x", "--prompt", "a"), "fedloom.results.load_run", "interrupted"),
    "report": (("report", "x"), "fedloom.reporting.html.write_report", "interrupted"),
    "partition": (
        ("partition", "--plot", "p.png"),
        "fedloom.experiment.datasets.cached_dataset",
        "interrupted",
    ),
    "inspect": (("inspect", "x"), "fedloom.results.load_run", "interrupted"),
}


@pytest.mark.parametrize("number", endings())
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_ends_with_one_line_and_leaves_nothing(
    name: str,
    number: signal.Signals,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "flower" in name:
        pytest.importorskip("flwr")
        monkeypatch.setattr("fedloom.deployment.loopback.SuperLink", _NoLink)
        monkeypatch.setattr("fedloom.deployment.loopback.SiloSupervisor", _NoSilo)
    args, place, told = COMMANDS[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(place, struck(number))
    assert main(args) == CODES[number]
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(told)
    assert said.err.count("\n") == 1
    assert [path for path in tmp_path.rglob("*") if path.name not in ("runs", "new")] == []


class _NoLink:
    address, folder, pki = "127.0.0.1:1", Path(), None

    def __init__(self, *given: Any) -> None: ...

    def __enter__(self) -> _NoLink:
        return self

    def __exit__(self, *given: object) -> None: ...


class _NoSilo:
    def __init__(self, *given: Any) -> None: ...

    def start(self) -> None: ...

    stop = ask_to_stop = check = start


@pytest.mark.parametrize("number", endings())
def test_a_service_ends_in_order_however_it_is_asked(
    number: signal.Signals,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Link(_NoLink):
        port = 9
        check = struck(number)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fedloom.deployment.superlink.SuperLink", Link)
    monkeypatch.setattr("fedloom.cli.server.time.sleep", lambda seconds: None)
    assert main(["server", "up", "--insecure"]) == 0
    said = capsys.readouterr()
    assert (said.out.splitlines()[-1][9:], said.err) == ("server down", "")


@pytest.mark.parametrize("number", endings())
def test_a_run_that_is_watched_goes_on(
    number: signal.Signals,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fedloom.deployment.superlink.Host.attach", lambda server: _NoLink())
    monkeypatch.setattr("fedloom.deployment.submit.hand_over", lambda host, job: "1")
    monkeypatch.setattr("fedloom.deployment.events.follow", struck(number))
    assert main(["submit", "--preset", "smoke", "--quiet"]) == CODES[number]
    said = capsys.readouterr().err
    assert said.startswith("the run goes on; watch it with: fedloom logs ")
    assert said.count("\n") == 1


# ------------------------------------------------------------------------------------------------------ folders


def test_a_run_that_is_not_begun_touches_no_other(tmp_path: Path) -> None:
    with new_run(tmp_path / "run", {"method": "a"}) as done:
        (done.checkpoints / "round_0000").mkdir()
    with pytest.raises(BadInput), new_run(tmp_path / "run", {"method": "b"}):
        pass
    assert RunFolder.open(tmp_path / "run").config == {"method": "a"}
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(BadInput), new_run(tmp_path, {"method": "b"}):
        pass
    assert (tmp_path / "mine.txt").read_text() == "mine"


# ---------------------------------------------------------------------------------------------- real processes


def processes_with(mark: str) -> list[int]:
    """Processes whose environment names `mark`, but this one."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (entry / "environ").read_bytes() and int(entry.name) != os.getpid():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def until(look: Callable[[], Any], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks at processes through /proc")
def test_a_batch_system_ends_a_run_while_it_pretrains(tmp_path: Path) -> None:
    """SIGTERM to all processes of the run, twice: no folder, no process, one line."""
    environment = {**os.environ, "FEDLOOM_CACHE": str(tmp_path / "cache")}
    argv = [sys.executable, "-m", "fedloom.cli", *QUICK, "--set", "clients.public_steps=999", "--out", "run"]
    started = subprocess.Popen(
        argv, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    until(lambda: len(processes_with(str(tmp_path / "cache"))) > 1)  # a child that pretrains
    for _ in range(2):
        os.killpg(started.pid, signal.SIGTERM)
    said = started.communicate(timeout=120)[1]
    assert started.returncode == 143
    assert said.startswith("interrupted. Nothing to resume yet")
    assert said.count("\n") == 1
    until(lambda: not processes_with(str(tmp_path / "cache")))
    assert not (tmp_path / "run").exists()
    assert not list(tmp_path.glob("cache/**/.tmp-*"))


CLOSED = """
import sys, time
from fedloom.cli import main as cli
def forever(*given, **more):
    try:
        print("here", flush=True)
        time.sleep(600)
    finally:
        print("cleaned up", flush=True)  # to a terminal that is gone
        open(sys.argv[1], "w").close()
import fedloom.reporting.html
fedloom.reporting.html.write_report = forever
sys.exit(cli.main(["report", "x"]))
"""


def test_a_terminal_that_is_closed(tmp_path: Path) -> None:
    """What cleans up may write to it still."""
    ours, theirs = pty.openpty()

    def own_terminal() -> None:
        import fcntl
        import termios

        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    done = tmp_path / "done"
    started = subprocess.Popen(
        [sys.executable, "-c", CLOSED, str(done)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=own_terminal,
    )
    os.close(theirs)
    while b"here" not in os.read(ours, 4096):
        pass
    os.close(ours)
    assert started.wait(120) == 129
    assert done.exists()
