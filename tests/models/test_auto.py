"""`arch: auto`: any model that transformers' Auto classes load; and architectures that others add."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file

from fedloom.config import ClientGroup, ClientsSettings, ServerSettings
from fedloom.config.archs import archs, spec_of
from fedloom.config.models import ModelSettings
from fedloom.config.silo import SiloSettings
from fedloom.errors import BadInput
from fedloom.models.clients.adapters import blocks
from fedloom.models.clients.build import build_client_model
from fedloom.models.clients.text import tokenize
from fedloom.models.pictures import to_float
from fedloom.registry import CLIENT_MODELS

NAMES = ("iris", "rose", "tulip")
TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
SEEN = {"image_size": 12, "patch_size": 6}


def saved(model, folder):
    torch.manual_seed(0)
    model.save_pretrained(folder)
    return str(folder)


def mobile(folder):
    sizes = {"hidden_sizes": [8, 16], "depths": [1, 1], "embedding_size": 8}
    return saved(hf.RegNetForImageClassification(hf.RegNetConfig(**sizes, groups_width=4)), folder)


def clip_vision(folder):
    return saved(hf.CLIPVisionModel(hf.CLIPVisionConfig(**TINY, **SEEN)), folder)


def dino(folder):
    return saved(hf.Dinov2Model(hf.Dinov2Config(**{k: TINY[k] for k in list(TINY)[:3]}, **SEEN)), folder)


def electra(folder, tokenizer):
    config = hf.ElectraConfig(vocab_size=len(tokenizer), embedding_size=16, **TINY)
    return saved(hf.ElectraForSequenceClassification(config), folder)


def clip_text(folder, tokenizer):
    config = hf.CLIPTextConfig(vocab_size=len(tokenizer), **TINY, eos_token_id=tokenizer.sep_token_id)
    return saved(hf.CLIPTextModel(config), folder)


def built(arch, source, tokenizer=None, **more):
    torch.manual_seed(1)
    settings = ModelSettings(arch=arch, pretrained=source, width=10, **more)
    return build_client_model(settings, classes=3, image_size=12, tokenizer=tokenizer).eval()


@pytest.mark.parametrize("make", [mobile, dino])
def test_image_classifiers(make, pictures, tmp_path):
    model, pixels = built("auto-image", make(tmp_path / "a")), to_float(pictures)
    with torch.no_grad():
        logits = model(pixel_values=pixels)
        model.export(tmp_path / "out", NAMES)
        stock = hf.AutoModelForImageClassification.from_pretrained(tmp_path / "out").eval()
        assert torch.allclose(stock(pixel_values=model.preprocessor(pixels)).logits, logits, atol=1e-5)
    assert stock.config.id2label == dict(enumerate(NAMES))


def test_text_classifiers(tokenizer, tmp_path):
    model = built("auto-text", electra(tmp_path / "a", tokenizer), tokenizer, tune="lora")
    rows = tokenize(tokenizer, ["a red flower", "iris"])
    with torch.no_grad():
        logits = model(**rows)
        model.export(tmp_path / "out", NAMES)
        stock = hf.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
        assert torch.allclose(stock(**rows).logits, logits, atol=1e-5)


def test_a_model_without_a_classifier_is_pooled(tokenizer, pictures, tmp_path):
    """Exported beside its classifier, from which the same logits come."""
    rows = tokenize(tokenizer, ["a red flower", "iris"])
    vision = clip_vision(tmp_path / "v")
    for arch, source, inputs in (
        ("auto-text", clip_text(tmp_path / "t", tokenizer), rows),
        ("auto-image", vision, {"pixel_values": to_float(pictures)}),
    ):
        model = built(arch, source, tokenizer)
        with torch.no_grad():
            logits = model(**inputs)
            model.export(tmp_path / arch, NAMES)
            base, head = (
                hf.AutoModel.from_pretrained(tmp_path / arch).eval(),
                load_file(tmp_path / arch / "head.safetensors"),
            )
            pooled = base(**inputs).pooler_output
        assert torch.allclose(pooled @ head["weight"].T + head["bias"], logits, atol=1e-5)
    assert len(blocks(model)) == 1


def test_a_sentence_transformer_is_the_mean_of_its_tokens(tokenizer, tmp_path):
    """Also where it has a pooled output; the folder that is exported says so again."""
    torch.manual_seed(0)
    sizes = {"vocab_size": len(tokenizer), "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    base = hf.BertModel(hf.BertConfig(hidden_size=16, **sizes)).eval()
    base.save_pretrained(tmp_path / "a")
    tokenizer.save_pretrained(tmp_path / "a")
    rows = tokenize(tokenizer, ["a red flower", "iris"])
    plain = built("auto-text", str(tmp_path / "a"), tokenizer, tune="head")
    (tmp_path / "a" / "1_Pooling").mkdir()
    modes = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    (tmp_path / "a" / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    model = built("auto-text", str(tmp_path / "a"), tokenizer, tune="head")
    with torch.no_grad():
        h, mask = base(**rows).last_hidden_state, rows["attention_mask"][..., None]
        mean = (h * mask).sum(1) / mask.sum(1)
        assert torch.allclose(model.frozen_features(**rows), mean, atol=1e-6)
        assert not torch.allclose(plain.frozen_features(**rows), mean, atol=1e-2)
        model.export(tmp_path / "out", NAMES)
    again = built("auto-text", str(tmp_path / "out"), tokenizer, tune="head")
    assert torch.allclose(again.frozen_features(**rows), mean, atol=1e-6)


@pytest.mark.parametrize(
    ("arch", "make", "said"),
    [
        ("auto-text", lambda f, t: mobile(f), "holds a regnet.*|a regnet reads no texts"),
        ("auto-image", electra, "a electra reads no images"),
        ("auto-image", lambda f, t: str(f / "nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_read_is_one_line(arch, make, said, tokenizer, tmp_path):
    with pytest.raises(BadInput, match=said) as caught:
        built(arch, make(tmp_path / "a", tokenizer), tokenizer)
    assert "\n" not in str(caught.value)
    assert arch in str(caught.value)


def test_two_classifiers_are_refused(tmp_path):
    config = hf.DeiTConfig(**TINY, **SEEN)
    folder = saved(hf.DeiTForImageClassificationWithTeacher(config), tmp_path / "a")
    with pytest.raises(BadInput, match="ends in 2 linear layers of 3 classes, expected 1"):
        built("auto-image", folder)
    assert built("deit", folder).backbone.classifier  # as a DeiT, it is read with one of them


def test_auto_stands_for_what_the_task_reads():
    source = {"arch": "auto", "pretrained": "x"}
    both = {"arch": "auto+auto", "pretrained": "x+y"}
    clients = ClientsSettings.model_validate({"image": [source], "text": [source], "pair": [both]})
    assert [g.arch for g in clients.groups] == ["auto-image", "auto-text", "auto-image+auto-text"]
    assert ServerSettings.model_validate({"text": source}).text.arch == "auto-text"
    assert SiloSettings.model_validate({"name": "a", "modality": "image", "model": source}).model.arch == "auto-image"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"arch": "auto", "pretrained": "x"}, "say auto-image or auto-text"),
        ({"arch": "auto-image"}, "auto-image needs `pretrained`: a folder or hub name"),
        ({"arch": "convnext", "tune": "lora"}, "convnext: tune = 'lora', allowed: all, bias, adapters, head"),
        ({"arch": "swin", "hidden": 17}, "swin: hidden = 17 cannot be halved"),
        ({"arch": "deit", "heads": 5}, "5 heads do not divide the width 64"),
    ],
)
def test_settings_that_cannot_be(settings, said):
    with pytest.raises(ValueError, match=said):
        ModelSettings(**settings)


def test_small_pictures_for_convnext():
    with pytest.raises(BadInput, match="convnext: 3 stages need images of 16 pixels or more, not 12"):
        build_client_model(ModelSettings(arch="convnext"), classes=3, image_size=12)


@pytest.mark.parametrize("arch", ["deit", "swin", "convnext", "albert"])
@pytest.mark.parametrize("tune", ["lora", "bias", "adapters", "head"])
def test_what_is_tuned_of_the_newer_ones(arch, tune, tokenizer, pictures):
    if arch == "convnext" and tune == "lora":
        return
    torch.manual_seed(0)
    settings = ModelSettings(arch=arch, hidden=16, layers=2, heads=2, patch=6, width=10, tune=tune, stages=(1, 1))
    model = build_client_model(settings, classes=3, image_size=12, tokenizer=tokenizer)
    inputs = tokenize(tokenizer, ["iris"]) if arch == "albert" else {"pixel_values": to_float(pictures)}
    model(**inputs).sum().backward()
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {name for name, p in model.named_parameters() if p.grad is not None}
    assert 0 < len(trained) < len(list(model.parameters()))


# ------------------------------------------------------------------------------------------------ of others

OWN = """
import torch
from fedloom.tasks import Modality
from fedloom.models.clients.spec import ClientModelSpec
from types import SimpleNamespace

