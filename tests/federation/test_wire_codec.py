from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pytest
import xxhash
from numpy.typing import NDArray
from toy_clients import Blob, Everything, Opinion, Wish

from fedloom.federation import ContractBreach, Empty, Tensor, Tensors
from fedloom.federation.codec import decode, describe, encode
from fedloom.federation.header import GROUP_BYTES, limit_of
from fedloom.federation.messages import fields_of, sendable


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
    assert describe(payload, type(message)).message == type(message).__name__


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
    assert sum(row.bytes for row in describe(payload, Opinion).values) == values


def test_describe_gives_the_bytes_of_each_value() -> None:
    rows = {row.field: row[1:] for row in describe(encode(everything()), Everything).values}
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


def forge(header: str | bytes, body: bytes = b"") -> bytes:
    """A payload with a true length and checksum, and whatever header."""
    text = header if isinstance(header, bytes) else header.encode()
    prefix = struct.pack("<4sIQ", b"FLM\x03", len(text), 24 + len(text) + len(body))
    return prefix + struct.pack("<Q", xxhash.xxh3_64_intdigest(prefix + text + body)) + text + body


def test_forge_can_make_a_good_payload() -> None:
    assert decode(forge("Blob\ndata\tuint8\t2\n", b"\1\2"), Blob).data.tolist() == [1, 2]
    assert encode(Blob(np.array([1, 2], np.uint8))) == forge("Blob\ndata\tuint8\t2\n", b"\1\2")


@pytest.mark.parametrize(
    ("header", "body", "says"),
    [
        ("Blob\ndata\tuint8\t-2\n", b"", "cannot be read"),
        (f"Blob\ndata\tuint8\t{10**15 - 1}\n", b"", "too large"),
        (f"Blob\ndata\tuint8\t{2**30},{2**30},0\n", b"", "too large"),
        ("Blob\ndata\tuint8\t1000000000\n", b"12", "describes"),
        ("Blob\ndata\tuint8\t1.0\n", b"1", "cannot be read"),
        ("Blob\ndata\tuint8\t01\n", b"1", "cannot be read"),
        ("Blob\ndata\tuint8\t\u0661\n", b"1", "cannot be read"),
        ("Blob\ndata\tuint8\t1" + ",1" * 39 + "\n", b"1", "cannot be read"),
        ("Blob\ndata\tuint8\tx\n", b"1", "cannot be read"),
        ("Blob\ndata\tobject\t1\n", b"12345678", "object"),
        ("Blob\ndata\tint32\t1\n", b"1234", "declared uint8"),
        ("Blob\ndata\tuint8\t1,1\n", b"1", "declared uint8"),
        ("Blob\ndata\tuint8\t\n", b"1", "declared uint8"),
        ("Blob\ndata\tnone\t\n", b"", "declared uint8"),
        ("Blob\ndata\ttensors\t\n\ta\tuint8\t1\n", b"1", "declared uint8"),
        ("Blob\n\ta\tuint8\t1\n", b"1", "outside of a group"),
        ("Blob\ndata\tuint8\t1\n\ta\tuint8\t1\n", b"12", "outside of a group"),
        ("Blob\ndata\tuint8\t1\ndata\tuint8\t1\n", b"12", "twice"),
        ("Blob\ndata\tuint8\t1\nmore\tuint8\t1\n", b"12", "'more'"),
        ("Blob\n", b"", "lacks its field 'data'"),
        ("Blob\ndata\tuint8\t1\n", b"12", "describes"),
        ("Blob\ndata\tuint8\t1", b"1", "cannot be read"),
        ("Stranger\n", b"", "Stranger"),
        ("Blob", b"", "message is"),
        ("Empty", b"", "message is"),
        ("", b"", "message is"),
        ("Blob\ndata\n", b"", "cannot be read"),
        (b"\xff\xfe", b"", "not UTF-8"),
        (b"Blob\ndata\x1b\tuint8\t1\n", b"1", "control character"),
        (b"Blob\ndata\xc2\x9b\tuint8\t1\n", b"1", "control character"),
        (b"Blob\ndat\xed\xa0\x80\tuint8\t1\n", b"1", "not UTF-8"),
        ("[" * 40, b"", "message is"),
        ("[" * 100_000, b"", "header of 100000 bytes, allowed"),
        ("Blob\ndata\tuint8\t" + "9" * 40 + "\n", b"", "cannot be read"),
        ("Wish\nwhat\ttext\t2\nseconds\tfloat\t\n", b"\xff\xfe" + b"\0" * 8, "not UTF-8"),
        ("Wish\nwhat\ttext\t3\nseconds\tfloat\t\n", b"\xed\xa0\x80" + b"\0" * 8, "not UTF-8"),
        ("Wish\nwhat\ttext\t2\nseconds\tfloat\t\n", b"a\x1b" + b"\0" * 8, "control character"),
        ("Wish\nwhat\ttext\t2\nseconds\tfloat\t\n", b"\xc2\x85" + b"\0" * 8, "control character"),
        ("Wish\nseconds\tfloat\t\nwhat\ttext\t0\n", b"\0" * 8, "order"),
        ("Wish\nwhat\ttext\t\nseconds\tfloat\t\n", b"\0" * 8, "cannot cross"),
        ("Wish\nwhat\ttext\t0\nseconds\tfloat\t3\n", b"\0" * 8, "cannot cross"),
        ("Wish\nwhat\ttext\t0\nseconds\tfloat\t\n", struct.pack("<d", np.inf), "infinite"),
        ("Wish\nwhat\tuint8\t1\nseconds\tfloat\t\n", b"\0" * 9, "declared str"),
    ],
)
def test_hostile_headers_are_refused(header: str | bytes, body: bytes, says: str) -> None:
    with pytest.raises(ContractBreach, match=says) as caught:
        decode(forge(header, body), (Blob, Wish))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@dataclass(frozen=True)
