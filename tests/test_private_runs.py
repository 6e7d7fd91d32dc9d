"""Runs of private clients: what is refused before they begin, and what they say of what is spent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import fedloom
from fedloom.cli.main import app
from fedloom.config import load_config
from fedloom.errors import BadInput
from fedloom.experiment.private import privacy_plan
from fedloom.experiment.resolve import completed
from fedloom.reporting.budgets import budget_lines
from fedloom.reporting.health import warnings_of
from whole_runs import smallest

BUDGET = {"epsilon": 4.0}


def settled(**values: Any) -> Any:
    clients = {"privacy": BUDGET, **values.pop("clients", {})}
    return completed(load_config(values={"clients": clients, **values}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "fedproto"}, r"clients of fedproto use private samples otherwise.*allowed: .*fedmmkt.*standalone"),
        ({"settings": {"quorum_of": "knowing"}}, r"settings.quorum_of = 'knowing'.*allowed: 'all'"),
        ({"method": "fedprox"}, r"settings.mu = 0.01.*: 0"),
        ({"clients": {"precision": "fp16"}}, r"clients.precision = 'fp16'.*fp32"),
        ({"clients": {"checkpointing": True}}, r"clients.checkpointing = True"),
        ({"method": "fedavg", "clients": {"privacy": {"answers": {"epsilon": 1}}}}, r"answer nothing about shared"),
        (
            {"method": "standalone", "clients": {"image": [], "text": [], "pair": [{"arch": "resnet+gru"}]}},
            r"there are no private steps for clients.pair; allowed: image, text",
        ),
    ],
)
def test_what_cannot_be_private_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        settled(**values)


def test_opacus_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"needs opacus, which is not installed: pip install 'fedloom\[privacy\]'"):
        settled()


def test_what_a_run_plans() -> None:
    """Warm start and rounds; answers once a round, and with rollback once more, and once before round 1."""
    plan = privacy_plan(*settled(rounds=4, clients={"warm_steps": 7}, settings={"private_steps": 5}))
    assert plan is not None
    assert (plan.steps, plan.answered) == (27, 0)
    both = {"privacy": BUDGET | {"answers": {"epsilon": 8}}}
    plan = privacy_plan(*settled(rounds=4, clients=both))
    assert plan is not None
    assert (plan.answered, plan.labels, plan.rows) == (4, 1, 1)
    plan = privacy_plan(*settled(rounds=4, clients={**both, "text": []}, settings={"rollback": 0.2}))
    assert plan is not None
    assert (plan.answered, plan.labels, plan.rows) == (9, 1, 2)  # u-FedMMKT sends two rows
    assert privacy_plan(*completed(load_config())) is None


def test_a_configuration_without_it_says_nothing_of_it() -> None:
    assert "privacy" not in load_config().model_dump(mode="json")["clients"]


def test_a_run_says_what_each_client_has_spent(tmp_path: Path) -> None:
    tree = smallest(method="standalone", rounds=2, settings={"private_steps": 2, "extra_steps": 0})
    tree["clients"] |= {"privacy": BUDGET, "image": tree["clients"]["image"][:1], "text": []}
    run = fedloom.run(tree, out=tmp_path / "run")
    spent = [row["privacy"]["image-0"] for row in run.rounds]
    assert [told["steps"] for told in spent] == [3, 5, 7]  # the warm start's count
    assert 0 < spent[0]["epsilon"] < spent[1]["epsilon"] < spent[2]["epsilon"] <= 4.0
    assert spent[2]["epsilon"] > 3.9
    assert run.summary["privacy"] == run.rounds[-1]["privacy"]
    assert run.rounds[-1]["losses"] == {"clients": None}
    shown = CliRunner().invoke(app, ["inspect", str(run.path)]).stdout
    assert "private steps" in shown
    assert json.loads(CliRunner().invoke(app, ["inspect", str(run.path), "--json"]).stdout)["privacy"].keys() == {
        "image-0"
    }
    assert "Privacy spent" in run.report().read_text()


def test_a_budget_that_ended_is_a_warning() -> None:
    rows = [{"round": t, "privacy": {"image-0": {"epsilon": 2.0, "steps": 9, "refused": 4 * t}}} for t in range(3)]
    (found,) = [w for w in warnings_of({}, rows, {}) if w.name == "privacy-spent"]
    assert "private steps not taken: image-0 8" in found.message
    assert budget_lines(rows) == [["image-0", "2", "–", "–", "9", "8", "–", "–", "–"]]
    assert budget_lines([{"privacy": 5}, {"privacy": {"a": None}}]) == []
