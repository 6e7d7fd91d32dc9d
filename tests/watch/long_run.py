"""A made-up run that goes on: rounds are added to its folder as a run would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fedloom.runs import RunFolder
from fedloom.runs.disk import append_line
from made_up_run import CLASSES, IMAGE, TEXT, message, pictures, row

CONFIG: dict[str, Any] = {"method": "fedmmkt", "data": {"name": "flora"}, "seed": 0, "engine": {"workers": 1}}


class LongRun:
    """The folder of an unfinished run of `rounds` rounds, of which `done` are there. pictures: drawn in each."""

    def __init__(self, path: Path, rounds: int = 100, done: int = 0, pictures: bool = False) -> None:
        self.folder = RunFolder.create(path, {**CONFIG, "rounds": rounds})
        self.path, self.pictures, self.at = path, pictures, -1
        for _ in range(done + 1):
            self.go_on()

    def go_on(self) -> None:
        """One round more: ledger and pictures first, as a run does it, then the line of metrics."""
        self.at += 1
        for client in (*IMAGE, *TEXT) if self.at else ():
            for direction in ("down", "up"):
                line = message(self.at, direction, client, "infer")
                line["seconds"] = 0.5 + 0.1 * len(client) if direction == "up" else None
                append_line(self.folder.ledger, json.dumps(line))
        if self.pictures:
            self._draw()
        self.folder.append_round(row(self.at, seed=0))

    def _draw(self) -> None:
        from fedloom.reporting.pictures import label_panel, sample_grid

        rng = np.random.default_rng(self.at)
        labels = np.repeat(np.arange(12), 6)
        blots = pictures(labels, rng)
        sample_grid(blots, CLASSES, self.folder.sample_picture(self.at), side=48)
        if self.at:
            truth = np.where(rng.random(72) < 0.3, labels ^ 1, labels)
            kept = rng.random(72) < 0.7
            label_panel(blots, labels, truth, kept, truth, CLASSES, self.folder.label_picture(self.at))

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Held as by the process that is at it."""
        with self.folder.exclusive():
            yield
