"""Child processes: their log, how they ended, and that none is left, whatever becomes of us."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fedloom.deployment import pki
from fedloom.deployment.processes import Child, alive, check_port, free_port, is_held, speaks_tls
from fedloom.errors import FedloomError
from fedloom.runs.disk import locked

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
    assert second.said() == "second\nand third\n"  # what another wrote before it is not its word
    assert second.said(most=6) == "third\n"


def test_its_news_are_whole_lines_each_told_once(start: Start) -> None:
    child = start(
        "import sys; print('one'); print('tw', end='', flush=True); sys.stdin.read(); print('o')",
        heartline=True,
    )
    assert until(child.news) == ["one"]
    assert child.news() == []
    assert child.process.stdin is not None
    child.process.stdin.close()
    assert until(child.news) == ["two"]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import sys; sys.exit(3)", "ended with status 3"),
        ("import os; os.kill(os.getpid(), 9)", "was killed by signal 9"),
    ],
)
def test_how_it_ended(start: Start, code: str, told: str) -> None:
    child = start(code)
    until(lambda: not child.alive())
    assert child.fate() == f"process {child.pid} {told}"


def test_one_that_runs(start: Start) -> None:
    child = start(SLEEP)
    assert child.alive()
    assert child.fate() == f"process {child.pid} runs"


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    child = Child(["no-such-program"], log=tmp_path / "log", env=dict(os.environ))
    assert child.process.wait(300) == 1
    assert "no-such-program" in child.said()


def test_it_is_asked_first(start: Start) -> None:
    child = start(
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *a: sys.exit(5)); print('up'); time.sleep(900)"
    )
    until(lambda: child.said() == "up\n")
    child.ask_to_stop()
    assert child.process.wait(300) == 5
    child.stop()
    assert child.fate().endswith("ended with status 5")


def test_one_that_does_not_listen_is_made_to_stop(start: Start) -> None:
    deaf = "import signal, time\nfor s in (signal.SIGINT, signal.SIGTERM): signal.signal(s, signal.SIG_IGN)\n"
    child = start(deaf + "print('up'); time.sleep(900)")
    until(lambda: child.said() == "up\n")
    begun = time.monotonic()
    child.stop(0.3)
    assert time.monotonic() - begun >= 0.3
    assert child.fate().endswith("was killed by signal 9")
    child.stop()  # a second time is no error


def test_those_who_ignore_ctrl_c_as_a_shells_background_does_stop_at_once(start: Start) -> None:
    child = start("import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('up'); time.sleep(900)")
    until(lambda: child.said() == "up\n")
    child.stop()
    assert child.fate().endswith("was killed by signal 15")  # by the second question, not at the end of our patience


def test_what_it_started_itself_ends_with_it(start: Start) -> None:
    code = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(900)']);"
        "print(p.pid); p.wait()"
    )
    child = start(code)
    grandchild = int(until(child.said))
    assert alive(grandchild)
    child.stop()
    until(lambda: not alive(grandchild))


def test_what_a_crashed_one_left_behind_ends_when_it_is_stopped(start: Start) -> None:
    code = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(900)']).pid)"
    child = start(code)
    until(lambda: not child.alive())
    grandchild = int(child.said())
    assert alive(grandchild)
    child.stop()
    until(lambda: not alive(grandchild))


def test_a_killed_parent_takes_it_along(tmp_path: Path) -> None:
    """kill -9 of the process that made it: the kernel ends it."""
    code = (
        "import os, sys, time; from pathlib import Path; from fedloom.deployment.processes import Child;"
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


def test_a_heartline_ends_when_we_close_it(start: Start) -> None:
    child = start("import sys; sys.stdin.read()", heartline=True)
    assert child.alive()
    assert child.process.stdin is not None
    child.process.stdin.close()
    assert child.process.wait(300) == 0


def test_without_a_heartline_it_has_nothing_to_read(start: Start) -> None:
    assert start("import sys; sys.exit(len(sys.stdin.read()))").process.wait(300) == 0


def test_who_is_alive() -> None:
    assert alive(os.getpid())
    assert alive(1)
    with subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.DEVNULL) as ended:
        until(lambda: not alive(ended.pid))  # though nobody has waited for it
    assert not alive(2**22 + 1)


def test_a_lock_file_tells_whether_somebody_is_up(tmp_path: Path) -> None:
    with locked(tmp_path / ".lock"):
        assert is_held(tmp_path / ".lock")
    assert not is_held(tmp_path / ".lock")


def test_ports() -> None:
    port = free_port()
    check_port("127.0.0.1", port)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        for host in ("127.0.0.1", "0.0.0.0"):
            with pytest.raises(FedloomError, match=f"cannot listen at port {port} of {host}: Address already in use"):
                check_port(host, port)
    with pytest.raises(FedloomError, match=r"cannot listen at port 80 of 203.0.113.7: Cannot assign requested address"):
        check_port("203.0.113.7", 80)


def test_whether_a_server_speaks_tls(tmp_path: Path) -> None:
    pki.init(tmp_path / "pki", [])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pki" / "server.crt", tmp_path / "pki" / "server.key")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"

        def serve() -> None:
            with listener.accept()[0] as plain, context.wrap_socket(plain, server_side=True) as line:
                line.recv(1)
            with listener.accept()[0] as line:
                line.recv(1000)
                line.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        assert speaks_tls(address)
        assert not speaks_tls(address)
        thread.join(5)
    assert not speaks_tls(address)
    assert not speaks_tls("nonsense")
