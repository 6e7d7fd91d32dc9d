"""The local engine's processes: killed, rebuilt, slow to start, and none left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from toy_clients import CONTRACT, Empty, Wish
from toy_federations import alive, by_client, federation, kill, pids, specs, words

from fedloom.errors import BadInput, FedloomError
from fedloom.federation import ClientSpec, LocalFederation
from fedloom.federation.engines.workers.pool import WorkerPool


def test_killed_worker_is_lost_then_restored(tmp_path: Path) -> None:
    with federation(2) as f:  # image-0 and text-0 share a process
        f.round = 1
        before = pids(f)
        f.checkpoint(tmp_path / "part")
        (tmp_path / "part").rename(tmp_path / "round_1")
        f.checkpoint_moved(tmp_path / "round_1")
        f.round = 2
        asked = f.ask("retrain", Wish(f"wait image-0 {tmp_path / 'never'}"))
        kill(before["image-0"])
        assert words(asked) == {"image-0": "lost", "image-1": "image-1 2 2", "text-0": "lost"}
        assert "signal 9" in f.missing[0].detail
        f.round = 3
        # One call at the checkpoint, and this is the second; image-1 has lost nothing.
        assert words(f.ask("retrain", Wish(""))) == {
            "image-0": "image-0 3 2",
            "image-1": "image-1 3 3",
            "text-0": "text-0 3 2",
        }
        assert [m[:4] for m in f.missing[2:]] == [
            (3, "restart", "image-0", "lost"),
            (3, "restart", "text-0", "lost"),
        ]
        assert str(tmp_path / "round_1") in f.missing[2].detail


def test_worker_killed_between_rounds_begins_again_where_there_is_no_checkpoint(tmp_path: Path) -> None:
    with federation(3) as f:
        before = pids(f)
        kill(before["image-1"])
        f.checkpoint(tmp_path)  # must hold every client, so the dead one is rebuilt
        after = words(f.ask("retrain", Wish("")))
        assert after == {"image-0": "image-0 0 2", "image-1": "image-1 0 1", "text-0": "text-0 0 2"}
        assert [m.verb for m in f.missing] == ["restart"]
        assert "its first state" in f.missing[0].detail


def test_client_that_cannot_be_rebuilt_is_lost_and_the_rest_go_on(tmp_path: Path) -> None:
    marker = tmp_path / "model"
    marker.touch()
    made = [*specs(("image-0",)), ClientSpec("x", "text", "toy_clients:once", {"marker": str(marker)})]
    with LocalFederation(made, CONTRACT, workers=1) as f:
        f.checkpoint(tmp_path / "c")
        marker.unlink()
        kill(pids(f)["x"])
        for f.round in (1, 2):
            replies = by_client(f.ask("retrain", Wish("")))
            assert [r.error for r in replies.values()] == [None, "lost"]
            assert "the model has gone" in replies["x"].detail


@pytest.mark.parametrize("workers", [0, 2])
def test_a_client_that_cannot_be_built_is_named(workers: int) -> None:
    made = [*specs(("image-0",)), ClientSpec("b", "text", "toy_clients:broken")]
    with pytest.raises(FedloomError, match="client 'b' cannot be built: OSError: no model"):
        LocalFederation(made, CONTRACT, workers=workers)
    made = [*specs(("image-0",)), ClientSpec("b", "text", "toy_clients:absent")]
    with pytest.raises(BadInput, match="client 'b'"):
        LocalFederation(made, CONTRACT, workers=workers)


def test_start_timeout_names_the_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that jumps past the limit once the other one is there."""
    accept, clock, late = WorkerPool._accept, time.monotonic, [0.0]

    def accepted(*args: Any) -> None:
        accept(*args)
        late.append(1000.0)

    monkeypatch.setattr(WorkerPool, "_accept", accepted)
    monkeypatch.setattr(time, "monotonic", lambda: clock() + sum(late))
    made = [*specs(("image-0",)), ClientSpec("b", "text", "toy_clients:slow", {"seconds": 900.0})]
    with pytest.raises(FedloomError, match="clients b cannot be built: worker did not answer within 900 s"):
        LocalFederation(made, CONTRACT, workers=2, start_timeout=900.0)


def test_no_process_is_left_behind() -> None:
    left: set[int] = set()
    with suppress(KeyboardInterrupt), federation(2) as f:
        left.update(pids(f).values())
        f.ask("retrain", Wish("sleep", 900.0))
        raise KeyboardInterrupt
    assert len(left) == 2
    assert not any(map(alive, left))
    f.close()
    with pytest.raises(FedloomError, match="closed"):
        f.ask("rest", Empty())


def test_workers_die_with_their_parent() -> None:
    script = (
        "import os, sys, time; from fedloom.federation import *; from toy_clients import *\n"
        "f = LocalFederation([ClientSpec('a', 'x', 'toy_clients:make')], CONTRACT, workers=1)\n"
        "print(int(next(f.ask('retrain', Wish(''))).message.seconds), flush=True)\n"
        "f.ask('retrain', Wish('sleep', 900.0))\n"
        "time.sleep(900)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=env)
    assert parent.stdout is not None
    with parent:
        worker = int(parent.stdout.readline())
        assert alive(worker)
        parent.kill()
    end = time.monotonic() + 300
    while alive(worker) and time.monotonic() < end:
        time.sleep(0.02)
    assert not alive(worker)


def test_workers_take_their_threads_and_ignore_what_is_printed_and_ctrl_c() -> None:
    with federation(1, initialiser="toy_clients:limit_threads", threads=2) as f:
        before = pids(f)
        assert all(reply.ok for reply in f.ask("retrain", Wish("print")))
        os.kill(before["text-0"], signal.SIGINT)
        assert pids(f) == before
        environ = Path(f"/proc/{before['text-0']}/environ")
        if environ.exists():
            assert b"OMP_NUM_THREADS=2" in environ.read_bytes()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_interrupted_ask_leaves_nothing_to_wait_for(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with federation(workers) as f:

        def interrupt(requests: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(f, "_post", interrupt)
            with pytest.raises(KeyboardInterrupt):
                f.ask("rest", Empty())
        f.settle()
        assert all(reply.ok for reply in f.ask("rest", Empty()))
