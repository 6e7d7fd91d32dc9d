"""Clients on accelerators, here pretended ones: the numbers are the CPU's, but for the order of some sums."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fedloom
from fedloom.config import load_config
from fedloom.errors import BadInput
from fedloom.experiment.clients import client_names, device_for
from fedloom.methods.catalogue import CATALOGUE
from pretend import DEVICE, OTHER, pretended
from test_engines import overrides
from whole_runs import rows_of

ON_BOTH = (f"clients.devices=['{DEVICE}','{OTHER}']", "clients.augment=false", "rounds=1")
# Methods whose clients do more with parameters than step along gradients; all by `make conformance`.
FEW = ("fedmmkt", "scaffold")


def near(one: Any, two: Any, slack: float = 1e-5) -> bool:
    """Whether two rows say the same, numbers to 1e-4 of them, or to 1e-5: a small FID is the difference of large sums.

    Ranks of models that have hardly learned are nearly ties: of forty, two may fall the other way.
    """
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(near(one[k], two[k], 0.05 if k == "retrieval" else slack) for k in one)
    if isinstance(one, list):
        return len(one) == len(two) and all(near(a, b, slack) for a, b in zip(one, two))
    return bool(one == pytest.approx(two, rel=1e-4, abs=slack)) if isinstance(one, float) else one == two


@pytest.mark.parametrize(
    "method", [pytest.param(m, marks=() if m in FEW else pytest.mark.conformance) for m in CATALOGUE]
)
def test_a_round_on_two_devices(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fedloom.models.clients.client_model import ClientModel
    from fedloom.models.device import place_of

    places, plain = set(), ClientModel.backbone_features

    def noted(self: ClientModel, **inputs: Any) -> Any:
        places.add(str(place_of(self.backbone)))
        return plain(self, **inputs)

    given: dict[str, Any] = {"preset": "smoke", "method": method}
    more = (*overrides(method), *ON_BOTH)
    here = fedloom.run(**given, overrides=(*more, "clients.devices=[cpu]"), out=tmp_path / "here")
    monkeypatch.setattr(ClientModel, "backbone_features", noted)
    with pretended():
        there = fedloom.run(**given, overrides=more, out=tmp_path / "there")
    assert {DEVICE, OTHER} <= places or not here.rounds[-1]["per_client"]
    assert all(map(near, rows_of(here), rows_of(there)))


def test_devices_are_dealt_out_in_turn() -> None:
    config = load_config(preset="smoke", overrides=["clients.devices=[a,b,c]"])
    dealt = [device_for(config, m, i) for m, names in client_names(config).items() for i in range(len(names))]
    assert dealt[:4] == ["a", "b", "c", "a"][: len(dealt)]
    assert len(dealt) == len([*config.clients.names("image"), *config.clients.names("text")])


def test_a_device_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="device 'tpu'"):
        fedloom.run(preset="smoke", overrides=["clients.devices=[tpu]"], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
