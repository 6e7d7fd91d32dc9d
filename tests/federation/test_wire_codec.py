from __future__ import annotations

import itertools
import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from toy_clients import Blob, Everything, Opinion, Wish

from fedloom.federation import ContractBreach, Empty
from fedloom.federation.codec import checked, decode, describe, encode, message_name
from fedloom.federation.messages import fields_of


def opinion(samples: int = 100, width: int = 64) -> Opinion:
    draw = np.random.default_rng(0)
    representations = draw.normal(size=(samples, width)).astype(np.float32)
    entropies = draw.random(samples, dtype=np.float32)
    return Opinion(representations, draw.integers(0, 9, samples).astype(np.int32), entropies)


def everything(n: int = 11, **changes: Any) -> Everything:
    draw = np.random.default_rng(1)
    fields: dict[str, Any] = {
        "half": draw.normal(size=(n, 3)).astype(np.float16),
        "mask": draw.random(n) < 0.5,
        "scalar": np.array(1.5),
        "model": {"a.weight": np.ones((2, 3), np.float32), "steps": np.array(7, np.int64)},
        "captions": ("a rose", "", "ein Gänseblümchen 🌼"),
        "name": "ünï\ncode",
        "count": -(2**63),
        "loss": 0.1,
        "last": True,
    }
    return Everything(**{**fields, **changes})


