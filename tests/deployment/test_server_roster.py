"""Who is let take part in a run on the server host, whatever silos say."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from server_configs import config, joint_config

from fedloom.config import Config
from fedloom.deployment.server_app import with_roster
from fedloom.errors import FedloomError
from fedloom.experiment.resolve import completed
from fedloom.federation.engines.silo.envelopes import PROTOCOL
from small_silos import MODELS


def says(name: Any = "clinic", modality: Any = "text", **model: Any) -> dict[str, Any]:
    """What a silo says of itself."""
    about = {
        "name": name,
        "modality": modality,
        "model": {**MODELS.get(str(modality), MODELS["text"]), **model},
    }
    return {"silo": name, "about": about, "protocol": PROTOCOL, "version": "0.2.0"}


def names(config: Config) -> list[str]:
    return [*config.clients.names("image"), *config.clients.names("text")]


def test_a_group_of_one_for_each_silo_under_its_own_name() -> None:
    made = with_roster(config(), [says("a"), says("b", "image"), says("c", hidden=32)])
    assert (made.clients.names("image"), made.clients.names("text")) == (["b"], ["a", "c"])
    assert [learner.hidden for learner in made.clients.models("text")] == [16, 32]
    assert made.clients.batch == config().clients.batch  # how they train is the run's affair
    assert made.engine == config().engine


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        ({"silo": "x"}, "its description is None"),
        ({"silo": "x", "about": None}, "its description is None"),
        ({"silo": "x", "about": "image"}, "its description is image"),
        ({"silo": "x", "about": []}, "its description is"),
        (
            {"silo": "x", "about": {"name": "x", "modality": "smell", "model": {}}},
            "a modality and a model are needed",
        ),
        ({"silo": "x", "about": {"name": "x", "modality": ["text"], "model": {}}}, "a modality and a model"),
        (
            {"silo": "x", "about": {"name": "x", "modality": "text"}},
            "model = None, allowed: `arch` and sizes",
        ),
        ({"silo": "x", "about": {"name": "x", "modality": "text", "model": {}}}, "model.arch"),
        (says(None), "name = None, allowed: at most 128 letters"),
        (says("../../up"), "name = ../../up, allowed: at most 128 letters"),
        (says("x" * 129), "allowed: at most 128 letters"),
        (says("x", arch="gpt"), "model.arch = 'gpt'"),
        (says("x", "text", arch="vit"), "'vit' is no text model, allowed: bert, distilbert, roberta"),
        (says("x", colour="red"), r"unknown key 'model.colour'"),
        (says("x", count=10_000), "10000 clients cannot all be called"),
        (says("x", count=1_000_000), "allowed: at most 10000"),
        (says("x", hidden="many"), "model.hidden = 'many'"),
        (says("x", hidden=7), "model.hidden = 7"),
        (
            says("x", hidden=8192, layers=100),
            "model.hidden = 8192, model.layers = 100: about 8.1e+10 weights",
        ),
        (says("x", layers=500_000, hidden=8), "model.layers = 500000, blocks in model.stages = 3, allowed: 512"),
        (says("x", rank=10**9, tune="lora"), "model.rank = 1000000000: about 1.6e+10 weights"),
        (says("x", width=10**9), "model.width = 1000000000: about 1.6e+10 weights"),
        (says("x", "image", arch="resnet", stages=[10**6]), "blocks in model.stages = 1000000, allowed: 512"),
        (says("clinic"), "another silo is named 'clinic'"),
        (says("x", width=32), "model.width = 32, allowed: 16, as the others'"),
        ({"about": {}}, "silo 'None' is left out"),
        ({"silo": {"a": ["b"]}, "about": 3}, "silo"),
    ],
)
def test_a_silo_that_says_what_no_client_can_be_is_left_out(
    odd: dict[str, Any], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    made = with_roster(config(silos=2), [says("clinic"), says("other"), odd])
    assert names(made) == ["clinic", "other"]
    assert len(caplog.messages) == 1
    assert told in caplog.messages[0]
    with pytest.raises(FedloomError, match=r"2 of 3 silos can take part: silo .* is left out: ") as error:
        with_roster(config(silos=3), [says("clinic"), says("other"), odd])
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["silo", "name", "modality", "arch", "about"])
def test_a_flood_of_words_stays_a_line(key: str, caplog: pytest.LogCaptureFixture) -> None:
    flood = "wide\n" * 1_000_000
    said = says("x", arch=flood) if key == "arch" else says("x")
    if key in ("silo", "about"):
        said = {**said, key: flood}
    elif key != "arch":
        said["about"][key] = flood
    made = with_roster(config(), [says("clinic"), said])
    assert "clinic" in names(made)
    assert all(len(line) < 800 and "\n" not in line for line in caplog.messages)
    assert len(made.model_dump_json()) < 10_000


def test_silos_of_pairs_beside_the_others() -> None:
    said = [says("a", "image"), says("b", "pair"), says("c", "pair", pretrained="(at the silo)+")]
    made = with_roster(config(method="fedafd"), said, side=12)
    assert (made.clients.names("image"), made.clients.names("pair")) == (["a"], ["b", "c"])
    assert [learner.pretrained for learner in made.clients.models("pair")] == [None, "(at the silo)+"]
    assert made.clients.text == ()
    assert made.clients.models("image")[0].unit  # the method demands it, whatever the silo says
    assert completed(made)[0].clients == made.clients


@pytest.mark.parametrize(
    ("odd", "method", "told"),
    [
        (says("x", "pair"), "fedmmkt", "modality = 'pair': fedmmkt has no part for image-text clients"),
        (says("x", "pair", arch="vit"), "fedafd", "'vit' is no pair model, allowed: vit+bert"),
        (says("x", "image", arch="vit+bert"), "fedafd", "'vit+bert' is no image model"),
        (says("x", "pair", patch=5), "fedafd", "model.patch = 5 does not divide the side of the run's"),
        (says("x", "pair", arch="resnet+bert", hidden=8192, layers=100), "fedafd", "about 8.1e+10 weights"),
        (says("x", "pair", pretrained="one"), "fedafd", "'(at the silo)', expected 'IMAGE+TEXT'"),
        (says("x", "pair", pretrained="+" * 1_000_000), "fedafd", "expected 'IMAGE+TEXT'"),
        (says("x", "text", arch="pair", patch=6), "fedafd", "pair: unit = True"),
    ],
)
def test_a_silo_of_pairs_that_cannot_be(
    odd: dict[str, Any], method: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    made = with_roster(config(method=method), [says("clinic"), odd], side=12)
    assert (names(made), made.clients.pair) == (["clinic"], ())
    assert len(caplog.messages) == 1
    assert told in caplog.messages[0]
    assert len(caplog.messages[0]) < 800


SILENT = {
    **says("x", "joint"),
    "about": {"name": "x", "modality": "joint", "model": None},
}  # takes the run's model


def test_joint_silos_take_the_runs_model() -> None:
    said = [says("a", "joint"), SILENT, says("c", "joint")]
    made = with_roster(joint_config(), said, side=12)
    assert made.clients.names("joint") == ["a", "x", "c"]
    assert (made.clients.image, made.clients.text) == ((), ())
    assert made.clients.models("joint") == joint_config().clients.models("joint") * 3
    # Weights to start from: the server's own path stays here, each silo has its own copy.
    heavy = joint_config(pretrained="/server/ears+")
    made = with_roster(heavy, [says("a", "joint", pretrained="/elsewhere+")], side=12)
    assert made.clients.models("joint")[0].pretrained == "/server/ears+"


@pytest.mark.parametrize(
    ("odd", "run", "told"),
    [
        (
            says("x", "joint", hidden=32),
            {},
            "model.hidden = 32, allowed: 16, as of all the run's multimodal clients",
        ),
        (says("x", "joint", arch="vit"), {}, "model.arch = 'vit', allowed: 'audio-resnet+resnet'"),
        (says("x", "joint", arch=["vit"]), {}, "model.arch = "),
        (says("x", "joint", pretrained="a+"), {}, "model.pretrained = '(at the silo)+', allowed: None"),
        (SILENT, {"pretrained": "/server/ears+"}, "start from weights: name them in model.pretrained"),
        (
            {**SILENT, "about": {**SILENT["about"], "model": "vit"}},
            {},
            "model = vit, allowed: `arch` and sizes",
        ),
        (says("x", "image"), {}, "modality = 'image': fedcmi is for multimodal clients only"),
        (says("x", "pair"), {}, "modality = 'pair': fedcmi is for multimodal clients only"),
    ],
)
def test_a_silo_that_does_not_fit_joint_ones(
    odd: dict[str, Any], run: dict[str, Any], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    fits = says("ward", "joint", **run)
    made = with_roster(joint_config(**run), [fits, odd], side=12)
    assert made.clients.names("joint") == ["ward"]
    assert len(caplog.messages) == 1
    assert told in caplog.messages[0]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (config(method="fedavg"), "the run names no model for multimodal clients; set clients.joint"),
        (
            config("clients.joint=[{arch: audio-resnet+resnet, width: 16}]", method="fedmmkt"),
            "modality = 'joint': fedmmkt has no part for multimodal clients",
        ),
    ],
)
def test_a_run_without_a_part_for_joint_silos(given: Config, told: str) -> None:
    with pytest.raises(FedloomError) as error:
        with_roster(given, [SILENT], side=12)
    assert str(error.value).endswith(told)


def test_where_a_silos_weights_lie_means_nothing_here() -> None:
    """A path, or a name on a hub, of a silo's choice is never looked up on the server."""
    for word in ("/etc", "evil/model", "x" * 1_000_000, 7):
        made = with_roster(config(), [says(pretrained=word, hidden=8192, layers=100)])
        assert made.clients.models("text")[0].pretrained == "(at the silo)"
    for nothing in (None, "", False):
        assert with_roster(config(), [says(pretrained=nothing)]).clients.models("text")[0].pretrained is None


def test_most_silos_decide_on_the_width_and_the_run_when_it_is_even() -> None:
    wide = [says(name, width=32) for name in "abc"]
    assert names(with_roster(config(), [says("x"), *wide])) == ["a", "b", "c"]
    assert names(with_roster(config(), [*wide[:1], says("x")])) == ["x"]  # the preset's clients have width 16


def test_nobody_there_can_take_part() -> None:
    with pytest.raises(FedloomError, match="0 of 1 silos can take part: silo 'x' is left out: its description is None"):
        with_roster(config(), [{"silo": "x"}])
    with pytest.raises(FedloomError, match="0 of 1 silos can take part: no more joined"):
        with_roster(config(), [])
