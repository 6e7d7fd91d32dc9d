"""What leaves a silo: the page of the documentation is what the contracts say."""

from __future__ import annotations

import json

import pytest

from fedloom.methods.catalogue import CATALOGUE
from fedloom.methods.leaving import Leaves, leaving, page, table
from sources import ROOT


def test_the_page_is_what_the_contracts_say():
    kept = (ROOT / "docs/methods/what-leaves.md").read_text(encoding="utf-8")
    assert kept == page(CATALOGUE), "stale: fedloom methods --wire > docs/methods/what-leaves.md"


def test_the_fields_of_one_method_by_hand():
    rows = [row for row in leaving("fedavg") if row.verb == "fit"]
    what = "a client's parameters, on how many samples, and its mean loss (nats)."
    assert rows == [
        Leaves("fit", "FedAvgUpdate.parameters", "float32 arrays by name", "-1000000 to 1000000", what),
        Leaves("fit", "FedAvgUpdate.samples", "int", "0 to 2147483647", what),
        Leaves("fit", "FedAvgUpdate.loss", "finite float", "-1e+30 to 1e+30", what),
    ]
    assert table(rows[:1]).splitlines() == [
        f"`fit` brings `FedAvgUpdate`: {what}",
        "",
        "| field | kind | values |",
        "|---|---|---|",
        "| `parameters` | float32 arrays by name | -1000000 to 1000000 |",
    ]


def test_a_variant_has_its_own_fields():
    assert {row.field for row in leaving("l-fedmmkt")} >= {"FedMMKTLogits.logits"}
    assert not any("representations" in row.field for row in leaving("l-fedmmkt"))


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]):
    from fedloom.cli.main import main

    assert main(["methods", "fedavg", "--wire"]) == 0
    assert "`fit` brings `FedAvgUpdate`" in capsys.readouterr().out
    assert main(["methods", "fedavg", "--wire", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fedavg"][0]["field"] == "Scores.accuracy"
