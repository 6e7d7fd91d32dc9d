"""What crossed is kept, where a run asks for it, and read back."""

from __future__ import annotations

import pytest
from toy_clients import CONTRACT, Wish
from toy_federations import NAMES, PROBE, federation, rounds

from fedloom.errors import BadInput
from fedloom.federation.codec import encode
from fedloom.federation.kept import check_kept, kept_exchanges
from fedloom.federation.ledger import Ledger


@pytest.mark.parametrize("workers", [0, 1])
def test_every_message_is_kept_once(workers, tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl", uncounted={"evaluate"}, keep=tmp_path / "messages")
    with federation(workers, ledger=ledger) as f:
        said = rounds(f)
    found = kept_exchanges(ledger.rows(), tmp_path / "messages", CONTRACT)
    assert set(found) == set(NAMES)
    for client, exchanges in found.items():
        verbs = [("infer", n) for n in (1, 2, 3)] if client == "text-0" else []
        assert [(e.verb, e.round) for e in exchanges if e.verb == "infer"] == (
            verbs or [("infer", n) for n in (1, 2, 3)]
        )
        for e in exchanges:
            held = e.read(CONTRACT)
            if e.verb == "infer":
                assert (held.request.images == PROBE.images).all()
                assert encode(held.reply) == said[e.round, client]
            else:
                assert held.request == Wish(f"for {client}")
    files = list((tmp_path / "messages").rglob("*.msg"))
    rows = ledger.rows()
    assert len({row["kept"] for row in rows}) == len(files) < len(rows)  # what goes to all is one file
    assert (
        sum(1 for row in rows if row["kept"] == found["text-0"][0].down.relative_to(tmp_path / "messages").as_posix())
        == 3
    )


def test_a_resumed_run_forgets_later_rounds(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl", keep=tmp_path / "messages")
    with federation(0, ledger=ledger) as f:
        first = rounds(f)
        ledger.truncate(1)
        assert [p.name for p in (tmp_path / "messages").iterdir()] == ["round_0001"]
    again = Ledger(tmp_path / "ledger.jsonl", keep=tmp_path / "messages")
    with federation(0, ledger=again) as f:
        rounds(f, (2, 3))
    found = kept_exchanges(again.rows(), tmp_path / "messages", CONTRACT)
    assert [(e.verb, e.round) for e in found["text-0"] if e.verb == "infer"] == [("infer", n) for n in (1, 2, 3)]
    assert encode(found["image-0"][0].read(CONTRACT).reply) == first[1, "image-0"]


def test_nothing_is_kept_by_default(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    with federation(0, ledger=ledger) as f:
        list(f.ask("infer", PROBE))
    assert all("kept" not in row for row in ledger.rows())
    with pytest.raises(BadInput, match=r"has not kept what crossed .*engine\.keep_messages=true"):
        kept_exchanges(ledger.rows(), tmp_path / "messages", CONTRACT)


def test_a_name_that_leads_elsewhere_is_refused(tmp_path):
    row = {"round": 1, "direction": "up", "client": "a", "verb": "infer", "counted": True, "kept": "../../secret"}
    with pytest.raises(BadInput, match="has not kept"):
        kept_exchanges([row], tmp_path, CONTRACT)


def test_a_message_that_was_changed_is_one_line(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl", keep=tmp_path / "messages")
    with federation(0, ledger=ledger) as f:
        list(f.ask("infer", PROBE))
    found = kept_exchanges(ledger.rows(), tmp_path / "messages", CONTRACT)
    check_kept(found)
    exchange = found["text-0"][0]
    exchange.up.write_bytes(exchange.up.read_bytes()[:-1])
    with pytest.raises(BadInput, match="the message that was kept cannot be read"):
        exchange.read(CONTRACT)
    with pytest.raises(BadInput, match=f"{exchange.up.name}: the message that was kept is not what was written"):
        check_kept(found)  # whoever an audit attacks
    exchange.up.unlink()
    with pytest.raises(BadInput, match="cannot be read: No such file"):
        check_kept(found)


def test_flowers_engine_keeps_them_too(tmp_path):
    from grid_silos import Silos

    with Silos(tmp_path, 3).federation() as f:
        f.ledger.keep = tmp_path / "messages"
        said = rounds(f)
        found = kept_exchanges([r for r in f.ledger.rows() if "kept" in r], tmp_path / "messages", CONTRACT)
    assert set(found) == set(NAMES)
    for e in (e for e in found["text-0"] if e.verb == "infer"):
        assert encode(e.read(CONTRACT).reply) == said[e.round, "text-0"]
