from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_clients import CONTRACT, Blob, Empty, Probe, Wish

from fedloom.errors import BadInput, FedloomError
from fedloom.federation import ClientSpec, ContractBreach, Federation, Ledger, LocalFederation, Reply
from fedloom.federation.codec import encode
from fedloom.federation.engines.workers.pool import WorkerPool

NAMES = ("image-0", "image-1", "text-0")
PROBE = Probe(np.arange(2 * 48, dtype=np.uint8).reshape(2, 4, 4, 3))


def specs(names: Sequence[str] = NAMES) -> list[ClientSpec]:
    return [ClientSpec(n, n.split("-")[0], "toy_clients:make", {"seed": 5}) for n in names]


@contextmanager
def federation(workers: int, names: Sequence[str] = NAMES, **options: Any) -> Iterator[LocalFederation]:
    with LocalFederation(specs(names), CONTRACT, workers=workers, **options) as made:
        yield made


def by_client(replies: Iterator[Reply]) -> dict[str, Reply]:
    found = {reply.client: reply for reply in replies}
    return {name: found[name] for name in sorted(found)}


def words(replies: Iterator[Reply]) -> dict[str, str]:
    """What each client said, or its error."""
    return {name: reply.message.what if reply.ok else reply.error for name, reply in by_client(replies).items()}


def pids(of: Federation) -> dict[str, int]:
    replies = by_client(of.ask("retrain", Wish("")))
    return {name: int(reply.message.seconds) for name, reply in replies.items() if reply.ok}


def kill(pid: int) -> None:
    """Returns once the child is dead, and leaves it for its owner to wait for."""
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def three_rounds(workers: int, names: Sequence[str] = NAMES) -> dict[tuple[int, str], bytes]:
    said = {}
    with federation(workers, names) as f:
        for f.round in (1, 2, 3):
            for reply in f.ask("infer", PROBE):
                said[f.round, reply.client] = encode(reply.message)
            lessons = {c: Wish(f"for {c}") for c in f.clients_of("image")}
            assert set(words(f.ask("retrain", lessons))) == {"image-0", "image-1"}
            for reply in f.ask("evaluate", Empty()):
                said[-f.round, reply.client] = encode(reply.message)
    return said


@pytest.fixture(scope="module")
def expected() -> dict[tuple[int, str], bytes]:
    return three_rounds(0)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_workers_do_not_change_the_replies(workers: int, expected: dict[tuple[int, str], bytes]) -> None:
    assert three_rounds(workers) == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_order_of_clients_does_not_matter(workers: int, expected: dict[tuple[int, str], bytes]) -> None:
    assert three_rounds(workers, NAMES[::-1]) == expected


