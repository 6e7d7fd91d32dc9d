"""Who does which cell next, and how long it will take."""

from __future__ import annotations

from types import SimpleNamespace

from fedloom.cli.compare_live import ComparisonLines, left, said
from fedloom.comparison.schedule import PAUSE, Schedule


class Cell(SimpleNamespace):
    @property
    def label(self):
        return f"{self.row}, {self.column}, seed {self.seed}"

    @property
    def group(self):
        return self.column, self.seed


def made(rows="ab", columns="xy", seeds=(0, 1)):
    return [Cell(row=r, column=c, seed=s, folder=f"{r}{c}{s}") for s in seeds for c in columns for r in rows]


def test_workers_begin_with_groups_of_their_own_and_stay():
    plan, running = Schedule(made()), []
    first = plan.next(None, running)
    second = plan.next(None, [first])
    assert (first.folder, second.folder) == ("ax0", "ay0")
    third = plan.next(first, [second])
    assert third.folder == "bx0"
    assert plan.next(third, [second]).group == ("x", 1)  # its own is done: one that nobody is at


def test_every_cell_once_whoever_asks():
    plan, seen, running = Schedule(made("abc")), [], [None, None]
    while not plan.empty:
        for n in range(2):
            cell = plan.next(running[n], [c for i, c in enumerate(running) if c and i != n])
            running[n] = cell or running[n]
            seen += [cell.folder] if cell else []
    assert sorted(seen) == sorted(c.folder for c in made("abc"))


def test_what_is_put_off_comes_later():
    now = [0.0]
    plan = Schedule(made("ab", "x", (0,)), clock=lambda: now[0])
    busy = plan.next(None, [])
    plan.put_off(busy)
    other = plan.next(busy, [])
    assert other.folder != busy.folder
    assert plan.next(other, []) is None
    assert not plan.empty
    now[0] = PAUSE
    assert plan.next(other, []) is busy


def test_lines_and_time_left():
    now, said = [0.0], []
    watch = ComparisonLines(said.append, clock=lambda: now[0])
    a, b, c = cells = made("abc", "x", (0,))
    watch.begin("T", "there", 4, 1, {cell.folder: cell.row for cell in cells}, 1)
    watch.start(a)
    now[0] = 40.0
    scores = {"image_accuracy": {"after": 0.712}, "text_accuracy": {"after": None}}
    watch.finish(a, {"error": None, "scores": scores, "seconds": 31.3})
    watch.start(b)
    now[0] = 50.0  # 30 s of b are left, and 40 s of c
    assert left(watch) == "about 1 min left"
    watch.finish(b, {"error": "worker was killed"})
    watch.finish(c, {"error": None, "scores": {}, "seconds": 2.0})
    assert said == [
        "T: 4 runs, 1 done already, 1 at a time, folder there",
        "[2/4] a, x, seed 0: image 0.71 in 31 s; about 1 min left",
        "[3/4] b, x, seed 0: failed, worker was killed; about 25 s left",
        "[4/4] c, x, seed 0: done in 2 s",
    ]


def test_what_is_said_of_recalls():
    scores = {"pair_recall": {"after": 0.2}, "server_recall": {"after": 0.6016}, "image_accuracy": None}
    record = {"error": None, "scores": scores, "seconds": 2.0}
    cell = made("a", "x", (0,))[0]
    assert said(cell, record) == "a, x, seed 0: pairs 0.20, server 0.60 in 2 s"
