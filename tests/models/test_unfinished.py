"""Training that is stopped and gone on with: the weights are those of an unbroken one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedloom.config.models import ClipSettings
from fedloom.errors import OutOfTime
from fedloom.models import unfinished
from fedloom.models.fit import Draws, fit_from_scratch
from fedloom.models.unfinished import Unfinished, kept_in

STEPS = 12


def train(stop_after: int = STEPS, ticks: list[int] | None = None) -> dict[str, Tensor]:
    """A small net's weights after 12 steps whose batches, noise and dropout are drawn from all kinds of streams."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    rng, noise = np.random.default_rng(0), torch.Generator().manual_seed(1)
    inputs = torch.arange(21.0).reshape(7, 3)
    done = 0

    def objective(index: np.ndarray[Any, Any]) -> Tensor:
        x = inputs[index] * float(rng.random()) + torch.randn((len(index), 3), generator=noise)
        loss: Tensor = net(x).square().mean()
        return loss

    def tick() -> None:
        nonlocal done
        done += 1
        if ticks is not None:
            ticks.append(done)
        if done == stop_after < STEPS:
            raise KeyboardInterrupt

    settings = ClipSettings(steps=STEPS, batch=3, rate=0.1)
    fit_from_scratch(net, "net", objective, len(inputs), settings, Draws(rng, [noise]), 5, tick)
    return net.state_dict()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("stop", [1, 4, 11])
def test_it_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
    whole, ticks = train(), list[int]()
    monkeypatch.setattr(unfinished, "EVERY", 0.0)
    with pytest.raises(KeyboardInterrupt), kept_in(Unfinished(tmp_path / "a" / "state")):
        train(stop)
    assert (tmp_path / "a" / "state").exists()
    with kept_in(Unfinished(tmp_path / "a" / "state")):
        assert same(train(ticks=ticks), whole)
    assert ticks == list(range(1, STEPS + 1))  # what was done before is counted
    assert not (tmp_path / "a" / "state").exists()


def test_it_stops_when_its_time_is_over(tmp_path: Path) -> None:
    for _ in range(3):
        with (
            pytest.raises(OutOfTime, match=rf"net: \d+ of {STEPS} steps are done and kept"),
            kept_in(Unfinished(tmp_path / "state", time.monotonic())),
        ):
            train()
    with kept_in(Unfinished(tmp_path / "state")):
        assert same(train(), train())


def test_a_state_that_a_crash_cut_short_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"PK\x03\x04 and no more")
    with kept_in(Unfinished(tmp_path / "state")):
        assert same(train(), train())


def test_nothing_is_written_of_what_is_quick(tmp_path: Path) -> None:
    with kept_in(Unfinished(tmp_path / "state")):
        train()
        assert not list(tmp_path.iterdir())
