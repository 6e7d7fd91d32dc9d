"""What servers and silos say to each other, and what a silo keeps."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated, Any

import numpy as np
from flwr.app import ConfigRecord, RecordDict
from numpy.typing import NDArray

from fedloom.federation import WireContract
from fedloom.federation.codec import encode
from fedloom.federation.engines.flower.grid import GridFederation
from fedloom.federation.engines.flower.records import pack, pack_payloads, unpack
from fedloom.federation.engines.flower.transport import Transport, hello, words
from fedloom.federation.engines.silo.envelopes import PROTOCOL, Envelope, Join
from fedloom.federation.engines.silo.host import SiloHost
from fedloom.federation.engines.silo.store import SiloStore
from fedloom.federation.host import ClientSpec
from fedloom.federation.ledger import Ledger
from fedloom.federation.messages import Tensor
from fuzz.harness import LONGEST_LINE, Surface
from fuzz.inputs import Input


@dataclass(frozen=True)
class Blob:
    """Any bytes."""

    data: Annotated[NDArray[Any], Tensor("uint8", ("N",))]


CONTRACT = WireContract({"echo": (Blob, Blob)})


class Echo:
    """Says what it hears, and counts."""

    def __init__(self) -> None:
        self.calls = 0

    def echo(self, message: Blob, round: int) -> Blob:
        self.calls += 1
        return message

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"none": np.zeros(0)}, {"calls": self.calls}

    def load_state(self, tensors: dict[str, Any], meta: dict[str, Any]) -> None:
        self.calls = meta["calls"]


def make_echo(name: str) -> Echo:
    return Echo()


def _join() -> bytes:
    assigned = {"silo-0": [ClientSpec("image-0", "image", f"{__name__}:make_echo").to_json()]}
    return encode(Join(json.dumps(CONTRACT.to_names()), json.dumps(assigned), "", {}))


def draw_letters(rng: Random) -> Input:
    """What a server says to a silo: join, a request, back again, the end. A letter's payloads bear its number."""
    blobs = [encode(Blob(np.frombuffer(rng.randbytes(rng.randrange(9)), np.uint8))) for _ in range(2)]
    asks = [{"client": "image-0", "verb": "echo", "round": 1, "key": f"k{i}", "payload": i} for i in range(2)]
    headers: list[dict[str, Any]] = [
        {"op": "hello"},
        {"op": "join", "run": "r1", "protocol": PROTOCOL},
        {"op": "ask", "run": "r1", "requests": asks, "notices": ["slow"]},
        {"op": "rewind", "run": "r1", "round": 1},
        {"op": "finish", "run": "r1"},
        {"op": "ping"},
    ]
    files: dict[str, Any] = {f"{i}.json": json.dumps(header).encode() for i, header in enumerate(headers)}
    return Input({**files, "1-0": _join(), "2-0": blobs[0], "2-1": blobs[1]})


def _letters(given: Input) -> list[Envelope]:
    """The letters whose header is JSON, through Flower's records."""
    letters = []
    for i in range(6):
        header = given.files.get(f"{i}.json")
        if not isinstance(header, bytes):
            continue
        payloads = tuple(given.files[k] for k in sorted(given.files) if re.fullmatch(rf"{i}-\d", k))
        record = RecordDict(
            {
                "letter": ConfigRecord({"header": header.decode("utf-8", "replace")}),
                "payloads": pack_payloads(tuple(p for p in payloads if isinstance(p, bytes))),
            }
        )
        letters.append(unpack(record))
    return letters


def read_letters(folder: Path, given: Input) -> Any:
    """A silo answers every letter; an echo is what was given, and nothing else is a reply."""
    host = SiloHost(SiloStore(folder / "state"), "silo-0")
    for letter in _letters(given):
        answer = host.answer(letter)
        assert isinstance(unpack(pack(answer.header, pack_payloads(answer.payloads))), Envelope)
        requests = letter.header.get("requests")
        for row, asked in zip(answer.header.get("outcomes", ()), requests if isinstance(requests, list) else ()):
            if row["error"] is None:
                assert answer.payloads[row["payload"]] == letter.payloads[int(asked["payload"])]
                assert (asked["client"], asked["verb"]) == ("image-0", "echo")
        failed = answer.header.get("failed", "")
        assert "\n" not in failed
        assert len(failed) < LONGEST_LINE, failed[:100]


