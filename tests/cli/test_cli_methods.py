"""`fedloom methods NAME`: the settings of one method."""

from __future__ import annotations

import pytest

from fedloom.methods.base import load_method
from fedloom.methods.catalogue import CATALOGUE


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_method_lists_its_settings(cli, name):
    shown, listed = cli("methods", name), cli("methods", name, "--json")
    assert (shown.code, listed.code, shown.err, listed.err) == (0, 0, "", "")
    settings = {row["setting"]: row for row in listed.json["settings"]}
    assert set(settings) == set(load_method(name)[0].settings.model_fields)
    assert all(key in shown.out for key in settings)
    assert all(row["allowed"] for row in settings.values())
    for key, value in CATALOGUE[name].fixed.items():
        assert settings[key]["default"] == value
        assert settings[key]["allowed"] == "fixed by the name"


def test_default_allowed_and_meaning(cli):
    settings = {row["setting"]: row for row in cli("methods", "FedMMKT", "--json").json["settings"]}
    assert settings["gamma"]["default"] == 0.25
    assert settings["gamma"]["allowed"] == "number >= 0 and <= 1"
    assert settings["public_share"]["allowed"] == "number >= 0 and < 1 or null"
    assert settings["condition"]["allowed"] == "add, token or pooled"
    assert settings["labvote"]["allowed"] == "true or false"
    assert "eq. 5" in settings["gamma"]["description"]
    assert "--set settings.samples=VALUE" in cli("methods", "fedmmkt").out


def test_an_unknown_method(cli):
    shown = cli("methods", "fedmm")
    assert (shown.code, shown.out) == (2, "")
    assert "unknown method 'fedmm'. Did you mean 'fedmmkt'?" in shown.err
