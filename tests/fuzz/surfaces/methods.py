"""Messages of every method, requests and replies, as a server and its clients receive them.

Damage without a right checksum must be refused. With one, what is accepted must be, byte for byte, what its values
are written as: so nothing is taken for something else, or in part.
"""

from __future__ import annotations

import functools
import hashlib
import math
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from fedloom.federation.codec import encode
from fedloom.federation.contract import Direction, WireContract
from fedloom.federation.messages import Field, Tensor, Tensors, fields_of
from fedloom.methods.base import load_method
from fedloom.methods.catalogue import CATALOGUE
from fedloom.methods.leaving import securely
from fuzz.harness import Refused, Surface
from fuzz.inputs import Input
from fuzz.surfaces.wire import SENDABLE, damage_header, mend_message, swap_words

_CHECK = slice(16, 24)  # of a message, its checksum
Spot = tuple[str, bool, str, Direction, int]  # method, by secure sums, verb, direction, which of the message classes


@functools.cache
def contract_of(method: str, secure: bool) -> WireContract:
    kind, fixed = load_method(method)
    return kind.contract(kind.settings(**{**fixed, **({"secure": True} if secure else {})}))


@functools.cache
def spots() -> tuple[Spot, ...]:
    """Every message that may cross; what methods share once."""
    found: dict[Any, Spot] = {}
    for method in CATALOGUE:
        kind = load_method(method)[0]
        for secure in (False, True) if securely(method) else (False,):
            contract = contract_of(method, secure)
            for verb in contract.verbs if kind.tasks else ():
                for way in ("down", "up"):
                    for i, message in enumerate(contract.types(verb, way)):
                        found.setdefault((verb, message), (method, secure, verb, way, i))
    return tuple(found.values())


def draw(rng: Random) -> Input:
    method, secure, verb, way, index = rng.choice(spots())
    kind = contract_of(method, secure).types(verb, way)[index]
    sizes: dict[str, int] = {}
    payload = encode(kind(**{f.name: _value(rng, f, sizes) for f in fields_of(kind)}))
    told = {"spot": [method, secure, verb, way], "check": payload[_CHECK].hex(), "sha256": _digest(payload)}
    return Input({"payload": payload}, told)


def _digest(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()


def _value(rng: Random, field: Field, sizes: dict[str, int]) -> Any:
    if field.optional and rng.random() < 0.3:
        return None
    if isinstance(field.spec, Tensor):
        shape = [n if isinstance(n, int) else sizes.setdefault(n, rng.randrange(5)) for n in field.spec.shape]
        return _array(rng, field, rng.choice(field.spec.dtypes), tuple(shape))
    if isinstance(field.spec, Tensors):
        some = range(rng.randrange(3))
        return {f"layer.{i}": _array(rng, field, rng.choice(field.spec.dtypes), (rng.randrange(3), 2)) for i in some}
    low, high = (max(-1e6, min(bound, 1e6)) for bound in field.bounds(field.kind == "float"))
    match field.kind:
        case "text":
            return rng.choice(SENDABLE)
        case "texts":
            return tuple(rng.choice(SENDABLE) for _ in range(rng.randrange(4)))
        case "flag":
            return rng.random() < 0.5
        case "int":
            return rng.randint(math.ceil(low), math.floor(high))
        case _:
            return rng.uniform(low, high)


def _array(rng: Random, field: Field, dtype: str, shape: tuple[int, ...]) -> Any:
    draws, kind = np.random.default_rng(rng.randrange(2**32)), np.dtype(dtype).kind
    if kind == "b":
        return draws.random(shape) < 0.5
    low, high = field.bounds(kind == "f")
    if kind == "f":
        return draws.uniform(max(low, -9), min(high, 9), shape).astype(dtype)
    info = np.iinfo(dtype)
    return draws.integers(int(max(low, info.min)), int(min(high, info.max)), shape, dtype=dtype, endpoint=True)


def read(folder: Path, given: Input) -> Any:
    """As the other end receives it."""
    payload: Any = given.files["payload"]
    method, secure, verb, way = given.options["spot"]
    message, _ = contract_of(method, secure).receive(verb, payload, way)
    return encode(message)


def truth(folder: Path, given: Input) -> Any:
    """The bytes themselves; what is changed under the old checksum is no message."""
    payload: Any = given.files["payload"]
    if payload[_CHECK].hex() == given.options["check"] and _digest(payload) != given.options["sha256"]:
        raise Refused("changed")
    return payload


SURFACES = (
    Surface("messages", draw, read, truth, (damage_header, swap_words), mend_message, share=5, files_too=False),
)
