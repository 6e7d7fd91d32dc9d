"""Federations of toy clients on the local engine, and what they say."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from toy_clients import CONTRACT, Empty, Probe, Wish

from fedloom.federation import ClientSpec, Federation, LocalFederation, Reply
from fedloom.federation.codec import encode

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


def rounds(f: Federation, numbers: Sequence[int] = (1, 2, 3)) -> dict[tuple[int, str], bytes]:
    """What clients say in these rounds, encoded, by round and client; scores under minus the round."""
    said = {}
    for f.round in numbers:
        for reply in f.ask("infer", PROBE):
            said[f.round, reply.client] = encode(reply.message)
        lessons = {c: Wish(f"for {c}") for c in f.clients_of("image")}
        assert set(words(f.ask("retrain", lessons))) == {"image-0", "image-1"}
        for reply in f.ask("evaluate", Empty()):
            said[-f.round, reply.client] = encode(reply.message)
    return said


def three_rounds(workers: int, names: Sequence[str] = NAMES) -> dict[tuple[int, str], bytes]:
    with federation(workers, names) as f:
        return rounds(f)
