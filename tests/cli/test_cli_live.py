"""What is shown while a run goes on, told by a made-up run with a clock of its own."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from fedloom.cli.live import Lines, RunView, Tracker, left, shown

FACTS = {
    "method": "fedmmkt", "data": "flora", "rounds": 3, "folder": Path("runs/[x]"), "resumed_at": 0,
    "clients": {"image": ["image-0", "image-1"], "text": ["text-0"]},
}  # fmt: skip
EMPTY = {"round": 1, "image_accuracy": None, "labels": None}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def row(round, **more):
    scores = {
        "image_accuracy": 0.5 + round / 10,
        "text_accuracy": None,
        "t2i_accuracy": 0.25,
        "clip_score": 21.5,
    }
    return {"round": round, **scores, "labels": {"kept_share": 0.61} if round else None, **more}


def play(watch: Tracker, clock: Clock) -> None:
    """Pretraining of 10 steps in 20 s, then two of three rounds of 30 s each."""
    watch.stage("pretraining", 10)
    for done in range(0, 11, 2):
        clock.now += 4
        watch.at(done)
    watch.begin(FACTS)
    watch.phase(0, "evaluation")
    watch.round(row(0))
    for t in (1, 2):
        watch.phase(t, "round")
        clock.now += 30
        watch.phase(t, "evaluation")
        watch.round(row(t))


def test_lines():
    said: list[str] = []
    clock = Clock()
    play(Lines(said.append, clock), clock)
    assert said[0] == "pretraining (10 steps)"
    assert said[1] == "  4/10  12 s  18 s left"
    assert "fedmmkt on flora, 2 image + 1 text clients, folder runs/[x]" in said
    assert said[-3] == "before  Image clients 0.500  Text clients –  T2I accuracy 0.250  CLIP score 21.500"
    assert said[-1].startswith("round 2/3  30 s  Image clients 0.700  Text clients –")
    assert said[-1].endswith("kept 61%  30 s left")


def test_lines_of_a_resumed_run():
    said: list[str] = []
    clock = Clock()
    watch = Lines(said.append, clock)
    watch.begin({**FACTS, "resumed_at": 2})
    for t in (0, 1):
        watch.round(row(t))
    clock.now += 10
    watch.round(row(2))
    assert said[1] == "resumed after round 1"
    assert len(said) == 3
    assert said[2].endswith("10 s left")


def drawn(watch: RunView) -> str:
    console = Console(file=io.StringIO(), width=100, force_terminal=False)
    console.print(watch.picture())
    return console.file.getvalue()  # type: ignore[attr-defined]


def picture(clock: Clock) -> RunView:
    return RunView(Console(file=io.StringIO(), width=100, force_terminal=True), clock)


def test_picture():
    clock = Clock()
    watch = picture(clock)
    assert "starting" in drawn(watch)
    with watch:
        play(watch, clock)
        watch.phase(3, "round")
        shown = drawn(watch)
    assert "runs/[x]" in shown
    assert "2/3 1 min 24 s elapsed, 30 s left\n  round 3\n" in shown
    assert "Image clients" in shown
    assert "+0.200" in shown
    assert "Labels kept" in shown
    assert "pretraining" not in shown


def test_picture_of_a_stage():
    clock = Clock()
    watch = picture(clock)
    watch.stage("pretraining", 10)
    clock.now += 4
    watch.at(2)
    assert "2/10 4 s elapsed, 16 s left" in drawn(watch)
    watch.at(12)  # more than was announced
    assert "10/10" in drawn(watch)


def test_the_first_round_says_how_far_it_is():
    """By its steps: 40 of 160 in 10 s; three rounds of 40 s."""
    clock = Clock()
    watch = picture(clock)
    watch.begin(FACTS)
    watch.phase(0, "evaluation")
    assert "round 0: evaluation" in drawn(watch)
    watch.round(row(0))
    watch.phase(1, "round")
    clock.now += 10
    watch.within(0, 0, "infer, 1 of 3 clients")  # of an engine whose clients train elsewhere
    assert "0/3 10 s elapsed\n  round 1: infer, 1 of 3 clients\n" in drawn(watch)
    watch.within(40, 160, "retrain, 1 of 3 clients")
    shown = drawn(watch)
    assert "0/3 10 s elapsed, 1 min 50 s left\n  round 1: retrain, 1 of 3 clients, step 40 of about 160\n" in shown
    watch.phase(1, "evaluation")
    assert "round 1: evaluation\n" in drawn(watch)


def test_lines_within_a_long_round():
    said: list[str] = []
    clock = Clock()
    watch = Lines(said.append, clock)
    watch.begin(FACTS)
    watch.round(row(0))
    watch.phase(1, "round")
    for done in range(1, 14):
        clock.now += 10
        watch.within(done, 26, "retrain, 0 of 3 clients")
    assert said[2:] == [
        "  round 1: retrain, 0 of 3 clients, step 6 of about 26, 1 min 0 s elapsed, 12 min 0 s left",
        "  round 1: retrain, 0 of 3 clients, step 12 of about 26, 2 min 0 s elapsed, 11 min 0 s left",
    ]


@pytest.mark.parametrize("rows", [[], [{}], [EMPTY], [row(0), EMPTY, row(2, labels={"kept_share": None})]])
@pytest.mark.parametrize("facts", [{}, {"rounds": 0}, FACTS])
def test_nothing_that_is_missing_breaks_it(rows, facts):
    clock = Clock()
    for watch in (picture(clock), Lines(lambda line: None, clock)):
        watch.stage("warm start")
        watch.at(3, "note")
        watch.begin(facts)
        for r in rows:
            watch.round(r)
            watch.phase(1, "round")
        if isinstance(watch, RunView):
            drawn(watch)
        watch.end({})


def test_time_left():
    assert [left(s) for s in (None, 0.2, 12.6, 200)] == ["", "1 s left", "13 s left", "3 min 20 s left"]


JOINT = {**FACTS, "clients": {"image": [], "text": [], "joint": ["joint-0", "joint-1"]}}


def joint_row(round):
    """No usual score; the scores of either kind, of which the details are not for this place."""
    none = dict.fromkeys(("image_accuracy", "text_accuracy", "t2i_accuracy", "clip_score"))
    own = {"joint_accuracy": 0.1 + round / 10, "server_accuracy": 0.2, "audio_own": 0.5, "image_own": 0.25}
    return {"round": round, **none, **own, "server_spread": 0.1, "audio_probe": 0.9, "labels": None}


def test_joint_clients_have_columns_of_their_own():
    said: list[str] = []
    clock = Clock()
    lines, watch = Lines(said.append, clock), picture(clock)
    for w in (lines, watch):
        w.begin(JOINT)
        w.round(joint_row(0))
        w.round(joint_row(1))
    assert said[0].startswith("fedmmkt on flora, 2 multimodal clients")
    columns = "Shared model 0.200  Sound, own 0.500  Picture, own 0.250"
    assert said[1] == f"before  Multimodal clients 0.100  {columns}"
    names = [line.split("  ")[0].strip() for line in drawn(watch).splitlines()]
    assert [n for n in names if n][-4:] == ["Multimodal clients", "Shared model", "Sound, own", "Picture, own"]
    lines.round({"round": 2, **dict.fromkeys(joint_row(0))})  # a round that was not scored
    assert "Multimodal clients –" in said[-1]
    assert "Image clients" not in said[-1]


def test_usual_scores_stay_beside_joint_ones():
    keys = [s.key for s in shown({**joint_row(0), "image_accuracy": 0.5})]
    assert keys == ["image_accuracy", "joint_accuracy", "server_accuracy", "audio_own", "image_own"]


def test_recalls_are_shown_where_they_are():
    said: list[str] = []
    clock = Clock()
    lines, watch = Lines(said.append, clock), picture(clock)
    for w in (lines, watch):
        w.begin(FACTS)
        for t in (0, 1):
            w.round(row(t, pair_recall=0.1 + t / 10, server_recall=0.5 + t / 10))
    assert "Text clients –  Image-text clients 0.200  Server recall sum 0.600  T2I accuracy 0.250" in said[-1]
    shown = drawn(watch)
    assert "Server recall sum" in shown
    assert "+0.100" in shown
