"""The Flower adapter on an in-process Grid: what goes wrong is a value; recipes, states and ledgers of silos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from grid_silos import Silos
from toy_clients import CONTRACT, Blob, Empty, Opinion, Probe, Wish
from toy_federations import NAMES, PROBE, by_client, specs, words

from fedloom.errors import BadInput, FedloomError
from fedloom.federation import ClientSpec, Ledger, LocalFederation, WireContract
from fedloom.federation.codec import encode
from fedloom.federation.engines.flower.client_app import make_client_app
from fedloom.federation.engines.flower.records import pack, pack_payloads, unpack
from fedloom.federation.engines.silo.envelopes import Envelope, Join
from fedloom.federation.engines.silo.host import Recipe
from fedloom.federation.engines.silo.store import SiloStore


def test_a_silo_cannot_answer_for_another(silos: Silos) -> None:
    """What a hostile silo sends is refused in one line, nothing of it is used, and it is told."""
    liar: dict[str, Any] = {}

    def tamper(node: int, reply: Message) -> Message:
        if node != 12 or not liar:
            return reply
        letter = unpack(reply.content)
        changed = Envelope({**letter.header, **liar["header"]}, liar.get("payloads", letter.payloads))
        return Message(pack(changed.header, pack_payloads(changed.payloads)), reply_to=silos.grid.pushed[-1])

    silos.grid.tamper = tamper
    wrong = encode(Opinion(np.zeros((2, 3), np.float32), np.zeros(2, np.int32), np.zeros(2, np.float32)))
    cases = {
        "message is 'Opinion'; declared Wish": {"header": {}, "payloads": (wrong,)},
        "begins with": {"header": {}, "payloads": (b"rubbish" * 9,)},
        "no outcome": {"header": {"outcomes": [{"client": "image-0", "payload": 0, "error": None}] * 2}},
        "answers as 'silo-0'": {"header": {"silo": "silo-0"}},
        "is of client 'image-0'": {"header": {"outcomes": [{"client": "image-0", "payload": 0, "error": None}]}},
        "an outcome": {"header": {"outcomes": [{"error": "made up", "payload": 0}]}},
        "is no outcome": {"header": {"outcomes": [{"error": None, "payload": 7}]}},
    }
    with silos.federation() as f:
        for f.round, (line, lie) in enumerate(cases.items(), start=1):
            liar.clear()
            liar.update(lie)
            replies = by_client(f.ask("retrain", Wish("")))
            liar.clear()
            assert replies["image-1"].error == "refused", line
            assert replies["image-1"].message is None
            assert line.split()[-1] in f.missing[-1].detail
            assert "\n" not in f.missing[-1].detail
            assert replies["image-0"].ok
            assert replies["text-0"].ok
        list(f.ask("rest", Empty()))
        notices = unpack(silos.grid.pushed[-2].content).header["notices"]
        assert len(notices) == 1
        assert notices[0].startswith(f"round {f.round}, retrain of image-1 was refused")


def test_a_letter_that_is_none(silos: Silos) -> None:
    with silos.federation() as f:
        silos.grid.tamper = lambda node, reply: (
            Message(pack({"x": 1}, pack_payloads(())), reply_to=silos.grid.pushed[-1]) if node == 13 else reply
        )
        assert words(f.ask("retrain", Wish("")))["text-0"] == "refused"


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"outcomes": ' + "[" * 70 + "]" * 70 + "}", "nested too deeply"),
        ('{"outcomes": [{"payload": 0, "error": null, "seconds": 1' + "0" * 400 + "}]}", "too large a number"),
        ('{"outcomes": [{"payload": 0, "error": null, "seconds": 1' + "0" * 5000 + "}]}", "too large a number"),
        (r'{"failed": "\ud800"}', "half a character"),
        (r'{"failed": "\u001b[2J"}', "control character"),
        ('{"outcomes": [{"payload": 0, "error": null, "seconds": NaN}, {}]}', "no outcome"),
    ],
)
def test_a_hostile_header_is_refused_and_the_run_goes_on(silos: Silos, header: str, says: str) -> None:
    def tamper(node: int, reply: Message) -> Message:
        if node != 12:
            return reply
        content = RecordDict({"letter": ConfigRecord({"header": header}), "payloads": pack_payloads(())})
        return Message(content, reply_to=silos.grid.pushed[-1])

    with silos.federation() as f:
        silos.grid.tamper, f.round = tamper, 1
        replies = by_client(f.ask("retrain", Wish("")))
        assert [k for k, r in replies.items() if not r.ok] == ["image-1"]
        (missing,) = f.missing
        assert (missing.client, missing.error, missing.round) == ("image-1", "refused", 1)
        assert says in missing.detail
        assert "\n" not in missing.detail
        assert missing.detail.isprintable()
        silos.grid.tamper, f.round = lambda node, reply: reply, 2
        assert all(r.ok for r in f.ask("retrain", Wish("")))


def test_a_message_above_the_limit_is_refused(silos: Silos) -> None:
    contract = WireContract({"echo": ((Blob, Empty), Blob)})
    contract.largest = 1000
    with LocalFederation([ClientSpec("a", "image", "toy_clients:make")], contract) as f:
        (reply,) = f.ask("echo", Blob(np.zeros(100, np.uint8)))
        assert reply.ok
        with pytest.raises(BadInput, match=r"Blob has \d+ bytes, allowed: 1000"):
            list(f.ask("echo", Blob(np.zeros(2000, np.uint8))))


def test_errors_at_a_silo_are_values(silos: Silos) -> None:
    with silos.federation() as f:
        f.round = 1
        said = words(f.ask("retrain", Wish("raise image-0")))
        assert said["image-0"] == "raised"
        assert said["text-0"] == "text-0 1 1"
        assert f.missing[-1].detail == "RuntimeError: out of luck"
        assert words(f.ask("retrain", Wish("lie image-1")))["image-1"] == "refused"


def test_private_errors_tell_their_kind_alone(silos: Silos) -> None:
    for host in silos.hosts.values():
        host.private_errors = True
    with silos.federation() as f:
        words(f.ask("retrain", Wish("raise image-0")))
        assert f.missing[-1].detail == "RuntimeError; the silo's log says more"


def test_two_silos_with_one_client_name(silos: Silos, tmp_path: Path) -> None:
    with silos.federation() as f:
        silos.grid.nodes[99] = (
            make_client_app(lambda letter, node: silos.hosts["silo-0"].answer(letter)),
            {},
        )
        silos.grid.contexts[99] = silos.grid.contexts[11]
        f.refresh_clients()
        assert f.missing[-1].error == "refused"
        assert "brings client 'image-0', which silo-0 has" in f.missing[-1].detail
        assert words(f.ask("retrain", Wish("")))["image-0"] == "image-0 0 1"
        # The same silo as a new node, after the old one has gone, takes its place.
        silos.grid.offline = {11}
        silos.grid.nodes[100] = silos.grid.nodes[99]
        silos.grid.contexts[100] = silos.grid.contexts[11]
        f.refresh_clients()
        assert words(f.ask("retrain", Wish("")))["image-0"] == "image-0 0 2"


def prepare(offer: dict[str, Any], files: dict[str, Any], folder: Path) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content.tobytes())
    return CONTRACT


def own_client(*, name: str, offer: dict[str, Any], public: str, warm: bool, seed: int) -> Any:
    from toy_clients import make

    assert (Path(public) / "vocabulary.txt").read_text() == "a b"
    assert warm
    return make(name, seed=seed + offer["seed"])


def test_silos_with_a_recipe_of_their_own(tmp_path: Path) -> None:
    about = {"modality": "image"}
    recipe = Recipe("image", "test_flower_refusals:prepare", "test_flower_refusals:own_client", {"seed": 2}, about)
    silos = Silos(tmp_path, names=(), recipe=recipe)
    public = {"vocabulary.txt": np.frombuffer(b"a b", np.uint8)}
    join = Join(json.dumps(CONTRACT.to_names()), "", json.dumps({"seed": 3}), public)
    with silos.federation(join=join) as f:
        assert f.clients == ("silo-0", "silo-1", "silo-2")
        assert f.modality("silo-0") == "image"
        f.round = 1
        assert words(f.ask("retrain", Wish("")))["silo-1"] == "silo-1 1 1"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"offer": "", "assigned": json.dumps({"silo-0": [spec.to_json() for spec in specs()]})},
            "makes its own client",
        ),
        ({"contract": "{}"}, "the server's messages are not those"),
    ],
)
def test_a_silo_with_its_own_recipe_takes_no_other(tmp_path: Path, change: dict[str, Any], line: str) -> None:
    recipe = Recipe("image", "test_flower_refusals:prepare", "test_flower_refusals:own_client", {"seed": 2}, {})
    silos = Silos(tmp_path, 1, names=(), recipe=recipe)
    fields = {
        "contract": json.dumps(CONTRACT.to_names()),
        "assigned": "",
        "offer": '{"seed": 3}',
        "public": {},
    }
    with pytest.raises(FedloomError, match=line):
        silos.federation(join=Join(**{**fields, **change}))


def test_a_state_that_cannot_be_kept_is_not_answered(silos: Silos, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise FedloomError("cannot write x: No space left on device")

    with silos.federation() as f:
        f.round = 1
        monkeypatch.setattr(SiloStore, "save", full)
        assert words(f.ask("retrain", Wish(""))) == dict.fromkeys(NAMES, "raised")
        assert f.missing[-1].detail == "cannot write x: No space left on device"


def test_old_states_are_dropped_and_one_before_them_is_kept(silos: Silos) -> None:
    with silos.federation() as f:
        for f.round in range(1, 9):
            list(f.ask("infer", PROBE))
            list(f.ask("retrain", Wish("")))
    kept = sorted(p.name[:6] for p in (silos.root / "silo-0/runs/r1/clients/image-0").iterdir())
    assert kept == ["000005", "000006", "000007", "000008"]


def test_the_silo_has_a_ledger_of_its_own(silos: Silos) -> None:
    ledger = Ledger()
    with silos.federation(ledger) as f:
        f.round = 1
        list(f.ask("infer", PROBE))
    own = [json.loads(line) for line in (silos.root / "silo-0/runs/r1/ledger.jsonl").read_text().splitlines()]
    of = [row for row in ledger.rows() if row["client"] == "image-0"]
    assert [(r["direction"], r["encoded_bytes"]) for r in own] == [(r["direction"], r["encoded_bytes"]) for r in of]


def test_spec_of_a_client_that_cannot_be_built(tmp_path: Path) -> None:
    silos = Silos(tmp_path, 1, names=())
    join = Join(
        json.dumps(CONTRACT.to_names()),
        json.dumps({"silo-0": [ClientSpec("image-0", "image", "toy_clients:broken").to_json()]}),
        "",
        {},
    )
    with pytest.raises(FedloomError, match="0 of 1 silos joined: silo-0 cannot take part: client 'image-0' cannot be"):
        silos.federation(join=join)


def test_messages_of_a_wrong_kind_never_leave_the_server(silos: Silos) -> None:
    with silos.federation() as f, pytest.raises(FedloomError, match="declared Wish"):
        f.ask("retrain", PROBE)
    assert isinstance(PROBE, Probe)
