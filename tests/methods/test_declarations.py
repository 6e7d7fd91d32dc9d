"""What methods declare of themselves: the tasks they serve, and what a round takes."""

from __future__ import annotations

import pytest

from fedloom.config import load_config
from fedloom.experiment.checks import reads_captions
from fedloom.experiment.resolve import completed
from fedloom.methods import alone, fedcmi, fedmmkt
from fedloom.methods.base import Server, load_method
from fedloom.methods.catalogue import CATALOGUE
from fedloom.methods.workload import Workload
from fedloom.planning import plan
from fedloom.tasks import CLIENT_TASKS, ClientTask


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_method_declares_its_work(name: str) -> None:
    method, fixed = load_method(name)
    work = method.server.workload(method.settings(**fixed), batch=32)
    assert isinstance(work, Workload)
    trains = work.private_steps + work.shared_steps > 0
    assert trains == bool(method.tasks), "clients take steps exactly where there are clients"
    assert work.formula is None or work.formula.name in CATALOGUE


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_catalogue_lists_the_tasks_a_method_serves(name: str) -> None:
    words = CATALOGUE[name].modalities.replace(" or ", ", ").split(", ")
    assert {m for m in CLIENT_TASKS if m in words} == load_method(name)[0].tasks


def test_steps_follow_the_settings_and_the_pool() -> None:
    settings = fedmmkt.FedMMKTSettings(samples=10, replay_rounds=2, passes=4, retrain_steps=100, tune_steps=100)
    work = fedmmkt.FedMMKTServer.workload(settings, batch=32)
    assert (work.synthetic, work.answers) == (10, 10)
    assert work.shared_steps == 3  # ceil(4 passes * 20 samples / 32)
    assert work.generator_steps == 4  # ceil(4 * 20 / 24)
    twice = fedmmkt.FedMMKTServer.workload(settings.model_copy(update={"variant": "u"}), batch=32)
    assert twice.answers == 20
    assert twice.formula is not None
    assert twice.formula.name == "u-fedmmkt"


def test_captions_are_read_where_a_method_says_so() -> None:
    def reads(**values: object) -> bool:
        return reads_captions(*completed(load_config(values=values)))

    assert reads()  # there are text clients
    assert not reads(clients={"text": []}, method="fedmd")
    assert reads(clients={"text": []}, method="fedmd", settings={"train_text": "both"})
    assert reads(method="self-finetune", settings={"data": "caption"})
    assert not reads(method="self-finetune", settings={"data": "representation"})


def test_a_plan_says_what_a_method_does_not_declare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alone.StandaloneServer, "workload", Server.workload)
    found = plan(method="standalone")
    assert [line for line in found.notes if line.startswith("standalone does not declare its work")]
    assert "private training" not in {p.phase for p in found.phases}
    assert found.formula is None


def test_methods_without_clients_have_no_tasks() -> None:
    assert alone.CENTRALISED.tasks == frozenset()
    assert fedcmi.METHOD.tasks == {ClientTask.MULTIMODAL_CLASSIFICATION}
