"""The report on an audit, of files as `fedloom audit` writes them."""

from __future__ import annotations

import json

import pytest

from fedloom.errors import BadInput
from fedloom.reporting.audits import audit_facts, canary_table, compared_table, interval, mechanisms
from fedloom.runs import RunFiles, read_run

ATTACK = {
    "members": 10,
    "others": 10,
    **{key: [0.6, 0.5, 0.7] for key in ("auc", "advantage", "tpr_1", "tpr_01")},
    "roc": [[0.0, 0.1], [1.0, 1.0]],
}
TOLD = {
    "format": 1,
    "mechanisms": ["private steps, epsilon 4"],
    "clients": {
        "image-0": {
            "task": "image",
            "membership": {"from": "the client's own parameters", "loss": ATTACK, "ratio": {"skipped": "no shadow"}},
            "reconstruction": {"skipped": "no representations cross"},
            "labels": {
                "from": "counts",
                "l1": 0.2,
                "l1_even": 0.8,
                "correlation": 0.9,
                "truth": [0.5, 0.5],
                "estimate": [0.4, 0.6],
            },
        }
    },
    "canaries": {"canaries": 100, "guesses": 50, "right": 40, "epsilon": 0.6, "delta": 1e-5, "stated": 4.0},
}


@pytest.fixture
def audited(smoke_run, tmp_path):
    (tmp_path / "config.yaml").write_bytes((smoke_run.path / "config.yaml").read_bytes())

    def written(told: object) -> RunFiles:
        (tmp_path / "audit.json").write_text(json.dumps(told))
        return read_run(tmp_path)

    return written


def texts(table):
    return [[cell.text for cell in row] for row in table.rows]


def test_figures_with_intervals_and_what_was_skipped(audited):
    found = audit_facts(audited(TOLD))
    assert texts(found["membership"])[0][:5] == [
        "image-0",
        "loss",
        "the client's own parameters",
        "10",
        "0.600 (0.500 to 0.700)",
    ]
    assert found["skipped"] == [
        "image-0, membership by likelihood ratio: no shadow.",
        "image-0, reconstruction: no representations cross.",
    ]
    assert found["curves"].data
    assert texts(found["canaries"]) == [["100", "40 of 50", "0.6", "4", "1e-05"]]


def test_no_audit_no_section(smoke_run):
    assert audit_facts(smoke_run) is None


def test_a_bound_above_what_is_stated_is_marked():
    broken = {**TOLD, "canaries": {**TOLD["canaries"], "epsilon": 5.0}}
    (row,) = canary_table([("", broken)]).rows
    assert (row[2].css, row[3].text) == ("down", "4: exceeded")


def test_runs_beside_one_another():
    rows = texts(compared_table([("a", TOLD), ("b", {"mechanisms": ["none"], "clients": {}})]))
    assert rows[0][:4] == ["a", "private steps, epsilon 4", "0.6", "0.6"]
    assert rows[1][2:] == ["–"] * 8


def test_mechanisms_of_a_configuration():
    assert mechanisms({}) == ["none"]
    both = {"clients": {"privacy": {"epsilon": 4, "answers": {"epsilon": 8}}}, "settings": {"secure": True}}
    assert mechanisms(both) == ["private steps, epsilon 4", "noise at the wire, epsilon 8", "secure sums"]


def test_what_is_no_interval():
    assert interval([0.5, None, 1]) == interval(None) == "–"


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"clients": {"a": {"membership": {"loss": {"auc": [0.5]}}}}}, "audit.json: clients.a.membership.loss.auc"),
        ({"clients": 3}, "audit.json: clients = '3'"),
        ({"canaries": {"epsilon": [1]}}, "audit.json: canaries.epsilon"),
    ],
)
def test_a_damaged_file_is_one_line(audited, told, said):
    with pytest.raises(BadInput, match=said.replace(".", r"\.")):
        audit_facts(audited(told))
