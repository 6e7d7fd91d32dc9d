"""A short part of the fuzzing, and what was once wrong; the harness itself, on readers that fail on purpose."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from fedloom.errors import BadInput
from fuzz import harness
from fuzz.__main__ import kept_inputs
from fuzz.harness import Surface, run, run_given
from fuzz.inputs import Input, Special, from_json, to_json
from fuzz.surfaces import SURFACES

FEW = 300  # inputs in all


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.name)
def test_a_few_inputs_and_those_that_are_kept(surface: Surface) -> None:
    kept = [(-n - 1, given) for n, given in enumerate(kept_inputs(surface).values())]
    few = range(min(40, round(FEW * surface.share / sum(s.share for s in SURFACES))))  # of slow ones none
    found = [*run(surface, few, seed=1).findings, *run_given(surface, kept, seed=1).findings]
    assert [f"{f.number}: {f.kind}: {f.detail}" for f in found] == []


def _reading(read: Any, truth: Any = lambda folder, given: b"x") -> Surface:
    return Surface("toy", lambda rng: Input({"a": b"x"}), read, truth)


def _raise(error: BaseException) -> Any:
    raise error


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (lambda folder, given: 1 / 0, "traceback"),
        (lambda folder, given: _raise(BadInput("no")), "refused"),  # what is undamaged
        (lambda folder, given: b"y", "other contents"),
        (lambda folder, given: os.kill(os.getpid(), 11), "crash"),
        (lambda folder, given: time.sleep(9), "hang"),
        (lambda folder, given: bytearray(harness.GROWTH + 10_000_000).replace(b"\0", b"x", 1) and b"x", "growth"),
        (lambda folder, given: bytearray(1 << 50), "allocation"),
    ],
)  # fmt: skip
def test_the_harness_sees(read: Any, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "hang":
        monkeypatch.setattr(harness, "WAITING", 0.3)
    assert [f.kind for f in run(_reading(read), [0], seed=0).findings] == [kind]


def test_the_harness_goes_on_after_a_crash() -> None:
    def read(folder: Path, given: Input) -> bytes:
        if folder.name == "8":
            os.kill(os.getpid(), 11)
        return b"x"

    tally = run(_reading(read), [0, 8, 16, 24], seed=0)
    assert [(f.number, f.kind) for f in tally.findings] == [(8, "crash")]
    assert tally.inputs == 4


def test_an_input_is_kept_as_it_is() -> None:
    given = Input({"é": b"\xff\0", "b": b"text", "c": Special("link", "b"), "d": Special("fifo")}, {"n": 1})
    assert from_json(to_json(given, "note")) == given
