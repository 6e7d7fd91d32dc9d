"""Child processes: their log, how they ended, and that none is left, whatever becomes of us."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fedloom.processes.child import Child, alive, telling_line

Start = Callable[..., Child]
SLEEP = "import time; time.sleep(900)"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a Python program as a child; each is gone in the end."""
    made: list[Child] = []

    def begin(code: str, *words: object, **options: Any) -> Child:
        argv = [sys.executable, "-I", "-S", "-u", "-c", code, *map(str, words)]
        made.append(Child(argv, log=tmp_path / "log" / "child.log", env=dict(os.environ), **options))
        return made[-1]

    yield begin
    for child in made:
        child.stop(0.0)


def until(look: Callable[[], Any], seconds: float = 300.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)
    return found


def test_what_it_says_goes_to_the_end_of_its_log(start: Start) -> None:
    assert start("print('first')").process.wait(300) == 0
    second = start("import sys; print('second'); sys.stderr.write('and third\\n')")
    assert second.process.wait(300) == 0
    assert second.log.read_text() == "first\nsecond\nand third\n"
    assert second.logged() == "second\nand third\n"  # what another wrote before it is not its word
    assert second.logged(most=6) == "third\n"


def test_its_news_are_whole_lines_each_told_once(start: Start) -> None:
    child = start(
        "import sys; print('one'); print('tw', end='', flush=True); sys.stdin.read(); print('o')",
        stdin=True,
    )
    assert until(child.new_lines) == ["one"]
    assert child.new_lines() == []
    assert child.process.stdin is not None
    child.process.stdin.close()
    assert until(child.new_lines) == ["two"]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import sys; sys.exit(3)", "ended with status 3"),
        ("import os; os.kill(os.getpid(), 9)", "was killed by signal 9 (Killed)"),
    ],
)
def test_how_it_ended(start: Start, code: str, told: str) -> None:
    child = start(code)
    until(lambda: not child.alive())
    assert child.exit_reason() == f"process {child.pid} {told}"


def test_one_that_runs(start: Start) -> None:
    child = start(SLEEP)
    assert child.alive()
    assert child.exit_reason() == f"process {child.pid} is running"


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    child = Child(["no-such-program"], log=tmp_path / "log", env=dict(os.environ))
    assert child.process.wait(300) == 1
    assert "no-such-program" in child.logged()


def test_it_is_asked_first(start: Start) -> None:
    child = start(
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *a: sys.exit(5)); print('up'); time.sleep(900)"
    )
    until(lambda: child.logged() == "up\n")
    child.ask_to_stop()
    assert child.process.wait(300) == 5
    child.stop()
    assert child.exit_reason().endswith("ended with status 5")


def test_one_that_does_not_listen_is_made_to_stop(start: Start) -> None:
    deaf = "import signal, time\nfor s in (signal.SIGINT, signal.SIGTERM): signal.signal(s, signal.SIG_IGN)\n"
    child = start(deaf + "print('up'); time.sleep(900)")
    until(lambda: child.logged() == "up\n")
    begun = time.monotonic()
    child.stop(0.3)
    assert time.monotonic() - begun >= 0.3
    assert child.exit_reason().endswith("was killed by signal 9 (Killed)")
    child.stop()  # a second time is no error


def test_those_who_ignore_ctrl_c_as_a_shells_background_does_stop_at_once(start: Start) -> None:
    child = start("import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('up'); time.sleep(900)")
    until(lambda: child.logged() == "up\n")
    child.stop()
    # Not at the end of our patience:
    assert child.exit_reason().endswith("was killed by signal 15 (Terminated)")


def test_what_it_started_itself_ends_with_it(start: Start) -> None:
    code = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(900)']);"
        "print(p.pid); p.wait()"
    )
    child = start(code)
    grandchild = int(until(child.logged))
    assert alive(grandchild)
    child.stop()
    until(lambda: not alive(grandchild))


def test_what_a_crashed_one_left_behind_ends_when_it_is_stopped(start: Start) -> None:
    code = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(900)']).pid)"
    child = start(code)
    until(lambda: not child.alive())
    grandchild = int(child.logged())
    assert alive(grandchild)
    child.stop()
    until(lambda: not alive(grandchild))


def test_a_killed_parent_takes_it_along(tmp_path: Path) -> None:
    """kill -9 of the process that made it: the kernel ends it."""
    code = (
        "import os, sys, time; from pathlib import Path; from fedloom.processes.child import Child;"
        "c = Child([sys.executable, '-c', 'import time; time.sleep(99)'], log=Path(sys.argv[1]), env=dict(os.environ));"
        "print(c.pid, flush=True); time.sleep(900)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-c", code, str(tmp_path / "log")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        until(lambda: b"time.sleep(99)" in Path(f"/proc/{child}/cmdline").read_bytes()[-20:])
        time.sleep(0.2)
        assert alive(child)
        parent.kill()
    until(lambda: not alive(child))


def test_ctrl_c_in_the_terminal_does_not_reach_it(start: Start) -> None:
    child = start(SLEEP)
    assert os.getsid(child.pid) != os.getsid(0)
    assert os.getpgid(child.pid) == child.pid  # a terminal signals the group in its foreground


def test_a_input_ends_when_we_close_it(start: Start) -> None:
    child = start("import sys; sys.stdin.read()", stdin=True)
    assert child.alive()
    assert child.process.stdin is not None
    child.process.stdin.close()
    assert child.process.wait(300) == 0


def test_without_a_input_it_has_nothing_to_read(start: Start) -> None:
    assert start("import sys; sys.exit(len(sys.stdin.read()))").process.wait(300) == 0


def test_who_is_alive() -> None:
    assert alive(os.getpid())
    assert alive(1)
    with subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.DEVNULL) as ended:
        until(lambda: not alive(ended.pid))  # though nobody has waited for it
    assert not alive(2**22 + 1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "its log is empty"),
        ("starting\n\n  up  \n", "up"),
        ("Exit Code: 305\nTraceback\nbye\n", "Exit Code: 305"),
        ("\x1b[91mERROR \x1b[0m: cannot   open x\nINFO: bye", "ERROR : cannot open x"),
        (
            "2026-11-21T10:14:37.898Z ERROR [uvicorn.error] [Errno 98] error while binding: address already in use\n"
            "2026-11-21T10:14:37.898Z INFO [uvicorn.error] Application shutdown complete.",
            "[Errno 98] error while binding: address already in use",
        ),
    ],
)
def test_what_a_log_ends_with(text: str, told: str) -> None:
    assert telling_line(text) == told


def test_a_long_last_word_is_cut() -> None:
    assert len(telling_line("error " + "x" * 5000)) == 300
