"""A generator that collapses is seen by the clients, and the round is undone."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toy_sites import CLASSES, Toy, same

from fedloom.config import load_config
from fedloom.experiment.resolve import resolve
from fedloom.methods.collapse import CollapseGuard, fallen, means, variation
from fedloom.planning import plan


def generator(toy):
    return {k: v for k, v in toy.server.state()[0].items() if k.startswith("tuner/")}


def outputs(labels):
    """What K clients say of N pictures; -1: nothing."""
    labels = torch.tensor(labels)
    return SimpleNamespace(labels=labels, present=labels >= 0)


def test_measures_by_hand():
    images = np.zeros((4, 2, 2, 3), np.uint8)
    images[0] += 20  # class 0: 20 and 0, class 1 alike
    labels = np.array([0, 0, 1, 1])
    assert variation(images, labels).tolist() == [10, 0]
    guard = CollapseGuard(0.1)
    guard.begin(images, labels, outputs([[0, 0, 1, -1], [0, 1, 0, -1]]))
    best = guard.best
    # nobody says anything of the last; 3 of 4 answers are right for class 0, 1 of 2 for class 1
    assert np.array_equal(best["check_agreement"], [1, 0.5, 0.5, np.nan], equal_nan=True)
    assert best["check_classes"].tolist() == [1, 0]
    assert best["check_diversity"].tolist() == [2, 0]
    assert means(best) == pytest.approx({"check_agreement": 2 / 3, "check_classes": 0.5, "check_diversity": 1})
    images[0] -= 10
    found = guard.measure(images, labels, outputs([[0, 0, 1, 1], [0, 0, 1, 1]]))
    assert means(found) == pytest.approx({"check_agreement": 1.0, "check_classes": 1.0, "check_diversity": 0.5})


def parts(agreement, diversity):
    return {"check_agreement": np.array(agreement, float), "check_diversity": np.array(diversity, float)}


def test_what_has_fallen_is_undone_and_the_best_is_kept():
    undone = []
    tuner = SimpleNamespace(generator=SimpleNamespace(touched=lambda: None), load_state=lambda *s: undone.append(s))
    guard = CollapseGuard(0.1)
    guard.best = parts([0.5] * 8, [1, 1, 1])
    assert not guard.undo(parts([0.8] * 8, [0.95] * 3), tuner, ({}, {}))
    assert means(guard.best) == pytest.approx({"check_agreement": 0.8, "check_diversity": 1.0})
    assert not guard.undo(parts([0.8] * 8, [0.55] * 3), tuner, ({}, {}))
    assert guard.undo(parts([0.71] * 8, [1.2] * 3), tuner, ({}, {"a": 1}))
    assert guard.undo(parts([0.9] * 8, [0.49] * 3), tuner, ({}, {"a": 2}))
    assert undone == [({}, {"a": 1}), ({}, {"a": 2})]
    assert means(guard.best) == pytest.approx({"check_agreement": 0.8, "check_diversity": 1.0})


def test_chance_undoes_nothing():
    """0.25 lower, of eight pictures; the same of eighty is no chance."""
    best, now = np.array([1, 0, 1, 0, 1, 0, 1, 1.0]), np.array([0, 1, 0, 0, 0, 1, 1, 0.0])
    assert best.mean() - now.mean() == 0.25
    assert not fallen(best, now, 0.1)
    assert fallen(np.tile(best, 10), np.tile(now, 10), 0.1)
    assert not fallen(np.tile(best, 10), np.tile(now, 10), 0.5)  # of 0.625
    assert not fallen(np.array([np.nan, 1]), np.array([1, np.nan]), 0.1)


@pytest.mark.parametrize("method", ["fedmmkt", "fedgems", "creamfl", "fedmd"])
def test_a_round_that_ruins_the_generator_is_undone(method, tiny_generator, monkeypatch):
    toy = Toy(tiny_generator, method=method, rollback=0.1, check_each=2)
    before, guard = generator(toy), toy.server.guard
    measured = iter([{"check_agreement": np.full(6, share)} for share in (0.8, 0.75, 0.3)])
    asked = []

    def measure(images, labels, outputs):
        assert (len(images), labels.tolist()) == (2 * CLASSES, [0, 0, 1, 1, 2, 2])
        assert outputs.labels.shape == (len(toy.federation.clients), 2 * CLASSES)
        asked.append(outputs)
        return next(measured)

    monkeypatch.setattr(guard, "measure", measure)
    first = toy.run(1)[-1]
    once = generator(toy)
    assert not same(before, once)
    assert first.facts["rolled_back"] == 0
    second = toy.run(1)[-1]
    assert second.facts == {**second.facts, "rolled_back": 1.0, "check_agreement": pytest.approx(0.3)}
    assert same(generator(toy), once)  # weights, optimizer and pool
    assert toy.server.tuner.generator.origin is None
    assert len(asked) == 3


def test_without_it_nobody_is_asked_more(tiny_generator):
    plain, watched = Toy(tiny_generator), Toy(tiny_generator, rollback=0.99)
    infos = plain.run(2), watched.run(2)
    assert plain.server.guard is None
    assert "rolled_back" not in infos[0][-1].facts
    assert infos[1][-1].facts["rolled_back"] == 0
    assert same(generator(plain), generator(watched))  # what is drawn for the check disturbs nothing
    with pytest.raises(ValueError, match="less than 1"):
        Toy(tiny_generator, rollback=1.5)


def test_it_is_on_by_default_on_real_data() -> None:
    def rollback(**values: object) -> float | None:
        return resolve(load_config(values=values))[1].rollback  # type: ignore[no-any-return]

    assert rollback(data={"name": "emoji"}) == 0.2
    assert rollback(data={"name": "folder", "root": "."}) == 0.2
    assert rollback(data={"name": "emoji"}, settings={"rollback": None}) is None
    assert rollback(data={"name": "emoji"}, settings={"rollback": 0.3}) == 0.3
    assert rollback() is None
    assert rollback(data={"name": "flora-102"}) is None
    own = {"engine": {"name": "flower", "mode": "deployment"}}
    assert rollback(**own) == 0.2
    assert not hasattr(resolve(load_config(values={"method": "standalone"}))[1], "rollback")


def test_plans_count_the_checks() -> None:
    def checks(value: float | None) -> dict[str, int]:
        said = plan(preset="smoke", settings={"rollback": value})
        return {p.phase: p.times for p in said.phases if p.phase.startswith("checks")}

    assert checks(None) == {}
    rounds = load_config(preset="smoke").rounds
    assert checks(0.1) == {"checks: pictures": rounds + 1, "checks: clients' answers": rounds + 1}
