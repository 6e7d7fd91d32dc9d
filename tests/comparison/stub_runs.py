"""Stands in for `run`: writes a run's folder in milliseconds, and does harm where it is told to.

The harm lies in the configuration: `data.alpha` of a cell.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from fedloom.errors import FedloomError
from fedloom.runs.disk import append_line, json_line
from fedloom.runs.folder import RunFolder

LEVEL = {"standalone": 0.5, "fedmd": 0.6, "fedmekt": 0.7}
BUG, MENDABLE, KILL, HALF = 0.11, 0.12, 0.13, 0.14


def row(method: str, seed: int, t: int) -> dict[str, Any]:
    """A line of metrics: standalone sends nothing, and nobody has a generator."""
    sent = 0 if method == "standalone" else 1000
    slope = 0.01 + 1e-6 * LEVEL[method]  # differences between methods are nearly equal, not quite
    scores = {"image_accuracy": LEVEL[method] + slope * seed * t, "text_accuracy": LEVEL[method] + 0.1 * t}
    rest = dict.fromkeys(("t2i_accuracy", "clip_score", "fid", "inception_score"))
    cost = {"bytes_up": sent, "bytes_down": 2 * sent, "seconds": {"train": 2.0, "evaluation": 5.0}}
    return {"round": t, **scores, **rest, **cost}


def run(config: Any, *, out: Any = None, resume: Any = None, keep: bool = True, observer: Any = None) -> None:
    assert not keep
    folder = RunFolder.create(out, config.model_dump(mode="json")) if out else RunFolder.open(resume)
    folder.log("resumed" if resume else "begun")
    observer.stage("pretraining of everything")
    observer.stage("clients: building")
    done = len(folder.read_rounds())
    observer.begin({"resumed_at": done, "rounds": config.rounds})
    for t in range(done, config.rounds + 1):
        if t:
            observer.phase(t, "round")
            time.sleep(0.01)
        observer.phase(t, "evaluation")
        new = row(config.method, config.seed, t)
        append_line(folder.metrics, json_line(new))
        observer.round(new)
        if t == 1 and not resume:
            harm(config.data.alpha)
    folder.write_summary({"version": "0.1.0", "seconds": {"total": 9.0, "setup": 1.0}})


def harm(kind: float) -> None:
    if kind == BUG:
        raise ValueError("one\nbug")
    if kind in (MENDABLE, HALF):
        raise FedloomError("the disk is full")
    if kind == KILL:
        os.kill(os.getpid(), signal.SIGKILL)
