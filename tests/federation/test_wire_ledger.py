from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_wire_codec import opinion
from toy_clients import CONTRACT, Empty, Opinion, Probe, Wish, make

from fedloom.errors import BadInput
from fedloom.federation import ClientSpec, Ledger, LocalFederation, read_ledger
from fedloom.federation.codec import describe, encode

SPECS = [ClientSpec(name, "image", f"{make.__module__}:make") for name in ("a", "b")]
DOWN = 2 * 4 * 4 * 3  # S = 2 images
UP = 2 * (5 + 2) * 4  # S = 2, D = 5: float32 representations, int32 labels, float32 entropies


def run(path: Path | None) -> Ledger:
    """Two rounds of two clients: infer, and an evaluation that does not count."""
    ledger = Ledger(path, uncounted={"evaluate"})
    with LocalFederation(SPECS, CONTRACT, ledger) as federation:
        for federation.round in (1, 2):
            list(federation.ask("infer", Probe(np.zeros((2, 4, 4, 3), np.uint8))))
            list(federation.ask("evaluate", Empty()))
    return ledger


@pytest.mark.parametrize("on_disk", [True, False])
def test_totals_equal_bytes_counted_by_hand(tmp_path: Path, on_disk: bool) -> None:
    ledger = run(tmp_path / "deep" / "ledger.jsonl" if on_disk else None)
    assert ledger.totals() == (4 * UP, 4 * DOWN)
    assert ledger.totals(round=2) == (2 * UP, 2 * DOWN)
    assert ledger.totals(round=3) == (0, 0)
    up, down = ledger.totals(counted_only=False)
    assert (up > 4 * UP, down) == (True, 4 * DOWN)  # the request to evaluate is empty
    assert len(ledger.rows()) == 16
    up, down = ledger.totals(encoded=True)
    rows = [row for row in ledger.rows() if row["counted"]]
    assert up == sum(row["encoded_bytes"] for row in rows if row["direction"] == "up")
    assert down == sum(row["encoded_bytes"] for row in rows if row["direction"] == "down")


def test_a_row_says_what_crossed() -> None:
    sent, row = run(None).rows()[:3:2]
    assert sent.pop("seconds") is None
    assert 0 < row.pop("seconds") < 60
    assert UP < row.pop("encoded_bytes") < UP + 250
    assert row == {
        "round": 1,
        "direction": "up",
        "client": "a",
        "verb": "infer",
        "message": "Opinion",
        "fields": [
            {"name": "representations", "dtype": "float32", "shape": [2, 5], "bytes": 40},
            {"name": "labels", "dtype": "int32", "shape": [2], "bytes": 8},
            {"name": "entropies", "dtype": "float32", "shape": [2], "bytes": 8},
        ],
        "payload_bytes": UP,
        "counted": True,
    }


def test_truncate_and_continue(tmp_path: Path) -> None:
    for ledger in (run(tmp_path / "ledger.jsonl"), run(None)):
        ledger.truncate(after_round=1)
        assert ledger.totals() == (2 * UP, 2 * DOWN)
        assert {row["round"] for row in ledger.rows()} == {1}
        payload = encode(opinion(2, 5))
        row = describe(payload, Opinion)
        ledger.record(round=2, direction="up", client="a", verb="infer", payload=payload, described=row)
        assert ledger.totals() == (3 * UP, 2 * DOWN)
        assert len(ledger.rows()) == 9
        ledger.close()
    assert Ledger(tmp_path / "ledger.jsonl").totals() == (3 * UP, 2 * DOWN)
    assert not list(tmp_path.glob(".*"))


def test_torn_last_line_is_left_out_and_mended(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    run(path).close()
    whole = path.read_text()
    path.write_text(whole[:-9])
    assert len(read_ledger(path)) == 15
    ledger = Ledger(path)
    payload = encode(Wish("x"))
    row = describe(payload, Wish)
    ledger.record(round=3, direction="down", client="a", verb="retrain", payload=payload, described=row)
    ledger.close()
    rows = read_ledger(path)
    assert (len(rows), rows[-1]["payload_bytes"]) == (16, 1 + 8)
    path.write_text("{torn\n" + json.dumps(rows[0]) + "\n")
    with pytest.raises(BadInput, match="line 1"):
        read_ledger(path)


def test_empty_and_absent_files(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    assert Ledger(path).rows() == []
    path.touch()
    assert Ledger(path).totals() == (0, 0)


def test_what_cannot_be_read_is_recorded_as_such() -> None:
    ledger = Ledger()
    ledger.record(round=1, direction="up", client="a", verb="infer", payload=b"gibberish", described=None)
    assert (ledger.rows()[0]["message"], ledger.totals(encoded=True)) == ("(unreadable)", (9, 0))