def assert_same(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    for field in fields_of(type(a)):
        x, y = getattr(a, field.name), getattr(b, field.name)
        pairs = [(x[k], y[k]) for k in x] if field.kind == "tensors" else [(x, y)]
        assert field.kind != "tensors" or list(x) == list(y)
        for left, right in pairs:
            assert type(left) is type(right)
            np.testing.assert_array_equal(left, right)
            if isinstance(left, np.ndarray):
                assert (left.dtype, left.shape) == (right.dtype, right.shape)


@pytest.mark.parametrize(
    "message",
    [
        Empty(),
        Wish("", -0.0),
        Blob(np.zeros(0, np.uint8)),
        opinion(),
        opinion(0),
        everything(),
        everything(0, captions=(), model={}),
        everything(8, extra=np.arange(8), note="", noisy=np.array([np.nan, np.inf], np.float32)),
        everything(half=np.ones((11, 3), np.float32)),
    ],
    ids=lambda m: type(m).__name__,
)
def test_round_trip(message: Any) -> None:
    payload = encode(message)
    assert_same(message, decode(payload, (Empty, Wish, Blob, Opinion, Everything)))
    assert encode(decode(payload, type(message))) == payload
    assert message_name(payload) == type(message).__name__


def test_arrays_come_back_owned_aligned_and_writable() -> None:
    back = decode(encode(everything(extra=np.arange(11))), Everything)
    for array in (back.half, back.mask, back.scalar, back.extra, *back.model.values()):
        assert array.flags.writeable
        assert array.flags.aligned
        assert array.flags.c_contiguous
        assert array.base is None or array.base.flags.owndata


def test_layout_in_memory_does_not_matter() -> None:
    plain = opinion(6, 4)
    odd = Opinion(np.asfortranarray(plain.representations), plain.labels[::-1][::-1], plain.entropies.astype(">f4"))
    assert encode(odd) == encode(plain)


def test_header_is_small() -> None:
    payload = encode(opinion())
    values = 100 * (64 + 2) * 4
    assert len(payload) - values < 250
    assert len(payload) <= 1.05 * values
    assert sum(row.bytes for row in describe(payload)) == values


def test_describe_gives_the_bytes_of_each_value() -> None:
    rows = {row.field: row[1:] for row in describe(encode(everything()))}
    assert rows["half"] == ("float16", (11, 3), 66)
    assert rows["mask"] == ("bool", (11,), 2)  # 11 bits
    assert rows["model[a.weight]"] == ("float32", (2, 3), 24)
    assert rows["model[steps]"] == ("int64", (), 8)
    assert rows["captions"] == ("utf8", (3,), 3 * 4 + 6 + len("ein Gänseblümchen 🌼".encode()))
    assert rows["count"] == ("int64", (), 8)
    assert rows["last"] == ("bool", (), 1)
    assert rows["extra"] == ("none", (), 0)


def test_any_flipped_byte_is_a_breach() -> None:
    payload = encode(everything())
    draw = np.random.default_rng(2)
    for _ in range(200):
        changed = bytearray(payload)
        changed[draw.integers(len(payload))] ^= 1 << int(draw.integers(8))
        with pytest.raises(ContractBreach):
            decode(bytes(changed), Everything)


def test_any_cut_is_a_breach() -> None:
    payload = encode(opinion(3, 2))
    for end in range(len(payload)):
        with pytest.raises(ContractBreach):
            decode(payload[:end], Opinion)
    with pytest.raises(ContractBreach, match=r"bytes long but says"):
        decode(payload + b"\0", Opinion)


def forge(header: Any, body: bytes = b"") -> bytes:
    """A payload with a true length and checksum, and whatever header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    prefix = struct.pack("<4sIQ", b"FLM\x02", len(text), 20 + len(text) + len(body))
    return prefix + struct.pack("<I", checked(prefix + text + body)) + text + body


def test_forge_can_make_a_good_payload() -> None:
    assert decode(forge(["Blob", [["data", "uint8", [2]]]], b"\1\2"), Blob).data.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("header", "body", "says"),
    [
        (["Blob", [["data", "uint8", [-2]]]], b"", "shape"),
        (["Blob", [["data", "uint8", [2**70]]]], b"", "too large"),
        (["Blob", [["data", "uint8", [2**30, 2**30, 0]]]], b"", "too large"),
        (["Blob", [["data", "uint8", [10**9]]]], b"12", "describes"),
        (["Blob", [["data", "uint8", [1.0]]]], b"1", "shape"),
        (["Blob", [["data", "uint8", [True]]]], b"1", "shape"),
        (["Blob", [["data", "uint8", [1] * 40]]], b"1", "shape"),
        (["Blob", [["data", "uint8", "x"]]], b"1", "shape"),
        (["Blob", [["data", "object", [1]]]], b"12345678", "object"),
        (["Blob", [["data", "complex64", [1]]]], b"12345678", "complex64"),
        (["Blob", [["data", "int32", [1]]]], b"1234", "declared uint8"),
        (["Blob", [["data", "uint8", [1, 1]]]], b"1", "declared uint8"),
        (["Blob", [["data", "none", []]]], b"", "declared uint8"),
        (["Blob", [["data", "tensors", [["a", "uint8", [1]]]]]], b"1", "group of uint8"),
        (["Blob", [["data", "uint8", [1]], ["data", "uint8", [1]]]], b"12", "twice"),
        (["Blob", [["data", "uint8", [1]], ["more", "uint8", [1]]]], b"12", "'more'"),
        (["Blob", []], b"", "lacks its field 'data'"),
        (["Blob", [["data", "uint8", [1]]]], b"12", "describes"),
        (["Stranger", []], b"", "Stranger"),
        ([["Blob"], []], b"", "name"),
        (["Blob"], b"", "header"),
        (["Blob", {"data": 1}], b"", "header"),
        (["Blob", [["data"]]], b"", "header"),
        (["Blob", [[1, "uint8", [1]]]], b"1", "header"),
        (7, b"", "header"),
        (b"\xff\xfe", b"", "header"),
        (b"[" * 100_000, b"", "header"),
        (b'["Blob", [["data", "uint8", [' + b"9" * 5000 + b"]]]]", b"", "header"),
        (["Wish", [["what", "text", [2]], ["seconds", "float", []]]], b"\xff\xfe" + b"\0" * 8, "utf-8"),
        (["Wish", [["seconds", "float", []], ["what", "text", [0]]]], b"\0" * 8, "order"),
        (["Wish", [["what", "text", []], ["seconds", "float", []]]], b"\0" * 8, "header"),
        (["Wish", [["what", "text", [0]], ["seconds", "float", [3]]]], b"\0" * 8, "header"),
        (["Wish", [["what", "text", [0]], ["seconds", "float", []]]], struct.pack("<d", np.inf), "inf"),
        (["Wish", [["what", "uint8", [1]], ["seconds", "float", []]]], b"\0" * 9, "declared str"),
    ],
)
def test_hostile_headers_are_refused(header: Any, body: bytes, says: str) -> None:
    with pytest.raises(ContractBreach, match=says) as caught:
        decode(forge(header, body), (Blob, Wish))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@dataclass(frozen=True)
class Texts:
    texts: tuple[str, ...]
    flag: bool


@pytest.mark.parametrize(("lengths", "flag"), [((1, 3), 0), ((2**32 - 1, 2), 0), ((1, 1), 2)])
def test_hostile_bodies_are_refused(lengths: tuple[int, int], flag: int) -> None:
    header = ["Texts", [["texts", "texts", [2, 2]], ["flag", "flag", []]]]
    with pytest.raises(ContractBreach):
        decode(forge(header, struct.pack("<2I", *lengths) + b"ab" + bytes([flag])), Texts)


def test_a_text_that_utf8_cannot_carry_is_refused() -> None:
    with pytest.raises(ContractBreach, match="what"):
        encode(Wish("\ud800"))


def test_random_bytes_are_refused() -> None:
    draw = np.random.default_rng(3)
    for size in range(64):
        with pytest.raises(ContractBreach):
            decode(draw.bytes(size), Blob)
        with pytest.raises(ContractBreach):
            describe(b"FLM\x02" + draw.bytes(size))


@pytest.mark.parametrize("length", [0, 7, 4095, 4096, 4097, 20_000])
def test_the_check_does_not_depend_on_where_the_bytes_are_cut(length: int) -> None:
    draw = np.random.default_rng(length)
    data = draw.bytes(length)
    whole = checked(data)
    for _ in range(20):
        cuts = [0, *sorted(draw.integers(0, length + 1, 5)), length]
        assert checked(*(data[a:b] for a, b in itertools.pairwise(cuts))) == whole
    for i in draw.integers(0, length, 50 if length else 0):
        assert checked(data[:i], bytes([data[i] ^ 1 << draw.integers(8)]), data[i + 1 :]) != whole


def test_the_check_of_a_block_is_the_crc_of_its_sum() -> None:
    words = np.arange(1024, dtype="<u8")
    sums = struct.pack("<2Q", sum(range(512)), sum(range(512, 1024)))
    assert checked(words.tobytes(), b"end") == zlib.crc32(b"end", zlib.crc32(sums[8:], zlib.crc32(sums[:8])))
