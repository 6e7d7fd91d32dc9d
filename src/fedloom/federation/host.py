"""One client on its own machine: built from a recipe, asked by verb, checked against the wire contract, saved, loaded.

Every engine runs this same class, in whatever process the client lives in.
"""

from __future__ import annotations

import hashlib
import json
import pkgutil
import re
import time
import traceback
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import xxhash

from fedloom.errors import BadInput, FedloomError, printable
from fedloom.federation.codec import Described, encode
from fedloom.federation.contract import Direction, WireContract
from fedloom.federation.messages import Array, BoundBreach, ContractBreach
from fedloom.runs.disk import write_atomic
from fedloom.strict_json import parse

Failure = Literal["raised", "timeout", "lost", "refused"]
Received = Callable[[Described | None], None]  # None: it was refused
Guard = Callable[[WireContract, str, Any, Direction], None]  # (contract, verb, message, direction); raises BoundBreach


class HostedClient(Protocol):
    """The client side of a method: its state, and one method per verb, `verb(message, round=int) -> message`."""

    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """What must survive a crash: arrays by name, and anything else as JSON."""

    def load_state(self, tensors: dict[str, Array], meta: dict[str, Any]) -> None:
        """Restores what `state` returned."""


@dataclass(frozen=True)
class ClientSpec:
    """How to build a client: `factory` ("package.module:function") is called with name=... and `arguments`."""

    name: str
    modality: str
    factory: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """For another process."""
        return {**vars(self), "arguments": dict(self.arguments)}

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", self.name):
            raise BadInput(f"client name {self.name!r} must be letters, digits, '_', '-', '.' (it names files)")
        if not re.fullmatch(r"[\w.]+:\w+", self.factory):
            raise BadInput(f"factory {self.factory!r} of client {self.name!r} must be 'package.module:function'")
        try:
            json.dumps(dict(self.arguments))
        except (TypeError, ValueError) as error:
            raise BadInput(f"arguments of client {self.name!r} are not JSON: {error}") from error


class ClientError(FedloomError):
    """A client could not answer: `kind`, one line of `detail`, and the full traceback as text (or "")."""

    def __init__(self, kind: Failure, detail: str, trace: str = "") -> None:
        super().__init__(detail)
        self.kind: Failure = kind
        self.detail = detail
        self.trace = trace


class Outcome(NamedTuple):
    """What became of one request at a client: reply bytes or a failure, and the seconds it took there."""

    payload: bytes | None = None
    error: Failure | None = None
    detail: str = ""
    trace: str = ""
    seconds: float = 0.0


class Snapshot(NamedTuple):
    """A client's state at one moment: its arrays as the bytes of a safetensors file, and the rest as JSON."""

    client: str
    data: bytes
    meta: str

    def write(self, folder: Path, tag: Mapping[str, Any], *, durable: bool = True) -> None:
        """Writes `<client>.safetensors`, then `<client>.json` (tag, meta, checksum). Raises FedloomError.

        durable: they are there after a power cut, too.
        """
        meta = json.loads(self.meta)
        record = {"client": self.client, "tag": dict(tag), "crc32": zlib.crc32(self.data), "meta": meta}
        write_atomic(folder / f"{self.client}.safetensors", self.data, durable=durable)
        write_atomic(folder / f"{self.client}.json", json.dumps(record, indent=1).encode(), durable=durable)

    def digest(self) -> bytes:
        """What tells it from another state of the client."""
        digest = xxhash.xxh3_128(self.meta.encode())
        digest.update(self.data)
        return digest.digest()


