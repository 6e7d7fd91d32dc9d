"""Envelopes as Flower's records and back.

A payload travels as one Array, which Flower cuts into chunks named by their content: what several silos are sent
is held and uploaded once. Its bytes are our own codec's, so no dtype and no shape depends on the engine.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fedloom.errors import printable
from fedloom.federation.engines.silo.envelopes import Envelope
from fedloom.federation.messages import ContractBreach
from fedloom.strict_json import parse

if TYPE_CHECKING:
    from flwr.app import ArrayRecord, RecordDict

_KIND = "fedloom.message"
MOST_HEADER = 16 << 20  # bytes


def pack_payloads(payloads: tuple[bytes, ...]) -> ArrayRecord:
    """Payloads as a record that any number of messages may share."""
    from flwr.app import Array, ArrayRecord

    return ArrayRecord({str(i): Array("uint8", (len(p),), _KIND, bytes(p)) for i, p in enumerate(payloads)})


def pack(header: dict[str, Any], payloads: ArrayRecord) -> RecordDict:
    """An envelope as the content of a Flower message."""
    from flwr.app import ConfigRecord, RecordDict

    return RecordDict({"letter": ConfigRecord({"header": json.dumps(header)}), "payloads": payloads})


def unpack(record: RecordDict) -> Envelope:
    """The envelope in a Flower message. Raises ContractBreach for content that is none."""
    try:
        header = parse(str(record.config_records["letter"]["header"]), finite=False, most=MOST_HEADER)
        arrays = record.array_records["payloads"]
        payloads = tuple(arrays[str(i)].data for i in range(len(arrays)))
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        said = printable(f"{type(error).__name__} {error}")
        raise ContractBreach(f"message is not one of fedloom: {said}"[:200]) from error
    if not isinstance(header, dict):
        raise ContractBreach("message is not one of fedloom: its header is not an object")
    return Envelope(header, payloads)
