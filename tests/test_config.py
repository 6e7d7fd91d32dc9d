"""The configuration: what overrides what, and the one line that a mistake gives."""

from __future__ import annotations

import math

import pytest
from pydantic import BaseModel, ValidationError

from fedloom.config import ClientsSettings, Config, load_config, presets
from fedloom.config.base import Frozen
from fedloom.config.trees import validate
from fedloom.errors import BadInput
from fedloom.registry import METHODS


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
        ("rounds=-1", "rounds = -1: allowed: 0 or more"),
        ("rounds=many", "rounds = 'many': expected an integer"),
        ("rounds=2.5", "rounds = 2.5: expected an integer"),
        ("rounds={a: 1}", "rounds = {'a': 1}: expected an integer"),
        ("rounds=[1]", "rounds = [1]: expected an integer"),
        ("method=[a]", "method = ['a']: expected text"),
        ("data.partition=dirichlett", "data.partition = 'dirichlett'"),
        ("engine.name=flwr", "engine.name = 'flwr'"),
        ("clients.image=[{arch: bert}]", "'bert' is no image model, allowed: vit, beit, resnet"),
        ("clients.text=[{arch: vit}]", "'vit' is no text model, allowed: bert, distilbert, roberta"),
        ("clients.text=[{arch: bert, width: 32}]", "representations need one `width` for all clients, given: "),
        ("evaluation.fold=1", "evaluation.fold = 1: allowed: 2 or more"),
        ("server.public_steps=-1", "server.public_steps = -1: allowed: 0 or more"),
        (
            "server.public_steps=5",
            "server.public_steps = 5 is for clients that start from random weights; "
            "allowed with it: clients.public_steps = 0, not 500",
        ),
        ("server.image={arch: vitt}", "server.image.arch = 'vitt': allowed: vit, beit, resnet"),
        (
            "server.text={arch: bert, widht: 3}",
            "unknown key 'server.text.widht'. Did you mean 'server.text.width'?",
        ),
        (
            "clients.optimizer=adam",
            "clients.optimizer = 'adam': allowed: 'adamw' or 'sgd'. Did you mean 'adamw'?",
        ),
        ("engine.name=flowr", "engine.name = 'flowr': allowed: 'local' or 'flower'. Did you mean 'flower'?"),
        ("clients.momentum=1", "clients.momentum = 1: allowed: below 1"),
        ("clients.momentum=-0.1", "clients.momentum = -0.1: allowed: 0 or more"),
        ("clients.clip=0", "clients.clip = 0: allowed: above 0"),
        ("clients.clip=none", "clients.clip = 'none': expected a number"),
        ("seed=9007199254740992", "seed = 9007199254740992: allowed: below 9007199254740992"),
        ("server.seed=9007199254740992", "server.seed = 9007199254740992: allowed: below 9007199254740992"),
        ("clients.rate=.inf", "clients.rate = inf: expected a finite number"),
        ("clients.text=[{arch: bert, decay: 1e999}]", "clients.text.0.decay = inf: expected a finite number"),
        ("data.alpha=-.inf", "data.alpha = -inf: expected a finite number"),
        ("evaluation.gates.judge=.nan", "evaluation.gates.judge = nan: expected a finite number"),
        ("engine.timeout=.inf", "engine.timeout = inf: expected a finite number"),
        ("data.multi_ratio=1.5", "data.multi_ratio = 1.5: allowed: at most 1"),
        (
            "data.corruption.wrong_labels=0.2",
            "unknown key 'data.corruption.wrong_labels'. Did you mean 'data.corruption.wrong_label'?",
        ),
        (
            "data.corruption.missing_label=2",
            "data.corruption.missing_label = 2: allowed: at most 1",
        ),
        (
            "clients.joint=[{arch: resnet+audio-resnet}]",
            "clients.joint.0.arch = 'resnet+audio-resnet': allowed:",
        ),
        ("clients.joint=[{arch: resnet}]", "'resnet' is no joint model, allowed: audio-resnet+vit"),
        (
            "clients.joint=[{arch: audio-resnet+resnet, fusion: add}]",
            "clients.joint.0.fusion = 'add': allowed: 'concat'",
        ),
        ("clients.joint=[{arch: audio-resnet+resnet, stages: [1, 0]}]", "a stage has one block or more"),
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


