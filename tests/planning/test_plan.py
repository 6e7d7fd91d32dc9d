"""A plan beside the models that its run builds; and that it needs neither data, weights nor a network."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import fedloom
from fedloom.config import load_config
from fedloom.errors import BadInput
from fedloom.experiment.datasets import cached_dataset
from fedloom.experiment.pretraining import load_tokenizer
from fedloom.experiment.pretraining.builders import tokenizer_folder
from fedloom.methods.catalogue import CATALOGUE
from fedloom.models.clients.build import build_client_model
from fedloom.models.evaluators.captioner import build_captioner
from fedloom.models.evaluators.clip import build_clip
from fedloom.models.evaluators.judge import Judge
from fedloom.models.generators.pixel import build_generator
from fedloom.planning.load import Load, count
from fedloom.planning.work import scorings

VIT = "google/vit-base-patch32-224-in21k"
PRESETS = {
    **dict.fromkeys(("fedcmi", "scaffold", "ogm-ge", "pmr", "fedmsplit"), "fedcmi"),
    "u-fedmmkt": "smoke,mix/images",
}


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    """A machine without weights, where nothing may be read from a hub."""
    monkeypatch.setenv("FEDLOOM_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


def test_an_embedded_run_is_planned_as_it_is_built():
    config = load_config(preset="smoke")
    scene = cached_dataset(config.data)
    words = load_tokenizer(tokenizer_folder(config, scene))
    # A plan counts the vocabulary as full, which it is only where it may have no more words than there are.
    config = load_config(preset="smoke", overrides=[f"server.vocabulary={len(words)}"])
    words, s = load_tokenizer(tokenizer_folder(config, scene)), config.server
    side = scene.public.images.shape[1]
    clip = build_clip(s.clip, words, side)
    generator = build_generator(s.generator, clip, side, config.clients.width)
    judge = Judge(config.evaluation.judge, scene.classes)
    built = Counter(
        {
            "generator: UNet": count(generator.unet),
            "generator: text encoder": count(generator.text_encoder),
            "generator: W_r": count(generator.bridge),
            "captioner": count(build_captioner(s.captioner, words, side).model),
            "CLIP": count(clip.model),
            "judge": count(judge),
        }
    )
    for modality in ("image", "text"):
        for own in config.clients.models(modality):
            learner = build_client_model(own, classes=scene.classes, image_size=side, tokenizer=words)
            built[f"{modality} client"] += count(learner)
    planned = Counter()
    for line in fedloom.plan(config).models:
        planned[line.role] += line.count * line.parameters
    assert planned == built


# One that tunes the generator, one without, one of image-text and one of multimodal clients; all by `make conformance`.
FEW = ("fedmmkt", "fedavg", "fedafd", "fedcmi")


@pytest.mark.parametrize(
    "method", [pytest.param(m, marks=() if m in FEW else pytest.mark.conformance) for m in sorted(CATALOGUE)]
)
def test_every_method_has_a_plan(method, no_weights):
    preset = PRESETS.get(method, "smoke")
    overrides = (
        ["clients.image=[{arch: vit, hidden: 16, layers: 1, heads: 2, patch: 6, width: 16}]"]
        if method == "u-fedmmkt"
        else []
    )
    plan = fedloom.plan(preset=preset, overrides=overrides, method=method)
    assert plan.clients == sum(m.count for m in plan.models if m.role.endswith("client"))
    assert plan.seconds is not None
    assert plan.seconds > 0
    assert (plan.bytes_up is None) == (plan.formula is None)
    assert json.loads(json.dumps(plan.to_dict()))["devices"][0]["total"] == plan.devices[0].total


def test_real_sizes_without_weights(no_weights):
    plan = fedloom.plan(
        preset="smoke,mix/images",
        overrides=[f"clients.image=[{{arch: vit, pretrained: {VIT}, width: 768}}]", "clients.devices=[cuda]"],
        on="H200",
    )
    (client, *_) = plan.models
    assert client.parameters == 88_224_232 - 769_000 + 769 * 10  # as published, with the ten classes of flora
    assert (client.source, client.here, client.kind) == (VIT, False, "ViTForImageClassification")
    assert plan.missing == (VIT,)
    assert plan.rates["cuda fp32"] == (67e12, "H200's data sheet, fp32")
    assert not no_weights.exists()


def test_a_folder_is_planned_by_its_configuration_alone(no_weights):
    here = no_weights / VIT
    here.mkdir(parents=True)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = {"model_type": "vit", "image_size": 12, "patch_size": 6, **sizes}
    (here / "config.json").write_text(json.dumps(config))
    (here / "model.safetensors").touch()
    plan = fedloom.plan(
        preset="smoke,mix/images",
        overrides=[f"clients.image=[{{arch: vit, pretrained: {VIT}, width: 16}}]"],
    )
    assert plan.models[0].here is True
    assert plan.models[0].parameters < 10_000
    assert plan.missing == ()


def test_a_cuda_that_is_not_here_has_no_time():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    plan = fedloom.plan(preset="smoke", overrides=["server.device=cuda"])
    assert plan.seconds is None
    assert {d.device for d in plan.devices} == {"cuda", "cpu"}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["clients.image=[{arch: beit, pretrained: " + VIT + ", width: 16}]"], "holds a vit, not a beit"),
        (["server.clip.pretrained=openai/clip-vit-base"], "server.clip = .* Did you mean"),
        (["server.clip.pretrained=microsoft/resnet-18"], "holds a resnet, allowed: clip"),
        (["evaluation.features=openai/glide"], "holds a glide, allowed: inception"),
        (["data.name=flower"], "unknown data set 'flower'. Did you mean"),
        (["data.options.sizes=3"], "no option 'sizes'"),
    ],
)
def test_what_cannot_be_is_one_line(overrides, said, no_weights, monkeypatch):
    monkeypatch.setattr("fedloom.planning.client_models.measured", lambda *given: Load())  # of the others
    with pytest.raises(BadInput, match=said) as error:
        fedloom.plan(preset="smoke,mix/images", overrides=overrides)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["evaluation.metrics=[nowhere:METRIC]"], "metric 'nowhere:METRIC' cannot be imported"),
        (["evaluation.metrics=[json:dumps]"], "is a function, expected a Metric"),
        (["data.options.flowers=1"], "data set 'flora' has no option 'flowers'"),
        (["data.options.images=-3"], "flora: images=-3, allowed: at least 10"),
        (["data.options.confusion=3"], "confusion=3.0, allowed: 0 to 1"),
        (["data.name=digits", "data.options.test=15", "clients.text=[]"], "digits: test=15, allowed: a multiple of 10"),
        (["preset", "data.options.classes=5"], "flora-102: classes=5, allowed: 10 to 102"),
        (["data.name=folder", "data.root=.", "data.options.on_bad=drop"], "on_bad='drop', allowed: 'error'"),
        (["data.name=duet", "data.options.skew=2", "method=fedcmi"], "duet: skew=2.0, allowed: 0 to 1"),
    ],
)
def test_refused_as_the_run_would_be(overrides, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("images_train").mkdir()
    given = {"preset": "flora-102"} if "preset" in overrides else {}
    given["overrides"] = [text for text in overrides if text != "preset"]
    lines = []
    for begin in (fedloom.plan, fedloom.run):
        with pytest.raises(BadInput) as error:
            begin(**given)
        lines.append(str(error.value))
    assert said in lines[0]
    assert lines[0] == lines[1]
    assert [path.name for path in tmp_path.iterdir()] == ["images_train"]


def test_rounds_that_are_scored():
    for rounds in range(9):
        for every in range(1, 11):
            scored = {t for t in range(rounds + 1) if t % every == 0 or t in (0, rounds)}
            assert scorings(rounds, every) == len(scored), (rounds, every)
    assert scorings(10**30, 3) == 10**30 // 3 + 2  # not counted one by one


def test_a_share_is_a_share():
    with pytest.raises(BadInput, match=r"share = 1.5, allowed: above 0, up to 1"):
        fedloom.plan(preset="smoke", share=1.5)


def test_at_a_glance():
    found = fedloom.plan(preset="smoke")
    lines = str(found).splitlines()
    assert lines[0] == "fedmmkt on flora, 4 clients, 2 rounds. Nothing is started."
    assert {line.split()[0] for line in lines[1:]} == {"models", "memory", "wire", "work", "time", "disk"}
    assert repr(found).startswith("<Plan fedmmkt on flora, 4 clients, 2 rounds: ")
    html = replace(found, notes=("a <b>",), formula=None, bytes_up=None)._repr_html_()
    assert "a &lt;b&gt;" in html
    assert "no paper gives a formula" in html
