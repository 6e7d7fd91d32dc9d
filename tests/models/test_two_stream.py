"""Two streams under a fusion head: missing kinds, fusions, sizes, and what is exported."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fedloom.config.models import ModelSettings
from fedloom.errors import BadInput
from fedloom.models.clients.build import build_client_model
from fedloom.models.clients.client_model import towers
from fedloom.models.clients.fusion_heads import FUSIONS
from fedloom.models.clients.multimodal import MultimodalClassifier, group_of

MODALITIES = ("audio", "image")
SMALL = {"arch": "audio-resnet+resnet", "hidden": 16, "width": 12}


def built(**settings) -> MultimodalClassifier:
    torch.manual_seed(0)
    found = build_client_model(ModelSettings(**{**SMALL, **settings}), classes=5, streams=MODALITIES)
    assert isinstance(found, MultimodalClassifier)
    return found


def samples(n: int = 4, frames: int = 3) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    return {
        "present": torch.ones(n, 2, dtype=torch.bool),
        "spectrogram": torch.randn(n, 1, 12, 16, generator=rng),
        "frames": torch.randn(n, frames, 3, 16, 16, generator=rng),
    }


def test_resnet_18_has_the_published_numbers_of_parameters():
    model = built(hidden=512, width=512, stages=(2, 2, 2, 2))
    counts = [sum(p.numel() for p in tower.parameters()) for tower in towers(model)]
    assert counts == [11_170_240, 11_176_512]


def test_a_clip_s_features_are_the_mean_of_its_frames():
    model, inputs = built().eval(), samples()
    h = model.features(**inputs)["image"]
    tower = model.streams["image"]
    each = torch.stack([tower.encode(pixel_values=inputs["frames"][:, m]) for m in range(3)])
    assert torch.allclose(h, each.mean(0), atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_what_is_missing_is_zeros_and_its_stream_never_sees_it(training):
    model, inputs = built().train(training), samples()
    inputs["present"][:, 1] = torch.tensor([True, False, True, False])
    poisoned = dict(inputs, frames=inputs["frames"].clone())
    poisoned["frames"][~inputs["present"][:, 1]] = float("nan")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    h = model.features(**poisoned)
    assert torch.isfinite(model(**poisoned)).all()
    assert h["image"][~inputs["present"][:, 1]].abs().max() == 0
    assert (h["image"][inputs["present"][:, 1]].abs().sum(1) > 0).all()
    assert all(torch.isfinite(v).all() for v in model.state_dict().values())
    assert training == any(not torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_stream_without_samples_keeps_its_statistics():
    model, inputs = built().train(), samples()
    inputs["present"][:, 1] = False
    before = {k: v.clone() for k, v in model.streams["image"].state_dict().items()}
    model(**inputs).sum().backward()
    assert all(torch.equal(v, before[k]) for k, v in model.streams["image"].state_dict().items())
    assert all(p.grad is None for p in model.streams["image"].parameters())


def test_one_sample_of_a_kind_in_a_training_batch_does():
    model, inputs = built().train(), samples()
    inputs["present"][1:, 1] = False
    assert torch.isfinite(model(**inputs)).all()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_fusions(fusion):
    model, inputs = built(fusion=fusion).eval(), samples()
    logits = model(**inputs)
    assert logits.shape == (4, 5)
    h = model.features(**inputs)
    assert torch.equal(logits, model.classify(torch.cat([h[k] for k in MODALITIES], 1)))
    for kind in MODALITIES:  # both kinds are read
        other = {**h, kind: h[kind] + 1}
        assert not torch.allclose(model.classify(model.joined(other, inputs["present"])), logits)
    none = torch.zeros_like(h["image"])
    assert torch.equal(model.own("audio", h["audio"]), model.fusion(h["audio"], none))
    assert torch.equal(model.own("image", h["image"]), model.fusion(none, h["image"]))


def test_groups_by_name():
    names = [name for name, _ in built().named_parameters()]
    groups = {kind: [n for n in names if group_of(n) == kind] for kind in (*MODALITIES, None)}
    assert all(n.startswith("streams.audio.") for n in groups["audio"])
    assert all(n.startswith("streams.image.") for n in groups["image"])
    assert groups[None] == ["fusion.out.weight", "fusion.out.bias"]
    assert group_of("infiltration.text.0.weight") == "text"


def test_exported_streams_and_fusion_give_the_logits(tmp_path):
    from transformers import AutoModelForImageClassification

    model, inputs = built().eval(), samples()
    logits = model(**inputs)
    model.export(tmp_path, ("a", "b", "c", "d", "e"))
    about = json.loads((tmp_path / "fusion.json").read_text())
    assert about["streams"] == list(MODALITIES)
    assert about["classes"] == ["a", "b", "c", "d", "e"]
    audio, image = (AutoModelForImageClassification.from_pretrained(tmp_path / k).eval() for k in MODALITIES)
    h = audio(inputs["spectrogram"]).logits
    frames = image(inputs["frames"].flatten(0, 1)).logits.unflatten(0, (4, 3)).mean(1)
    head = load_file(tmp_path / "fusion.safetensors")
    again = torch.cat([h, frames], 1) @ head["fusion.out.weight"].T + head["fusion.out.bias"]
    assert torch.allclose(again, logits, atol=1e-5)
    assert torch.equal(model(**inputs), logits)


def test_pictures_and_texts():
    from fedloom.models.clients.text import tokenize, train_tokenizer

    words = train_tokenizer(["a red rose", "a blue iris"], 64, 8)
    torch.manual_seed(0)
    model = build_client_model(
        ModelSettings(arch="resnet+bert", hidden=16, heads=2, layers=1, width=12),
        classes=2,
        tokenizer=words,
        streams=("image", "text"),
    )
    seen = {"frames": torch.randn(2, 1, 3, 16, 16), **tokenize(words, ["a rose", ""])}
    logits = model.eval()(present=torch.tensor([[True, True], [True, False]]), **seen)
    assert logits.shape == (2, 2)
    other = {**seen, **tokenize(words, ["a rose", "blue"])}
    again = model(present=torch.tensor([[True, True], [True, False]]), **other)
    assert torch.equal(logits, again)  # the second text is not there, whatever it says


def test_wrong_settings_are_one_line():
    from fedloom.config.trees import validate

    for key, value in (
        ("stages", []),
        ("stages", [2, 0]),
        ("fusion", "mean"),
        ("arch", "resnet+audio-resnet"),
    ):
        with pytest.raises(BadInput, match=key if key != "arch" else "audio-resnet"):
            validate(ModelSettings, {**SMALL, key: value})
    with pytest.raises(BadInput, match="halved"):
        validate(ModelSettings, {**SMALL, "hidden": 18, "stages": [1, 1, 1]})


def test_the_dump_says_nothing_of_what_is_usual():
    """Caches and random streams are named by it."""
    assert ModelSettings(arch="resnet").model_dump().keys().isdisjoint({"stages", "fusion"})
    assert ModelSettings(**SMALL, fusion="sum", stages=(1, 2, 1)).model_dump()["stages"] == (1, 2, 1)
    assert np.array_equal([t.arch for t in ModelSettings(**SMALL).towers()], ["audio-resnet", "resnet"])
