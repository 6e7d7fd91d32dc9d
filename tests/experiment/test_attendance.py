"""Who takes part when: drawn from seed, round and name alone, and told by a file."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedloom.config import Config
from fedloom.config.participation import ParticipationSettings
from fedloom.config.trees import validate
from fedloom.data.containers import TextSet
from fedloom.errors import BadInput
from fedloom.experiment.arrivals import Arriving, Coming
from fedloom.experiment.attendance import attendance, read_trace, without_effect
from fedloom.experiment.begin import prepare
from fedloom.experiment.resolve import completed

CLIENTS = tuple(f"image-{i}" for i in range(40))
ROUNDS = range(1, 101)


def at(t: int, clients: tuple[str, ...] = CLIENTS, seed: int = 0, **settings: Any):
    return attendance(validate(ParticipationSettings, settings), seed, t, clients)


def share(state: str, **settings: Any) -> float:
    """How often clients are in that state."""
    return sum(len(getattr(at(t, **settings), state)) for t in ROUNDS) / len(ROUNDS) / len(CLIENTS)


def test_by_default_all_are_there():
    assert at(3).present == tuple(sorted(CLIENTS))


def test_draws_depend_on_seed_round_and_name_alone():
    whole = at(7, away=0.5)
    assert whole == at(7, tuple(reversed(CLIENTS)), away=0.5)
    assert at(7, CLIENTS[:10], away=0.5).present == tuple(k for k in whole.present if k in CLIENTS[:10])
    assert whole != at(8, away=0.5)
    assert whole != at(7, seed=1, away=0.5)


def test_each_client_is_in_one_state():
    found = at(5, away=0.3, late=0.3, share=0.7, join={"image-0": 9}, leave={"image-1": 2})
    assert Counter([*found.members, *found.gone, *found.awaited]) == Counter(CLIENTS)


def test_shares_are_those_that_are_set():
    assert share("away", away=0.5) == pytest.approx(0.5, abs=0.03)
    assert share("away", away=0.3, stay=0.9) == pytest.approx(0.3, abs=0.06)
    assert share("late", late=0.2) == pytest.approx(0.2, abs=0.03)
    assert [len(at(t, share=0.25).present) for t in ROUNDS] == [10] * len(ROUNDS)


def test_who_is_away_stays_away():
    """With `stay` as often in the next round as it says; without it as often as any other."""

    def again(**settings: Any) -> float:
        found = [set(at(t, **settings).away) for t in ROUNDS]
        return sum(len(a & b) for a, b in itertools.pairwise(found)) / sum(map(len, found[:-1]))

    assert again(away=0.3, stay=0.9) == pytest.approx(0.9, abs=0.03)
    assert again(away=0.3) == pytest.approx(0.3, abs=0.04)


def test_at_least_one_is_drawn():
    assert len(at(1, ("image-0", "image-1", "image-2"), share=0.01).present) == 1


def test_clients_join_and_leave():
    settings: dict[str, Any] = {"join": {"image-0": 3}, "leave": {"image-1": 3}}
    states = [("image-0" in at(t, **settings).awaited, "image-1" in at(t, **settings).gone) for t in range(5)]
    assert states == [(True, False), (True, False), (True, False), (False, True), (False, True)]
    assert "image-0" not in at(2, **settings).members


def test_before_the_first_round_all_that_have_joined_are_there():
    assert set(at(0, away=0.9, late=0.9, join={"image-0": 1, "image-1": 2}).present) == set(CLIENTS) - {"image-1"}


def test_a_trace_holds_whatever_is_drawn():
    rows = [["image-0", 2, "present"], ["image-1", 2, "late"], ["image-2", 2, "gone"], ["image-3", 2, "away"]]
    settings = {"away": 0.9, "share": 0.05, "join": {"image-0": 50}, "trace": rows}
    now, later = at(2, **settings), at(3, **settings)
    assert "image-0" in now.present
    assert "image-1" in now.late
    assert "image-3" in now.away
    assert "image-2" in now.gone
    assert "image-2" in later.gone
    assert "image-0" in later.awaited


def test_a_file_is_read_with_the_configuration(tmp_path: Path):
    table = tmp_path / "trace.csv"
    table.write_text("client, round, state\nimage-0,1,away\ntext-1,2,gone\n")
    lines = tmp_path / "trace.jsonl"
    lines.write_text(
        '{"client": "image-0", "round": 1, "state": "away"}\n{"client":"text-1","round":2,"state":"gone"}\n'
    )
    assert read_trace(table) == read_trace(lines) == (("image-0", 1, "away"), ("text-1", 2, "gone"))
    config, _, settings = completed(validate(Config, {"participation": {"trace": str(table)}}))
    dumped = config.model_dump(mode="json")
    assert dumped["participation"]["trace"] == [["image-0", 1, "away"], ["text-1", 2, "gone"]]
    assert settings.catch_up is True
    table.unlink()  # what was begun goes on without the file
    assert completed(validate(Config, dumped))[0] == config


def test_the_default_leaves_no_trace_in_a_configuration():
    config, _, settings = completed(Config())
    assert "participation" not in config.model_dump(mode="json")
    assert "catch_up" not in config.settings
    assert not settings.catch_up


def test_catching_up_can_be_left_out():
    tree = {"participation": {"away": 0.5}, "settings": {"catch_up": False}}
    config, _, settings = completed(validate(Config, tree))
    assert settings.catch_up is False
    assert completed(validate(Config, config.model_dump(mode="json")))[2].catch_up is False
    assert "recall" not in completed(config)[1].contract(settings).verbs


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"away": 1.0}, "away"),
        ({"away": 0.9, "stay": 0.1}, "stay = 0.1 with away = 0.9: allowed: 0.8889 or more"),
        ({"join": {"image-9": 2}}, "participation.join: unknown client 'image-9'"),
        ({"leave": {"image-0": 1}}, "leave.image-0 = 1: it is there from round 1 on; allowed: 2 or later"),
        ({"trace": [["image-0", 1, "asleep"]]}, "trace"),
        ({"trace": [["image-0", 1, "away"], ["image-0", 1, "late"]]}, "image-0 has two states in round 1"),
        ({"trace": "none.csv"}, "none.csv"),
    ],
)
def test_what_cannot_be_is_one_line(tree: dict[str, Any], said: str):
    with pytest.raises(BadInput) as found:
        completed(validate(Config, {"participation": tree}))
    assert said in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "client,round,state\nx,0,away\n", "row 2: round = '0', allowed: 1 or more"),
        ("a.csv", "client,round,state\nx,1,off\n", "row 2: state = 'off', allowed: present, away, late, gone"),
        ("a.csv", "client,round\nx,1\n", "no column 'state'"),
        ("a.jsonl", '{"client": "x", "round": 1}\n', "expected an object with client, round, state"),
        ("a.jsonl", "[\n", "row 1"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, name: str, text: str, said: str):
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInput) as found:
        read_trace(tmp_path / name)
    assert said in str(found.value)


def test_a_plan_says_how_many_take_part():
    from fedloom.planning import plan

    told = [note for note in plan(overrides=["participation.away=0.5"]).notes if "take part" in note]
    assert len(told) == 1
    assert not [note for note in plan().notes if "take part" in note]


def test_what_has_no_effect_is_said():
    trace = [["image-0", 2, "away"], ["image-0", 9, "away"]]
    told = {"stay": 0.5, "join": {"text-0": 5}, "leave": {"image-1": 7}, "classes": {"daisy": 6}, "trace": trace}
    config = completed(validate(Config, {"rounds": 4, "participation": told}))[0]
    assert without_effect(config) == [
        "participation.stay has no effect where away is 0",
        "participation.join.text-0 = 5: it never takes part, as the last round is 4",
        "participation.leave.image-1 = 7: it stays to the end, as the last round is 4",
        "participation.classes.daisy = 6: it never appears, as the last round is 4",
        "participation.trace: rows of rounds after the last, 4, have no effect: 1",
    ]
    assert prepare(config).notes[-5:] == tuple(without_effect(config))
    seen = {"away": 0.5, "stay": 0.6, "join": {"text-0": 4}, "classes": {"daisy": 1}}
    assert without_effect(validate(Config, {"rounds": 4, "participation": seen})) == []
    assert without_effect(Config()) == []


def test_a_plan_knows_the_classes_of_embedded_data():
    from fedloom.planning import plan

    with pytest.raises(BadInput, match=r"participation.classes: unknown class 'dasy'.*daisy"):
        plan(overrides=["participation.classes.dasy=2"])
    assert any(
        "daisy = 9: it never appears" in note for note in plan(overrides=["participation.classes.daisy=9"]).notes
    )


class Pupil:
    """A client that notes what it has and when it is trained."""

    def __init__(self, samples: Any) -> None:
        self.context, self.log, self.told = self, [], 0
        self.hold(samples)

    def hold(self, samples: Any) -> None:
        self.private_labels = samples.labels

    def train_private(self, steps: int, *names: object) -> None:
        self.log.append((len(self.private_labels), steps, *names))

    def evaluate(self, message: Any, *, round: int) -> int:
        return len(self.private_labels)

    def state(self) -> Any:
        return {}, {"log": list(self.log)}

    def load_state(self, arrays: Any, meta: Any) -> None:
        self.log = meta["log"]


def test_samples_that_arrive_are_learned_once_whenever_the_client_is_asked():
    samples = TextSet(tuple("abcdef"), np.array([0, 1, 2, 0, 1, 3], dtype=np.int64))
    coming = Coming({2: 3, 3: 5})

    def arriving() -> Arriving:
        return Arriving(Pupil(coming.present(samples, 0)), samples, coming, steps=7)

    often, seldom = arriving(), arriving()
    assert [often.evaluate(None, round=t) for t in range(1, 7)] == [4, 4, 5, 5, 6, 6]
    assert seldom.evaluate(None, round=6) == 6
    assert often.log == seldom.log == [(5, 7, 3, "arrived"), (6, 7, 5, "arrived")]
    again, half = arriving(), arriving()
    half.evaluate(None, round=4)
    again.load_state(*half.state())
    assert again.evaluate(None, round=4) == 5
    assert again.evaluate(None, round=5) == 6
    assert again.log == [(5, 7, 3, "arrived"), (6, 7, 5, "arrived")]
