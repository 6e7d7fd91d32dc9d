"""Random weights in published architectures: the folders load as those of a hub do. And the drawn flowers."""

from __future__ import annotations

from pathlib import Path

import made_flowers102
import numpy as np
import pytest
import random_weights
import torch

from fedloom.config.models import ModelSettings
from fedloom.data.datasets import flowers102
from fedloom.models.clients.build import build_client_model
from fedloom.models.clients.preprocessing import read_preprocessor
from fedloom.models.evaluators.captioner import load_captioner
from fedloom.models.evaluators.clip import load_clip
from fedloom.models.generators.families import family_of

IMAGE = {
    "google/vit-base-patch32-224-in21k": "vit",
    "google/vit-base-patch16-224": "vit",
    "microsoft/beit-base-patch16-224": "beit",
    "microsoft/resnet-18": "resnet",
}
TEXT = {
    "google-bert/bert-base-uncased": "bert",
    "distilbert/distilbert-base-uncased": "distilbert",
    "FacebookAI/roberta-base": "roberta",
}
PICTURES = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", IMAGE)
def test_image_models_load_by_their_hub_name(weights: Path, name: str) -> None:
    side = random_weights.SIDE
    learner = build_client_model(ModelSettings(arch=IMAGE[name], pretrained=name, width=16), classes=3)
    assert read_preprocessor(weights / name, 0).side == side
    assert learner(pixel_values=torch.zeros(2, 3, side, side)).shape == (2, 3)


@pytest.mark.parametrize("name", TEXT)
def test_text_models_load_with_their_tokenizer(weights: Path, name: str) -> None:
    from transformers import AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(weights / name)
    rows = tokens(["a red flower", "petals"], padding=True, return_tensors="pt")
    assert len(set(rows["input_ids"][0].tolist())) > 3
    learner = build_client_model(ModelSettings(arch=TEXT[name], pretrained=name, width=16), classes=3)
    assert learner(input_ids=rows["input_ids"], attention_mask=rows["attention_mask"]).shape == (2, 3)


def test_the_servers_models_load(weights: Path) -> None:
    captioner = load_captioner(weights / "Salesforce/blip-image-captioning-base", 4)
    assert len(captioner.caption(PICTURES)) == 2
    clip = load_clip(weights / "openai/clip-vit-base-patch32")
    assert torch.allclose(clip.embed_texts(["a red flower", "b"]).norm(dim=-1), torch.ones(2))
    assert not torch.equal(*clip.embed_texts(["a red flower", "b"]))


def test_pipelines_are_stock_folders(weights: Path) -> None:
    from diffusers import DiffusionPipeline

    from fedloom.models.generators.glide.pipeline import load_glide

    stable = weights / "stable-diffusion-v1-5/stable-diffusion-v1-5"
    pipe = DiffusionPipeline.from_pretrained(stable, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    assert pipe("a red flower", num_inference_steps=2, output_type="np").images.shape == (1, 64, 64, 3)
    glide = load_glide(weights / "openai/glide")
    glide.set_progress_bar_config(disable=True)
    drawn = glide(["a red flower"], num_inference_steps=2, upsample=True, upsampling_steps=2, output_type="np")
    assert drawn.images.shape == (1, 128, 128, 3)
    assert [family_of(stable), family_of(weights / "openai/glide")] == ["latent", "glide"]


def test_inception(tmp_path: Path) -> None:
    inception = pytest.importorskip("fedloom.models.evaluators.inception")
    (file,) = random_weights.put(tmp_path, "fid/inception-v3", "tiny").iterdir()
    assert inception.load_inception(file) is not None


def test_the_real_sizes_are_the_published_ones() -> None:
    """Base transformers: width, layers, heads and inner width; vocabularies as large as the published ones."""
    assert list(random_weights.shape("real").values()) == [768, 12, 12, 3072]
    assert len(random_weights.words(30522, 512)) == 30522
    assert len(random_weights.clip_tokens(49408)) == 49408


def test_a_folder_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(size: str, folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setitem(random_weights.MODELS, "a/b", killed)
    with pytest.raises(KeyboardInterrupt):
        random_weights.put(tmp_path, "a/b", "tiny")
    assert list((tmp_path / "a").iterdir()) == []
    (tmp_path / "a/b").mkdir()
    assert random_weights.put(tmp_path, "a/b", "tiny") == tmp_path / "a/b"  # not made again


def test_drawn_flowers_read_as_the_data_set(tmp_path: Path) -> None:
    made_flowers102.write(tmp_path, 24, per_class=(1, 1, 1))
    scene = flowers102.load(tmp_path, size=16, generic_share=0.0, swap_train_test=True)
    assert len(scene.class_names) == 102
    assert (len(scene.train["image"].labels), len(scene.test["image"].labels)) == (102, 204)


def test_the_official_split() -> None:
    """1020, 1020 and 6149 pictures, whatever is left of 8189 spread over the classes."""
    train, valid, test = made_flowers102.OFFICIAL
    assert (train * 102, valid * 102, made_flowers102.PICTURES - 102 * (train + valid), test) == (
        1020,
        1020,
        6149,
        0,
    )
