"""Published sizes: each name's configuration gives the number of parameters that is public for it."""

from __future__ import annotations

import json

import pytest
import torch

from fedloom.errors import BadInput
from fedloom.models.generators.glide.networks import UPSAMPLER, GlideTextEncoder, GlideUNet
from fedloom.planning.client_models import from_shape
from fedloom.planning.load import count
from fedloom.weights.catalogue import sources
from fedloom.weights.place import found_here
from fedloom.weights.shapes import INCEPTION, shape_of

CLASSIFIERS = {  # with the 1000 classes of ImageNet, as torchvision's and timm's tables count them
    "google/vit-base-patch32-224-in21k": 88_224_232,
    "google/vit-base-patch16-224": 86_567_656,
    "microsoft/beit-base-patch16-224": 86_530_984,
    "microsoft/resnet-18": 11_689_512,
    "efficientnet/lite0": 4_652_008,
}
WHOLE = {  # sum over AutoModel.from_pretrained(name).parameters()
    "google-bert/bert-base-uncased": 109_482_240,
    "distilbert/distilbert-base-uncased": 66_362_880,
    "FacebookAI/roberta-base": 124_645_632,
    "openai/clip-vit-base-patch32": 151_277_313,
    "sentence-transformers/all-MiniLM-L6-v2": 22_713_216,
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_picture_models(name):
    assert count(from_shape(sources()[name].shape, "image", 1000)) == CLASSIFIERS[name]


@pytest.mark.parametrize("name", WHOLE)
def test_text_models_and_clip(name):
    assert count(from_shape(sources()[name].shape, "", 0)) == WHOLE[name]


def test_captioner():
    """247 414 076 is what is usually printed; it counts the words' vectors twice, which are tied to the last layer."""
    model = from_shape(sources()["Salesforce/blip-image-captioning-base"].shape, "", 0)
    assert count(model) + 30524 * 768 == 247_414_076


def test_glide():
    """Counted from the release's own networks; see tests/models/test_glide.py."""
    with torch.device("meta"):
        base = count(GlideTextEncoder()) + count(GlideUNet())
        larger = count(GlideTextEncoder()) + count(GlideUNet(**UPSAMPLER))
    assert (base, larger) == (385_030_726, 398_361_286)


def test_inception():
    """torchvision counts 27 161 264 with 1000 classes twice; FID's network has neither, but 1008 of its own."""
    second = 3_326_696  # its second classifier: two convolutions with batch norm, and 768 to 1000
    convolutions = (768 * 128 + 2 * 128) + (128 * 768 * 25 + 2 * 768)
    assert convolutions + 769_000 == second
    trunk = 27_161_264 - second - (2048 * 1000 + 1000)
    assert sources()["fid/inception-v3"].shape.kind == INCEPTION
    assert sources()["fid/inception-v3"].shape.config["parameters"] == trunk + 2048 * 1008 + 1008


def test_a_folder_speaks_for_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLOOM_WEIGHTS", str(tmp_path))
    here = tmp_path / "microsoft" / "resnet-18"
    here.mkdir(parents=True)
    (here / "config.json").write_text(json.dumps({"model_type": "resnet", "depths": [1, 1]}))
    (here / "model.safetensors").touch()
    assert shape_of("microsoft/resnet-18").config["depths"] == [1, 1]
    assert shape_of(str(here)).kind == "resnet"
    (here / "config.json").write_text("{")
    with pytest.raises(BadInput, match=r"clients.image: .*config.json cannot be read: no JSON"):
        shape_of("microsoft/resnet-18", "clients.image")


def test_the_hubs_cache_is_here_too(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--own--tiny" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    (snapshot / "config.json").write_text('{"model_type": "vit", "hidden_size": 16}')
    assert shape_of("own/tiny").config["hidden_size"] == 16
    assert found_here("own/tiny") == snapshot
    assert found_here("own/other") is None
    assert found_here("no name at all/ nor a folder") is None


def test_names_that_are_not_known():
    with pytest.raises(BadInput, match=r"server\.clip = 'openai/clip'.* Did you mean 'openai/glide'") as error:
        shape_of("openai/clip", "server.clip")
    assert "\n" not in str(error.value)
