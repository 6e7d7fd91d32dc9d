"""BLIP and CLIP from folders laid out as the published ones, against transformers' own processors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import given_models
from fedloom.errors import BadInput
from fedloom.models.clients.preprocessing import read_preprocessor
from fedloom.models.evaluators.captioner import load_captioner
from fedloom.models.evaluators.clip import load_clip
from fedloom.models.pictures import to_float

STEP = 1 / 255 / min(given_models.STD)  # of a pixel, as a model reads it


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return given_models.blip(tmp_path_factory.mktemp("blip"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return given_models.clip(tmp_path_factory.mktemp("clip"))


def photos(side: int, n: int = 4) -> Any:
    """Pictures with slopes, edges and a little noise: uint8 (n, side, side, 3)."""
    rng = np.random.default_rng(side)
    x, y = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side))
    waves = [np.sin(6 * rng.random() * x + 9 * rng.random() * y + rng.random() * 6) for _ in range(3 * n)]
    pictures = np.stack(waves, -1).reshape(side, side, n, 3).transpose(2, 0, 1, 3) > rng.random((n, 1, 1, 3))
    return np.clip(200 * pictures + rng.integers(0, 50, pictures.shape), 0, 255).astype(np.uint8)


def processed(folder: Path, pictures: Any) -> torch.Tensor:
    """What transformers' own processor of Pillow makes of pictures."""
    import transformers as hf

    kind = hf.BlipImageProcessorPil if (folder / "vocab.txt").exists() else hf.CLIPImageProcessorPil
    made = kind.from_pretrained(folder)(list(pictures), return_tensors="pt")
    return torch.as_tensor(made["pixel_values"])


@pytest.mark.parametrize("side", [16, 24, 31, 60])
@pytest.mark.parametrize("name", ["blip", "clip"])
def test_pictures_are_seen_as_the_folder_says(name, side, request):
    folder, pictures = request.getfixturevalue(name), photos(side)
    seen = read_preprocessor(folder, 24)(to_float(pictures))
    expected = processed(folder, pictures)
    assert seen.shape == expected.shape == (4, 3, 24, 24)
    assert (seen - expected).abs().max() < 1.01 * STEP


def test_captions_are_those_of_transformers(blip):
    from transformers import BertTokenizer, BlipForConditionalGeneration

    pictures = photos(24, 6)  # nothing to resize: the same numbers reach the model
    model, words = BlipForConditionalGeneration.from_pretrained(blip), BertTokenizer.from_pretrained(blip)
    rows = model.eval().generate(pixel_values=processed(blip, pictures), max_new_tokens=8)
    assert (rows[:, 0] == len(words)).all()  # what begins a caption is no word
    captions = load_captioner(blip, 8).caption(pictures, batch=4)
    assert captions == tuple(text.strip() for text in words.batch_decode(rows, skip_special_tokens=True))
    assert len(set(captions)) > 1


def test_captioner_in_bf16_keeps_its_weights(blip):
    captioner = load_captioner(blip, 6, precision="bf16")
    captions = captioner.caption(photos(40))
    assert all(captions)
    assert {p.dtype for p in captioner.parameters()} == {torch.float32}


def test_clip_embeds_as_transformers_does(clip):
    from transformers import CLIPModel, CLIPTokenizer

    texts = ["a red flower", "iris", "a text that is far longer than twelve positions of this model"]
    model, tokens = CLIPModel.from_pretrained(clip).eval(), CLIPTokenizer.from_pretrained(clip)
    ours = load_clip(clip)
    with torch.no_grad():
        rows = tokens(texts, padding=True, truncation=True, max_length=12, return_tensors="pt")
        expected = model.get_text_features(**rows).pooler_output
        assert torch.allclose(ours.embed_texts(texts), expected / expected.norm(dim=1, keepdim=True), atol=1e-6)
        assert torch.equal(ours.embed_texts(texts * 2, batch=3), ours.embed_texts(texts).repeat(2, 1))
        pictures = photos(28, 5)
        seen = model.get_image_features(pixel_values=processed(clip, pictures)).pooler_output
    vectors = ours.embed_pictures(pictures, batch=2)
    assert vectors.shape == (5, 8)
    assert torch.allclose(vectors, seen / seen.norm(dim=1, keepdim=True), atol=1e-5)
    assert not vectors.requires_grad
    assert ours.embed_pictures(photos(50)).shape == (4, 8)


@pytest.mark.parametrize(("load", "other"), [(lambda f: load_captioner(f, 4), "clip"), (load_clip, "blip")])
def test_what_is_no_such_model_is_one_line(load, other, request, tmp_path):
    with pytest.raises(BadInput, match=rf"holds a {other}, allowed: ") as told:
        load(request.getfixturevalue(other))
    assert "\n" not in str(told.value)
    with pytest.raises(
        BadInput, match=r"'nobody/nothing': no such folder, .* `fedloom fetch nobody/nothing` downloads them"
    ) as told:
        load("nobody/nothing")
    assert "\n" not in str(told.value)


def test_missing_weights_are_not_made_up(clip, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(clip, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadInput, match=r"1 weights of a CLIPModel are missing, such as visual_projection\.weight"):
        load_clip(broken)
    (broken / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(BadInput, match="cannot be loaded"):
        load_clip(broken)