class Group:
    arrays: Annotated[Mapping[str, NDArray[Any]], Tensors("uint8")]


@pytest.mark.parametrize(
    ("lines", "body", "says"),
    [
        ("\ta\tuint8\t1\n\ta\tuint8\t1\n", b"12", "two arrays are called 'a'"),
        ("\ta\tint32\t1\n", b"1234", "group of int32"),
        ("\ta\ttext\t1\n", b"1", "cannot cross"),
        (f"\t{'a' * 257}\tuint8\t1\n", b"1", "cannot be read"),
    ],
)
def test_hostile_groups_are_refused(lines: str, body: bytes, says: str) -> None:
    with pytest.raises(ContractBreach, match=says):
        decode(forge(f"Group\narrays\ttensors\t\n{lines}", body), Group)


@pytest.mark.parametrize("name", ["a\tb", "a\n", "\x1b[2J", "\ud800", "a" * 257])
def test_an_array_of_such_a_name_is_not_sent(name: str) -> None:
    with pytest.raises(ContractBreach, match="an array is called"):
        encode(Group({name: np.zeros(1, np.uint8)}))


@dataclass(frozen=True)
class Texts:
    texts: tuple[str, ...]
    flag: bool


@pytest.mark.parametrize(("lengths", "flag"), [((1, 3), 0), ((2**32 - 1, 2), 0), ((1, 1), 2)])
def test_hostile_bodies_are_refused(lengths: tuple[int, int], flag: int) -> None:
    header = "Texts\ntexts\ttexts\t2,2\nflag\tflag\t\n"
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
            describe(b"FLM\x03" + draw.bytes(size), Blob)


def test_the_most_bytes_are_what_is_said() -> None:
    payload = encode(opinion())
    assert_same(decode(payload, Opinion, largest=len(payload)), opinion())
    line = f"has {len(payload)} bytes, allowed: {len(payload) - 1}"
    with pytest.raises(ContractBreach, match=line):
        encode(opinion(), largest=len(payload) - 1)
    with pytest.raises(ContractBreach, match=line):
        decode(payload, Opinion, largest=len(payload) - 1)


def test_every_header_has_room_within_its_limit() -> None:
    """Shapes of 15 digits, and names as long as they may be."""
    long = Everything.__name__ + "\n" + "".join(
        f"{f.name}\t{'float64'}\t{','.join(['1' * 15] * len(f.spec.shape))}\n" if isinstance(f.spec, Tensor) else
        f"{f.name}\ttensors\t{'1' * 15},{'1' * 15}\n"
        for f in fields_of(Everything)
    )  # fmt: skip
    assert len(long) <= limit_of(Everything) < len(long) + 2 * GROUP_BYTES


def test_what_may_cross_is_made_so() -> None:
    assert sendable(["a\r\nb", "t\tx", "caf\x92e", "\x1b[2J", "ü 🌼"]) == ("a \nb", "t\tx", "caf e", " [2J", "ü 🌼")
    for text in ("a\r", "\0", "\x7f", "\x85", "\x1b[2J"):
        with pytest.raises(ContractBreach, match="what is a text that cannot cross: it holds the control character"):
            encode(Wish(text))
    assert decode(encode(Wish("a\n\tb")), Wish).what == "a\n\tb"
