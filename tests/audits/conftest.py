"""Small whole runs that have kept their messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import fedloom
from fedloom.results import Run

# Pictures that say nothing of their class: whoever knows a label has learned it by heart.
SMALL = (
    *("rounds=1", "engine.keep_messages=true", "clients.public_steps=0", "clients.warm_steps=0", "clients.text=[]"),
    "clients.image=[{arch: vit, hidden: 32, layers: 1, heads: 2, patch: 6, width: 16}]",
    *("clients.augment=false", "clients.rate=0.005", "clients.batch=32", "data.corruption.wrong_label=0.9"),
)
LEARNS = ("settings.private_steps=250", "settings.extra_steps=0")
STANDS_STILL = ("settings.private_steps=0", "settings.extra_steps=0")
Make = Callable[..., Run]


@pytest.fixture(scope="session")
def make(fedloom_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A run of a method with these overrides, on top of the smallest."""

    def made(method: str, *overrides: str) -> Run:
        out = tmp_path_factory.mktemp("audited") / "run"
        run: Run = fedloom.run(method=method, preset="smoke", overrides=overrides, out=out)
        return run

    return made


@pytest.fixture(scope="session")
def overfit(make: Make) -> Run:
    """FedAvg with one client that learns its samples by heart, canaries among them. Read only."""
    return make("fedavg", *SMALL, *LEARNS, "data.canaries.count=60", "data.canaries.kind=random")


@pytest.fixture(scope="session")
def still(make: Make) -> Run:
    """FedAvg with one client that takes no step. Read only."""
    return make("fedavg", *SMALL, *STANDS_STILL, "data.canaries.count=20")


@pytest.fixture(scope="session")
def answered(make: Make, smoke_overrides: tuple[str, ...]) -> Run:
    """FedMMKT of one round, with answers about shared samples. Read only."""
    return make("fedmmkt", *smoke_overrides, "rounds=1", "settings.samples=40", "engine.keep_messages=true")


@pytest.fixture(scope="session")
def prototypes(make: Make) -> Run:
    """FedProto of one round, with one client. Read only."""
    return make("fedproto", *SMALL, *STANDS_STILL)
