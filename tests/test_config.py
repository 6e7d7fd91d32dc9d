"""The configuration: what overrides what, and the one line that a mistake gives."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from fedloom.config import ClientsSettings, Config, load_config, presets, validate
from fedloom.errors import BadInput


def test_what_overrides_what(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("rounds: 3\nseed: 3\nclients: {batch: 7}\nsettings: {a: 1, b: 1}\n")
    config = load_config(
        preset="smoke",
        file=file,
        values={"seed": 4, "settings": {"b": 2}},
        overrides=("method=standalone", "settings.c=3", "clients.rate=1e-3"),
    )
    assert (config.rounds, config.seed, config.method) == (3, 4, "standalone")
    assert (config.clients.batch, config.clients.rate) == (7, 1e-3)
    assert config.clients.warm_steps == 3  # the preset's, which the file says nothing of
    assert config.settings == {"a": 1, "b": 2, "c": 3}


def test_a_resolved_configuration_reads_back():
    config = load_config(preset="smoke")
    assert validate(Config, config.model_dump(mode="json")) == config


@pytest.mark.parametrize("name", sorted(presets()))
def test_presets(name):
    load_config(preset=name)


def test_it_cannot_be_changed():
    with pytest.raises(ValidationError):
        Config().seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("ronds=3", "unknown key 'ronds'. Did you mean 'rounds'?"),
        ("clients.bach=3", "unknown key 'clients.bach'. Did you mean 'clients.batch'?"),
        ("server.clip.stepps=3", "unknown key 'server.clip.stepps'. Did you mean 'server.clip.steps'?"),
        (
            "clients.image=[{arch: vit, widht: 3}]",
            "unknown key 'clients.image.0.widht'. Did you mean 'clients.image.0.width'?",
        ),
        ("rounds=-1", "rounds = -1: input should be greater than or equal to 0"),
        ("rounds=many", "rounds = 'many': input should be a valid integer"),
        ("data.partition=dirichlett", "data.partition = 'dirichlett'"),
        ("engine.name=flwr", "engine.name = 'flwr'"),
        ("clients.image=[{arch: bert}]", "'bert' is no image model, allowed: vit, beit, resnet"),
        ("clients.text=[{arch: vit}]", "'vit' is no text model, allowed: bert, distilbert, roberta"),
        ("clients.text=[{arch: bert, width: 32}]", "all clients need one representation width"),
        ("rounds", "--set 'rounds': expected key=value"),
        ("=3", "--set '=3': expected key=value"),
        ("rounds=[", "is no YAML value"),
    ],
)
def test_one_line_a_mistake(override, told):
    with pytest.raises(BadInput) as raised:
        load_config(overrides=(override,))
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_client():
    with pytest.raises(BadInput, match="there is no client"):
        load_config(overrides=("clients.image=[]", "clients.text=[]"))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(BadInput, match=r"nowhere\.yaml: No such file"):
        load_config(file=tmp_path / "nowhere.yaml")
    (tmp_path / "list.yaml").write_text("[1, 2]")
    with pytest.raises(BadInput, match="holds a list, expected keys and values"):
        load_config(file=tmp_path / "list.yaml")
    (tmp_path / "torn.yaml").write_text("a: [1")
    with pytest.raises(BadInput, match="no valid YAML"):
        load_config(file=tmp_path / "torn.yaml")
    (tmp_path / "empty.yaml").write_text("")
    assert load_config(file=tmp_path / "empty.yaml") == Config()
    with pytest.raises(BadInput, match="Did you mean 'smoke'"):
        load_config(preset="smokes")


def test_one_learner_a_client():
    clients = ClientsSettings(image=({"arch": "vit", "count": 2}, {"arch": "resnet"}), text=())
    assert [x.arch for x in clients.learners("image")] == ["vit", "vit", "resnet"]
    assert clients.learners("text") == []
    assert not hasattr(clients.learners("image")[0], "count")
    assert clients.width == clients.learners("image")[0].width