def draw_state(rng: Random) -> Input:
    """A silo's folder after two requests."""
    if not _STATE:
        folder = Path(tempfile.mkdtemp())
        host = SiloHost(SiloStore(folder), "silo-0")
        host.answer(Envelope({"op": "join", "run": "r1"}, (_join(),)))
        for i in range(2):
            host.answer(_ask(i))
        _STATE.update({str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()})
        shutil.rmtree(folder)
    return Input(dict(_STATE))


_STATE: dict[str, Any] = {}
_SAID = encode(Blob(np.arange(5, dtype=np.uint8)))


def _ask(i: int) -> Envelope:
    row = {"client": "image-0", "verb": "echo", "round": i + 1, "key": "k", "payload": 0}
    return Envelope({"op": "ask", "run": "r1", "requests": [row]}, (_SAID,))


def read_state(folder: Path, given: Input) -> Any:
    """A silo that starts anew over the folder answers rightly or not at all."""
    host = SiloHost(SiloStore(folder), "silo-0")
    for letter in (_ask(1), _ask(2), Envelope({"op": "rewind", "run": "r1", "round": 1})):
        answer = host.answer(letter)
        outcome = answer.header.get("outcomes", [{"error": answer.header.get("failed")}])[0]
        assert outcome["error"] is not None or not answer.payloads or answer.payloads == (_SAID,)


# ---------------------------------------------------------------------------------------------------- to the server


def draw_answers(rng: Random) -> Input:
    """What a silo may answer: itself, its clients, outcomes, a failure."""
    rows = [{"client": "image-0", "error": None, "seconds": 0.5, "payload": 0, "detail": ""}]
    rows += [{"client": "image-0", "error": "raised", "seconds": 1, "payload": None, "detail": "out of\nluck"}]
    about = {"name": "silo-0", "modality": "image", "model": None}
    headers: list[dict[str, Any]] = [
        {"silo": "silo-0", "about": about, "protocol": PROTOCOL, "version": "0.2.0"},
        {"silo": "silo-0", "clients": {"image-0": "image"}, "loads": 1},
        {"silo": "silo-0", "outcomes": rows},
        {"silo": "silo-0", "failed": "no luck", "unjoined": True, "lost": True, "fate": "lost"},
    ]
    return Input({**{f"{i}.json": json.dumps(h).encode() for i, h in enumerate(headers)}, "2-0": _SAID})


_INVITED = encode(Join("{}", "", "", {}))


class _Grid:
    """A grid with one node, whose key is that of silo-0, and which answers what it is told."""

    def __init__(self, answers: list[Envelope]) -> None:
        self.answers = answers

    def silo_names(self) -> dict[int, str]:
        return {11: "silo-0"}


def read_answers(folder: Path, given: Input) -> Any:
    """What the server takes out of the letters: clients, outcomes."""
    mail = Transport(_Grid([]))  # type: ignore[arg-type]
    federation: Any = object.__new__(GridFederation)
    federation._transport, federation._silos, federation._homes = mail, {}, {}
    federation._modalities, federation._arrivals, federation.ledger, federation.round = {}, [], Ledger(), 0
    federation._run, federation._invitation, federation._patience, federation._held = "r1", (_INVITED,), 1.0, None
    federation.missing, federation._notices, federation._refused, federation._assigned = [], {}, set(), None
    found: list[Any] = []
    for letter in _letters(given):
        mail.exchange = lambda letters, patience, answer=letter: iter([(11, answer)])  # type: ignore[method-assign,assignment,misc]
        found.append(sorted(hello(mail, [11], 1.0)))
        federation._invite([11], [11])
        asked = [_Request(0), _Request(1)]
        federation._silos.setdefault(11, "silo-0")
        federation._arrivals = []
        federation._open_envelope(11, asked, letter)
        for arrival in federation._arrivals:
            assert isinstance(arrival.outcome.detail, str)
            assert arrival.outcome.payload is None or arrival.outcome.payload in letter.payloads
            assert arrival.outcome.seconds >= 0
            assert arrival.outcome.error in (None, "raised", "refused", "lost", "timeout")
    assert all(
        isinstance(k, str) and v in ("image", "text", "pair", "joint") for k, v in federation._modalities.items()
    )
    json.dumps([words(m) for m in federation.missing], allow_nan=False)


@dataclass
class _Request:
    id: int
    client: str = "image-0"


def nothing(folder: Path, given: Input) -> Any:
    """What is right was checked while reading."""


SURFACES = (
    Surface("letters", draw_letters, read_letters, nothing, share=1.5, files_too=False),
    Surface("silo state", draw_state, read_state, nothing, share=0.7),
    Surface("silo answers", draw_answers, read_answers, nothing, files_too=False),
)
