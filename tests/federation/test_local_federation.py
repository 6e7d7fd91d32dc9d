"""The local engine: the same replies however many workers there are, errors as values, deadlines, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_clients import CONTRACT, Blob, Empty, Wish
from toy_federations import NAMES, PROBE, by_client, federation, specs, three_rounds, words

from fedloom.errors import BadInput, FedloomError
from fedloom.federation import ContractBreach, Ledger, LocalFederation
from fedloom.federation.codec import encode


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
def test_large_messages(workers: int) -> None:
    blob = Blob(np.random.default_rng(0).integers(0, 256, 20_000_000, dtype=np.uint8))
    with federation(workers) as f:
        for reply in f.ask("echo", blob):
            np.testing.assert_array_equal(reply.message.data, blob.data)


@pytest.mark.parametrize(
    "change", [{"names": ()}, {"names": ("a", "a")}, {"workers": -1}, {"threads": 0}, {"start_timeout": 0}]
)
def test_wrong_input_fails_at_construction(change: dict[str, Any]) -> None:
    options = {"names": NAMES, "workers": 0, **change}
    with pytest.raises(BadInput):
        LocalFederation(specs(options.pop("names")), CONTRACT, Ledger(), **options)