class ClientHost:
    """The client of `spec` behind `contract`, which keeps its last `remember` replies for repeats.

    guard: is shown each request that the contract allows before the client is, and each reply before it is encoded.
    """

    def __init__(
        self, spec: ClientSpec, contract: WireContract, *, remember: int = 4, guard: Guard = lambda *shown: None
    ) -> None:
        self.spec = spec
        self.contract = contract
        self.remember = remember
        self.guard = guard
        self._client: HostedClient | None = None
        self._aside: Any = None
        self._replies: OrderedDict[tuple[str, int, str, bytes], bytes] = OrderedDict()

    @property
    def client(self) -> HostedClient:
        """The client, built at first use. Raises FedloomError naming it when its factory fails."""
        if self._client is None:
            try:
                self._client = load_function(self.spec.factory)(name=self.spec.name, **self.spec.arguments)
            except BoundBreach:
                raise
            except BadInput as error:
                raise BadInput(f"client {self.spec.name!r}: {error}") from error
            except Exception as error:
                raise FedloomError(f"client {self.spec.name!r} cannot be built: {one_line(error)}") from error
            if self._aside is not None:
                client: Any = self._client
                client.aside = self._aside
        return self._client

    @property
    def built(self) -> bool:
        """Whether the client is in memory."""
        return self._client is not None

    def release(self) -> None:
        """Lets go of the client, which is built again at its next use, as it was at first.

        What it has as `aside` is kept: what no file may hold, such as the keys of a secure sum that is under way.
        """
        self._aside, self._client = getattr(self._client, "aside", None), None

    def handle(self, verb: str, round: int, key: str, payload: bytes, received: Received | None = None) -> bytes:
        """The encoded reply to an encoded request. received: is told what the request holds, once it was looked at.

        A request that repeats (verb, round, key, payload) gets the recorded reply and does not reach the
        client. `key` tells apart requests that only look alike, such as two evaluations in one round. Raises
        ClientError.
        """
        digest = hashlib.blake2b(payload, digest_size=16).digest() if self.remember else b""
        request = verb, round, key, digest
        if request in self._replies:
            return self._replies[request]
        try:
            message, described = self.contract.receive(verb, payload, "down")
        except ContractBreach as breach:
            if received is not None:
                received(None)
            raise ClientError("refused", str(breach)) from breach
        if received is not None:
            received(described)
        try:
            self.guard(self.contract, verb, message, "down")
            answer = getattr(self.client, verb)(message, round=round)
        except BoundBreach as breach:
            raise ClientError("refused", str(breach)) from breach
        except Exception as error:
            raise ClientError("raised", one_line(error), traceback.format_exc()) from error
        try:
            self.contract.check(verb, answer, "up")
            self.guard(self.contract, verb, answer, "up")
            reply = encode(answer, self.contract.largest)
        except ContractBreach as breach:
            raise ClientError("refused", str(breach)) from breach
        if self.remember:
            self._replies[request] = reply
            while len(self._replies) > self.remember:
                self._replies.popitem(last=False)
        return reply

    def outcome(self, verb: str, round: int, key: str, payload: bytes, received: Received | None = None) -> Outcome:
        """`handle` with failures as values, timed."""
        start = time.perf_counter()
        try:
            outcome = Outcome(self.handle(verb, round, key, payload, received))
        except ClientError as error:
            outcome = Outcome(None, error.kind, error.detail, error.trace)
        return outcome._replace(seconds=time.perf_counter() - start)

    def snapshot(self) -> Snapshot:
        """The client's state as it is now. Raises FedloomError."""
        from safetensors.numpy import save

        name = self.spec.name
        try:
            tensors, meta = self.client.state()
            # safetensors writes memory as it lies, so a transposed array must be put in C order first.
            data: bytes = save({key: np.asarray(value, order="C") for key, value in tensors.items()})
            text = json.dumps(meta)
        except FedloomError:
            raise
        except Exception as error:
            raise FedloomError(f"client {name!r} cannot give its state: {one_line(error)}") from error
        return Snapshot(name, data, text)

    def save(self, folder: Path, tag: Mapping[str, Any]) -> None:
        """Writes `<name>.safetensors`, then `<name>.json` (tag, meta, checksum). Raises FedloomError."""
        folder.mkdir(parents=True, exist_ok=True)
        self.snapshot().write(folder, tag)

    def load(self, folder: Path, tag: Mapping[str, Any], *, earlier: bool = False) -> bytes:
        """Restores what `save` wrote; its digest. Raises FedloomError for files absent, cut, or of another tag.

        earlier: the files may be of an earlier round than the tag says: the client has not changed since.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        name = self.spec.name
        try:
            record = parse(_regular(folder / f"{name}.json"), finite=False, halves=True, own=True)
            data = _regular(folder / f"{name}.safetensors")
            if zlib.crc32(data) != record["crc32"]:
                raise ValueError("the .safetensors file is not the one its .json was written for")
            said = record["tag"]
            if earlier and said["round"] < tag["round"]:
                said = {**said, "round": tag["round"]}
            if (record["client"], said) != (name, dict(tag)):
                raise ValueError(f"it is of {record['client']!r}, {record['tag']}, not {name!r}, {dict(tag)}")
            tensors = {key: array.copy() for key, array in load(data).items()}
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise FedloomError(f"no checkpoint of client {name!r} in {folder}: {one_line(error)}") from error
        try:
            self.client.load_state(tensors, record["meta"])
        except FedloomError:
            raise
        except Exception as error:
            raise FedloomError(f"client {name!r} does not take its state back: {one_line(error)}") from error
        self._replies.clear()
        return Snapshot(name, data, json.dumps(record["meta"])).digest()


def _regular(path: Path) -> bytes:
    """The content of a file; OSError for a pipe or a device, which might never end."""
    if not path.is_file():
        raise FileNotFoundError(f"{path.name}: there is no such file")
    return path.read_bytes()


def load_function(name: str) -> Callable[..., Any]:
    """The function called "package.module:function". Raises BadInput when there is none."""
    try:
        found = pkgutil.resolve_name(name)
    except (ImportError, AttributeError) as error:
        raise BadInput(f"cannot import {name!r}: {error}") from error
    if not callable(found):
        raise BadInput(f"{name!r} is {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]


def one_line(error: BaseException) -> str:
    """An exception as one line: its type and its message."""
    text = printable(" ".join(str(error).split()))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
