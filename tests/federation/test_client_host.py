from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_wire_codec import opinion
from toy_clients import CONTRACT, Empty, Opinion, Probe, Toy, Wish

from fedloom.errors import BadInput, FedloomError
from fedloom.federation import ClientError, ClientHost, ClientSpec
from fedloom.federation.codec import decode, encode

PROBE = encode(Probe(np.full((2, 4, 4, 3), 7, np.uint8)))


def site(name: str = "a", remember: int = 4, **arguments: Any) -> ClientHost:
    return ClientHost(ClientSpec(name, "image", "toy_clients:make", arguments), CONTRACT, remember=remember)


def calls(of: ClientHost) -> int:
    assert isinstance(of.client, Toy)
    return of.client.calls


def test_repeated_request_does_not_reach_the_client_again() -> None:
    one = site()
    first = one.handle("infer", 1, "1", PROBE)
    assert one.handle("infer", 1, "1", PROBE) == first
    assert calls(one) == 1
    other = encode(Probe(np.zeros((1, 4, 4, 3), np.uint8)))
    for count, request in enumerate(
        [("infer", 2, "1", PROBE), ("infer", 1, "2", PROBE), ("infer", 1, "1", other)], start=2
    ):
        one.handle(*request)
        assert calls(one) == count


def test_only_the_last_replies_are_remembered() -> None:
    one, none = site(remember=1), site(remember=0)
    for request in (("infer", 1, "1", PROBE), ("infer", 2, "1", PROBE), ("infer", 1, "1", PROBE)):
        one.handle(*request)
    none.handle("infer", 1, "1", PROBE)
    none.handle("infer", 1, "1", PROBE)
    assert (calls(one), calls(none)) == (3, 2)


@pytest.mark.parametrize(
    ("verb", "payload", "kind", "says"),
    [
        ("retrain", encode(Wish("raise a")), "raised", "RuntimeError: out of luck"),
        ("retrain", encode(Wish("lie a")), "refused", "message is Empty; declared Wish"),
        ("retrain", encode(Wish("nan a")), "refused", "Wish.seconds is float nan"),
        ("retrain", PROBE, "refused", "Probe"),
        ("state", encode(Empty()), "refused", "has no verb 'state'"),
        ("infer", PROBE[:-1], "refused", "bytes"),
    ],
)
def test_what_goes_wrong_is_one_line(verb: str, payload: bytes, kind: str, says: str) -> None:
    with pytest.raises(ClientError) as caught:
        site().handle(verb, 1, "1", payload)
    assert caught.value.kind == kind
    assert says in caught.value.detail
    assert "\n" not in caught.value.detail
    assert ("RuntimeError" in caught.value.trace) == (kind == "raised")
    outcome = site().outcome(verb, 1, "1", payload)
    assert (outcome.payload, outcome.error, outcome.detail) == (None, kind, caught.value.detail)


def test_saved_and_loaded_client_goes_on_as_if_unbroken(tmp_path: Path) -> None:
    whole = site(seed=3)
    whole.handle("infer", 1, "1", PROBE)
    whole.save(tmp_path / "new", {"round": 1})
    resumed = site(seed=3)
    resumed.load(tmp_path / "new", {"round": 1})
    assert resumed.handle("infer", 2, "1", PROBE) == whole.handle("infer", 2, "1", PROBE)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["a.json", "a.safetensors"]
    assert json.loads((tmp_path / "new" / "a.json").read_text())["meta"] == {"calls": 1}


@pytest.mark.parametrize("harm", ["tag", "cut", "gone", "json", "other"])
def test_bad_checkpoint_is_one_clear_line(tmp_path: Path, harm: str) -> None:
    site().save(tmp_path, {"round": 1})
    tensors, meta = tmp_path / "a.safetensors", tmp_path / "a.json"
    if harm == "cut":
        tensors.write_bytes(tensors.read_bytes()[:-3])
    elif harm == "gone":
        tensors.unlink()
    elif harm == "json":
        meta.write_text(meta.read_text()[:-3])
    elif harm == "other":
        meta.write_text(meta.read_text().replace('"a"', '"b"'))
    with pytest.raises(FedloomError, match="no checkpoint of client 'a'") as caught:
        site().load(tmp_path, {"round": 2 if harm == "tag" else 1})
    assert "\n" not in str(caught.value)


def test_a_client_that_cannot_be_built_is_named() -> None:
    bad = ClientHost(ClientSpec("a", "image", "toy_clients:broken"), CONTRACT)
    with pytest.raises(FedloomError, match="client 'a' cannot be built: OSError: no model for a"):
        _ = bad.client
    with pytest.raises(BadInput, match="client 'a': cannot import 'toy_clients:absent'"):
        _ = ClientHost(ClientSpec("a", "image", "toy_clients:absent"), CONTRACT).client


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "../a"}, "name"),
        ({"name": ""}, "name"),
        ({"factory": "toy_clients.make"}, "factory"),
        ({"arguments": {"x": np.zeros(1)}}, "arguments"),
    ],
)
def test_spec_is_checked(change: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        ClientSpec(**{"name": "a", "modality": "image", "factory": "toy_clients:make", **change})


def test_reply_is_the_clients_own_message() -> None:
    reply = decode(site().handle("infer", 1, "1", PROBE), Opinion)
    assert (reply.representations.shape, reply.labels.tolist()) == ((2, 5), [0, 1])
    assert encode(opinion(2, 5)) != encode(reply)
