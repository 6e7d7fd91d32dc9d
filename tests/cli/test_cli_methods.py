"""`fedloom methods NAME`, `datasets NAME`, `models NAME`: the settings of one of them."""

from __future__ import annotations

import pytest

from fedloom.config.archs import archs
from fedloom.data.registry import DATASETS, PAIR_SETS
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
    assert f"--set settings.{next(iter(settings))}=VALUE" in cli("methods", "fedmmkt").out


def test_an_unknown_method(cli):
    shown = cli("methods", "fedmm")
    assert (shown.code, shown.out) == (2, "")
    assert "unknown method 'fedmm'. Did you mean 'fedmmkt'?" in shown.err


@pytest.mark.parametrize("name", [*DATASETS, *PAIR_SETS])
def test_every_data_set_lists_its_options(cli, name):
    shown, listed = cli("datasets", name), cli("datasets", name, "--json")
    assert (shown.code, listed.code, shown.err, listed.err) == (0, 0, "", "")
    declared = DATASETS[name] if name in DATASETS else PAIR_SETS[name]
    options = {row["option"]: row for row in listed.json["options"]}
    assert sorted(options) == declared.options
    assert all(key in shown.out for key in options)
    assert all(row["allowed"] and row["description"] for row in options.values())


def test_what_an_option_is(cli):
    options = {row["option"]: row for row in cli("datasets", "flowers102", "--json").json["options"]}
    assert (options["size"]["default"], options["size"]["allowed"]) == (64, "integer")
    assert options["on_bad"]["allowed"] == "error or skip"
    assert options["per_class"]["description"].startswith("at most so many samples of a class")
    assert "--root FOLDER --set data.options." in cli("datasets", "flowers102").out


@pytest.mark.parametrize("name", [name for kind in ("image", "text", "audio") for name in archs(kind)])
def test_every_client_model_lists_its_settings(cli, name):
    shown, listed = cli("models", name), cli("models", name, "--json")
    assert (shown.code, listed.code, shown.err, listed.err) == (0, 0, "", "")
    settings = {row["setting"]: row for row in listed.json["settings"]}
    assert {"pretrained", "width"} <= set(settings)
    assert ("patch" in settings) == (listed.json["reads"] == "image")
    assert all(row["allowed"] and row["description"] for row in settings.values())


@pytest.mark.parametrize(("command", "near"), [("datasets", "flowers10"), ("models", "deiit")])
def test_an_unknown_data_set_or_model(cli, command, near):
    shown = cli(command, near)
    assert (shown.code, shown.out) == (2, "")
    assert "Did you mean" in shown.err
