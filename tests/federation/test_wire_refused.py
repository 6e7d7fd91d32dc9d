"""Messages that are refused: changed ones always, and at no more memory than twice their bytes."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from test_wire_codec import Group, Texts, forge, opinion
from toy_clients import Blob, Empty, Opinion, Wish

from fedloom.federation import ContractBreach, Tensor, WireContract
from fedloom.federation.codec import decode, encode
from fedloom.federation.header import limit_of
from fedloom.federation.messages import fields_of


@dataclass(frozen=True)
class Floats:
    mask: Annotated[NDArray[Any], Tensor("bool", ("M",))]
    values: Annotated[NDArray[Any], Tensor("float32", ("N",))]


def changed(payload: bytes, draw: np.random.Generator) -> bytes:
    """The payload with bits flipped, or with two words, two blocks or two halves of it in each other's place."""
    data = np.frombuffer(payload, np.uint8).copy()
    size = int(draw.choice([1, 2, 4, 8, 512, 4096]))
    if draw.random() < 0.3 or len(data) < 4 * size:
        for _ in range(draw.integers(1, 9)):
            data[draw.integers(len(data))] ^= 1 << draw.integers(8)
    else:
        a, b = sorted(draw.integers(0, len(data) // size, 2) * size)
        data[a : a + size], data[b : b + size] = payload_part(data, b, size), payload_part(data, a, size)
    return data.tobytes()


def payload_part(data: NDArray[np.uint8], at: int, size: int) -> NDArray[np.uint8]:
    part = data[at : at + size].copy()
    return np.resize(part, size) if len(part) < size else part


def test_no_changed_message_is_accepted() -> None:
    """The sums of blocks that were the check of format 2 let swapped words and blocks pass."""
    draw = np.random.default_rng(4)
    payload, tried = encode(opinion(300, 16)), 0
    for _ in range(1000):
        other = changed(payload, draw)
        if other == payload:
            continue
        tried += 1
        with pytest.raises(ContractBreach):
            decode(other, Opinion)
    assert tried > 600


def spoilt(case: str, size: int = 400_000) -> tuple[bytes, type]:
    """A message of so many bytes with one thing wrong, which a reader that looks late has already paid for."""
    body, n = b"\1" * size, size
    if case == "changed":
        return forge(f"Blob\ndata\tuint8\t{n}\n", body)[:-1] + b"\2", Blob
    if case == "nested":
        return forge(b"[" * size), Blob
    if case == "group":  # arrays without number, and then one that is not declared
        lines = "".join(f"\t{i}\tuint8\t0\n" for i in range(20_000))
        return forge(f"Group\narrays\ttensors\t\n{lines}\tx\tint8\t0\n"), Group
    if case == "text":  # one character that is wide, and one that is wrong
        return forge(
            f"Wish\nwhat\ttext\t{n}\nseconds\tfloat\t\n", "\U0001f33c".encode() + body[6:] + b"\xc2\x85\0" + b"\0" * 7
        ), Wish
    if case == "texts":
        head = f"Texts\ntexts\ttexts\t{n // 4},{0}\nflag\tflag\t\n"
        return forge(head, b"\0" * (n // 4 * 4) + b"\2"), Texts
    floats = np.ones(n // 4, np.float32)
    floats[-1] = np.nan
    return forge(f"Floats\nmask\tbool\t8\nvalues\tfloat32\t{n // 4}\n", b"\0" + floats.tobytes()), Floats


@pytest.mark.parametrize("case", ["changed", "nested", "group", "text", "texts", "nan"])
def test_a_refused_message_takes_at_most_twice_its_bytes(case: str) -> None:
    payload, kind = spoilt(case)
    contract = WireContract({"take": (Empty, kind)})
    fields_of(kind), limit_of(kind)
    tracemalloc.start()
    try:
        with pytest.raises(ContractBreach):
            contract.receive("take", payload, "up")
        assert tracemalloc.get_traced_memory()[1] <= 2 * len(payload)
    finally:
        tracemalloc.stop()