class Net(torch.nn.Module):
    def __init__(self, hidden, classes):
        super().__init__()
        self.body = torch.nn.Linear(3, hidden)
        self.classifier = torch.nn.Linear(hidden, classes)

    def forward(self, pixel_values):
        return SimpleNamespace(logits=self.classifier(self.body(pixel_values.mean((2, 3))).relu()))

SPEC = ClientModelSpec(
    name="means", modality=Modality.IMAGE, backbone=lambda s, data: Net(s.hidden, data.classes), tune=("all", "head")
)
"""


def test_an_architecture_in_a_file_of_ones_own(pictures, tmp_path, monkeypatch):
    (tmp_path / "my_means.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    settings = ModelSettings(arch="my_means:SPEC", hidden=8, width=10)
    model = build_client_model(settings, classes=3)
    with torch.no_grad():
        assert model(pixel_values=to_float(pictures)).shape == (len(pictures), 3)
    model.export(tmp_path / "out", NAMES)
    assert load_file(tmp_path / "out" / "model.safetensors")["classifier.weight"].shape == (3, 8)
    assert ClientsSettings(image=(ClientGroup(arch="my_means:SPEC"),), text=()).groups[0].arch == "my_means:SPEC"
    with pytest.raises(ValueError, match="my_means:SPEC: tune = 'lora', allowed: all, head"):
        ModelSettings(arch="my_means:SPEC", tune="lora")
    sys.modules.pop("my_means")


def test_a_registered_architecture(tmp_path, monkeypatch):
    (tmp_path / "our_means.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    spec = spec_of("our_means:SPEC")
    monkeypatch.setattr(CLIENT_MODELS, "_registered", {"means": spec})
    assert "means" in archs("image")
    assert ModelSettings(arch="means").arch == "our_means:SPEC"  # what other processes find it by
    sys.modules.pop("our_means")


def test_the_right_pixels_reach_a_model_without_a_preprocessor(tmp_path):
    model = built("auto-image", mobile(tmp_path / "a"))
    assert (model.preprocessor.side, model.preprocessor.resized) == (12, 12)
    assert np.allclose(model.preprocessor(torch.ones(1, 3, 12, 12)).numpy(), 1)