JOINT = {"arch": "audio-resnet+resnet", "hidden": 32, "width": 64}


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        (
            [JOINT, JOINT | {"hidden": 64}],
            "multimodal clients need one model, 2 given: what they share are parameters",
        ),
        ([JOINT, JOINT | {"fusion": "film"}], "multimodal clients need one model, 2 given"),
        (
            [JOINT | {"unit": True}],
            "joint: unit = True: fusion heads read features as they are, allowed: False",
        ),
        ([JOINT | {"width": 32}], "representations need one `width` for all clients, given: "),
    ],
)
def test_joint_clients_that_could_not_share_parameters(groups, said):
    with pytest.raises(BadInput) as raised:
        load_config(values={"clients": {"joint": groups}})
    assert said in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_groups_of_joint_clients_may_differ_in_names_and_numbers():
    groups = [JOINT | {"name": "ward"}, JOINT | {"count": 2}]
    config = load_config(values={"clients": {"image": [], "text": [], "joint": groups}})
    assert config.clients.names("joint") == ["ward", "joint-1", "joint-2"]
    assert {x.arch for x in config.clients.models("joint")} == {"audio-resnet+resnet"}
    assert validate(Config, config.model_dump(mode="json")) == config


def test_optimiser():
    config = load_config(overrides=("clients.optimizer=sgd", "clients.momentum=0", "clients.clip=null"))
    assert (config.clients.optimizer, config.clients.momentum, config.clients.clip) == ("sgd", 0, None)
    assert (Config().clients.optimizer, Config().clients.clip) == ("adamw", 1.0)


def settings_classes(kind=Frozen):
    """All classes of settings, those of methods too."""
    for one in kind.__subclasses__():
        yield one
        yield from settings_classes(one)


def test_no_class_of_settings_takes_infinities():
    for name in METHODS.names():
        METHODS.find(name)
    found = list(settings_classes())
    assert len(found) > 30
    assert [kind for kind in found if kind.model_config.get("allow_inf_nan") is not False] == []
    settings = METHODS.find("fedmmkt").settings
    for value, said in ((math.nan, "nan"), (math.inf, "inf")):
        with pytest.raises(BadInput, match=f"^settings.gamma = {said}: expected a finite number$"):
            validate(settings, {"gamma": value}, "settings")


def test_the_largest_seed():
    config = load_config(overrides=(f"seed={2**53 - 1}", f"server.seed={2**53 - 1}"))
    assert config.seed == config.server.seed == 2**53 - 1


def kinds(model, path=""):
    """Every group of settings with its default, by its key."""
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            yield f"{path}{name}", field.default
            yield from kinds(type(field.default), f"{path}{name}.")


@pytest.mark.parametrize(("key", "default"), kinds(Config))
def test_what_is_said_of_a_group_changes_nothing_else_in_it(key, default):
    """A group that is said in part is made anew: what it does not say must be what the whole default says."""
    assert default == type(default)()
    if key == "server.clip":
        said = load_config(overrides=("server.clip.steps=5",)).server.clip
        assert said == default.model_copy(update={"steps": 5})


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
    with pytest.raises(BadInput, match=r"torn\.yaml, line .*not YAML"):
        load_config(file=tmp_path / "torn.yaml")
    (tmp_path / "empty.yaml").write_text("")
    assert load_config(file=tmp_path / "empty.yaml") == Config()
    with pytest.raises(BadInput, match="Did you mean 'smoke'"):
        load_config(preset="smokes")


def test_one_learner_a_client():
    clients = ClientsSettings(image=({"arch": "vit", "count": 2}, {"arch": "resnet"}), text=())
    assert [x.arch for x in clients.models("image")] == ["vit", "vit", "resnet"]
    assert clients.models("text") == []
    assert not hasattr(clients.models("image")[0], "count")
    assert clients.width == clients.models("image")[0].width


def test_public_steps_are_of_everybody_or_of_the_server_alone():
    own = {"public_steps": 7, "image": {"arch": "vit"}, "text": {"arch": "bert"}}
    config = load_config(values={"clients": {"public_steps": 0}, "server": own})
    assert (config.clients.public_steps, config.server.public_steps, config.public_steps) == (0, 7, 7)
    assert Config().public_steps == Config().clients.public_steps == 500
    assert load_config(overrides=("clients.public_steps=0",)).public_steps == 0


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ({"public_steps": 7, "image": {"arch": "vit"}}, "needs both server.image and server.text"),
        ({"image": {"arch": "bert"}}, "'bert' is no image model"),
        ({"text": {"arch": "resnet+gru"}}, "'resnet.gru' is no text model"),
        ({"image": {"arch": "vit", "width": 32}}, "server.image.width = 32, allowed: 64"),
    ],
)
def test_a_server_that_does_not_fit_is_refused(server, said):
    with pytest.raises(BadInput, match=said):
        load_config(values={"clients": {"public_steps": 0}, "server": server})


def test_the_servers_own_models_and_folds():
    values = {"server": {"image": {"arch": "vit"}, "text": {"arch": "bert"}}, "evaluation": {"fold": 2}}
    config = load_config(values=values)
    assert (config.server.image.arch, config.server.text.arch, config.evaluation.fold) == ("vit", "bert", 2)
    assert validate(Config, config.model_dump(mode="json")) == config
    assert (Config().server.image, Config().server.text, Config().evaluation.fold) == (None, None, None)
