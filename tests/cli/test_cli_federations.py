"""`fedloom run` with the engine flower: how many silos are begun, for every kind of client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedloom.config import load_config
from fedloom.tasks import CLIENT_TASKS

PRESETS = {
    "smoke": ["image", "image", "text", "text"],
    "fedcmi": ["joint"] * 6,
    "fedafd": ["image", "image", "text", "text", "pair", "pair"],
}
TINY = {  # of the presets: every part at its smallest
    "fedcmi": (
        *("data.options={classes: 3, per_class: 24, test_per_class: 4}", "settings.private_steps=1"),
        "clients.joint=[{arch: audio-resnet+resnet, hidden: 8, width: 8, count: 6}]",
    ),
    "fedafd": (
        "data.options={size: 12, images: 40, texts: 40, test: 40, generic: 60, reference: 60, pairs: 80, "
        "test_pairs: 20, text_labels: family}",
        *("clients.warm_steps=1", "server.public_steps=1", "server.vocabulary=200", "server.image.hidden=16"),
        *("evaluation.fold=10", "settings.public=20", "settings.private_steps=1", "settings.shared_steps=1"),
        *("settings.server_steps=1", "settings.distill_steps=1"),
    ),
}


class Stopped(Exception):
    """In place of a federation."""


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of silos that each federation is begun with; none of them is brought up."""
    counts: list[int] = []

    def stub(silos: int) -> None:
        counts.append(silos)
        raise Stopped

    loopback = lambda config, folder, silos, watch: stub(silos)  # noqa: E731
    simulation = lambda config, folder, watch, silos: stub(silos)  # noqa: E731
    monkeypatch.setattr("fedloom.deployment.loopback.Loopback", loopback)
    monkeypatch.setattr("fedloom.deployment.simulation.Simulation", simulation)
    return counts


@pytest.mark.parametrize("mode", ["loopback", "simulation"])
@pytest.mark.parametrize("preset", PRESETS)
def test_one_silo_a_client(cli, begun, preset, mode):
    engine = ("--set", "engine.name=flower", "--set", f"engine.mode={mode}")
    with pytest.raises(Stopped):
        cli("run", "--preset", preset, *engine, "--quiet")
    with pytest.raises(Stopped):
        cli("run", "--preset", preset, *engine, "--set", "engine.silos=2", "--quiet")
    with pytest.raises(Stopped):
        cli("run", "--preset", preset, *engine, "--set", "engine.silos=50", "--quiet")
    assert begun == [len(PRESETS[preset]), 2, len(PRESETS[preset])]


@pytest.mark.parametrize("preset", PRESETS)
def test_all_clients_by_name(preset):
    clients = load_config(preset=preset).clients
    found = clients.everyone()
    assert list(found.values()) == PRESETS[preset]
    assert list(found) == [name for m in CLIENT_TASKS for name in clients.names(m)]


@pytest.mark.conformance
@pytest.mark.timeout(600)
@pytest.mark.parametrize("preset", TINY)
def test_the_presets_on_a_real_federation(cli, tmp_path, preset):
    given: list[Any] = [x for value in (*TINY[preset], "rounds=1") for x in ("--set", value)]
    shown = cli("run", "--preset", preset, "--set", "engine.name=flower", *given, "--out", "there", "--json")
    assert shown.code == 0, shown.err
    silos = {f"silo-{i}" for i in range(6)}
    assert {p.name for p in Path("there/federation/logs").iterdir()} >= silos
    last = json.loads(Path("there/metrics.jsonl").read_text().splitlines()[-1])
    assert (last["round"], last["missing"]) == (1, [])
    assert set(last["per_client"]) == set(load_config(preset=preset).clients.everyone())
    assert cli("run", "--preset", preset, *given, "--out", "here", "--json").code == 0
    local = json.loads(Path("here/metrics.jsonl").read_text().splitlines()[-1])
    assert local["per_client"] == last["per_client"]