def test_clients_and_modalities() -> None:
    with federation(0) as f:
        assert f.clients == NAMES
        assert f.clients_of("image") == ("image-0", "image-1")
        assert f.clients_of("audio") == ()
        assert f.modality("text-0") == "text"
        assert list(f.ask("rest", {})) == []
        with pytest.raises(BadInput, match="Did you mean 'text-0'"):
            f.ask("rest", {"text-1": Empty()})
        with pytest.raises(ContractBreach):
            f.ask("infer", Empty())
        with pytest.raises(BadInput, match="quorum"):
            f.ask("rest", Empty(), quorum=4)
        with pytest.raises(BadInput, match="timeout"):
            f.ask("rest", Empty(), timeout=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_client_that_raises_or_lies_is_a_value(workers: int) -> None:
    with federation(workers) as f:
        f.round = 4
        for what, error, detail in (
            ("raise", "raised", "RuntimeError: out of luck"),
            ("lie", "refused", "message is Empty; declared Wish"),
            ("nan", "refused", "Wish.seconds is float nan"),
        ):
            replies = by_client(f.ask("retrain", Wish(f"{what} image-1")))
            assert [r.ok for r in replies.values()] == [True, False, True]
            bad = replies["image-1"]
            assert (bad.error, bad.message, bad.round, bad.modality) == (error, None, 4, "image")
            assert detail in bad.detail
        assert [m[:4] for m in f.missing] == [
            (4, "retrain", "image-1", error) for error in ("raised", "refused", "refused")
        ]


def test_a_slow_client_times_out(jumping_clock: pytest.MonkeyPatch) -> None:
    """In this process, where it has slept by the clock."""
    with federation(0) as f:
        late_reply_is_dropped(f, Wish("sleep image-1", 1000.0), 900.0, lambda: None)


def test_a_slow_clients_worker_goes_on(tmp_path: Path) -> None:
    """In processes, where the others answer meanwhile."""
    with federation(3) as f:
        go_on = tmp_path / "go on"
        late_reply_is_dropped(f, Wish(f"wait image-1 {go_on}"), 3.0, go_on.touch)


def late_reply_is_dropped(f: LocalFederation, wish: Wish, timeout: float, go_on: Callable[[], None]) -> None:
    f.round = 1
    said = words(f.ask("retrain", wish, timeout=timeout))
    go_on()
    assert said == {"image-0": "image-0 1 1", "image-1": "timeout", "text-0": "text-0 1 1"}
    f.round = 2
    said = words(f.ask("retrain", Wish("")))  # the late reply lies before this one's
    assert said == {name: f"{name} 2 2" for name in NAMES}
    assert [m[:4] for m in f.missing] == [(1, "retrain", "image-1", "timeout")]
    ups = [row for row in f.ledger.rows() if row["direction"] == "up"]
    assert len(ups) == 6  # also what came too late had left the site


def test_quorum() -> None:
    with federation(3) as f:
        replies = list(f.ask("retrain", Wish("sleep text-0", 1000.0), quorum=2))
        assert [r.ok for r in replies] == [True, True, False]
        assert (replies[2].client, replies[2].error) == ("text-0", "timeout")
        assert "quorum of 2" in replies[2].detail


def test_work_starts_before_the_replies_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with federation(1) as f:
        asked = f.ask("retrain", Wish("sleep", 0.01), timeout=900.0)
        events = f._host._events  # type: ignore[union-attr]
        while events.qsize() < len(NAMES):
            time.sleep(0.01)
        # The server's own work, longer than the deadline: what came in time still counts.
        clock = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: clock() + 1000.0)
        assert all(reply.ok for reply in asked)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_several_asks_at_once_are_not_confused(workers: int) -> None:
    with federation(workers) as f:
        f.round = 1
        f.ask("retrain", Wish(""))  # never iterated, yet done
        second, third = f.ask("retrain", Wish("")), f.ask("retrain", Wish(""))
        assert words(third) == {name: f"{name} 1 3" for name in NAMES}
        assert words(second) == {name: f"{name} 1 2" for name in NAMES}
        f.ask("retrain", Wish("raise image-0"))
        f.settle()
        assert [m.client for m in f.missing] == ["image-0"]
        assert len([r for r in f.ledger.rows() if r["direction"] == "up"]) == 11


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


@pytest.mark.parametrize(("workers", "then"), [(0, 2), (2, 0)])
def test_restored_federation_goes_on_as_if_unbroken(
    tmp_path: Path, workers: int, then: int, expected: dict[tuple[int, str], bytes]
) -> None:
    with federation(workers) as f:
        for f.round in (1, 2):
            list(f.ask("infer", PROBE))
            f.ask("retrain", {c: Wish("") for c in f.clients_of("image")})
            list(f.ask("evaluate", Empty()))
        f.checkpoint(tmp_path)
    with federation(then) as f:
        f.restore(tmp_path)
        assert f.round == 2
        f.round = 3
        for reply in f.ask("infer", PROBE):
            assert encode(reply.message) == expected[3, reply.client]


def test_bad_checkpoints_are_named(tmp_path: Path) -> None:
    with federation(0) as f:
        with pytest.raises(FedloomError, match="no federation checkpoint"):
            f.restore(tmp_path)
        f.checkpoint(tmp_path)
    with federation(0, NAMES[:2]) as f, pytest.raises(FedloomError, match="of clients"):
        f.restore(tmp_path)
    (tmp_path / "text-0.safetensors").write_bytes(b"")
    for workers in (0, 1):
        with federation(workers) as f, pytest.raises(FedloomError, match="client 'text-0'"):
            f.restore(tmp_path)


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


@pytest.mark.parametrize("workers", [0, 2])
def test_large_messages(workers: int) -> None:
    blob = Blob(np.random.default_rng(0).integers(0, 256, 20_000_000, dtype=np.uint8))
    with federation(workers) as f:
        for reply in f.ask("echo", blob):
            np.testing.assert_array_equal(reply.message.data, blob.data)


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


@pytest.mark.parametrize(
    "change", [{"names": ()}, {"names": ("a", "a")}, {"workers": -1}, {"threads": 0}, {"start_timeout": 0}]
)
def test_wrong_input_fails_at_construction(change: dict[str, Any]) -> None:
    options = {"names": NAMES, "workers": 0, **change}
    with pytest.raises(BadInput):
        LocalFederation(specs(options.pop("names")), CONTRACT, Ledger(), **options)
