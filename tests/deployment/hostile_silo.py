"""A silo whose answers are scripted, round by round: what somebody with a valid key could send.

Its worker answers in the worker's own way; texts that no `json.dumps` would write are put in place of a header in the
process that speaks to Flower (`SITE`).
"""

from __future__ import annotations

import os
import struct
from typing import Any

import xxhash

from fedloom.federation.codec import decode
from fedloom.federation.engines.silo.envelopes import PROTOCOL, Envelope, Join
from fedloom.federation.engines.silo.host import SiloHost
from fedloom.strict_json import parse

# sitecustomize.py of the hostile silo's processes: a header {"raw": TEXT} is TEXT (in a frame it is one of a list).
SITE = """
import json
_dumps = json.dumps
def dumps(value, **how):
    return value["raw"] if isinstance(value, dict) and "raw" in value else _dumps(value, **how)
json.dumps = dumps
"""
ROWS = '{"silo": "%s", "outcomes": [%s]}'
ROW = '{"client": "%s", "error": null, "seconds": %s, "payload": 0, "detail": "%s"}'
OTHER = "silo-0"  # whose name is taken
# What is answered in each round from 1: name of the attack, and what the server says of it.
SCRIPT = {
    "nested header": "nested too deeply",
    "nested message": "declared FedAvgUpdate",
    "a number of 400 digits": "too large a number",
    "half a character": "half a character",
    "control characters": "control character",
    "another's name": f"answers as '{OTHER}'",
    "another's client": "the answer is of client 'image-0'",
    "rows without end": "no outcome of what was asked",
}


def settle(threads: int) -> None:
    """The worker's initialiser: all answers are scripted, by who the silo is."""
    SiloHost.answer = answer  # type: ignore[method-assign]


def answer(host: SiloHost, envelope: Envelope) -> Envelope:
    """In place of `SiloHost.answer`."""
    header, name = envelope.header, host.name
    match header.get("op"):
        case "hello":
            return Envelope({"silo": name, "about": None, "protocol": PROTOCOL, "version": "0"})
        case "join":
            assigned = parse(decode(envelope.payloads[0], Join).assigned).get(name, ())
            clients = {spec["name"]: spec["modality"] for spec in assigned}
            if name == "many":
                clients = {f"image-{i}": "image" for i in range(100)}
            return Envelope({"silo": OTHER if name == "taker" else name, "clients": clients, "loads": 1})
        case "ask":
            return scripted(name, header["requests"])
    return Envelope({"silo": name, "clients": {}, "loads": 1, "pid": os.getpid()})


def scripted(name: str, requests: list[dict[str, Any]]) -> Envelope:
    """The answer of the round."""
    client, t = requests[0]["client"], requests[0]["round"]
    attack = (list(SCRIPT)[t - 1 : t] or ["rows without end"])[0] if t else "rows without end"

    def raw(seconds: str = "1.0", detail: str = "", who: str = client, silo: str = name) -> Envelope:
        return Envelope({"raw": ROWS % (silo, ", ".join([ROW % (who, seconds, detail)] * len(requests)))}, (b"FLM",))

    match attack:
        case "nested header":
            return Envelope({"raw": "[" * 100_000})
        case "nested message":
            text, start = b"[" * 100_000, struct.pack("<4sIQ", b"FLM\x03", 100_000, 24 + 100_000)
            check = struct.pack("<Q", xxhash.xxh3_64_intdigest(start + text))
            return raw()._replace(payloads=(start + check + text,))
        case "a number of 400 digits":
            return raw(seconds="1" + "0" * 400)
        case "half a character":
            return raw(detail="\\ud800")
        case "control characters":
            return raw(detail="\\u001b[2J")
        case "another's name":
            return raw(silo=OTHER)
        case "another's client":
            return raw(who="image-0")
        case _:
            return Envelope({"silo": name, "outcomes": [{}] * 100_000})
