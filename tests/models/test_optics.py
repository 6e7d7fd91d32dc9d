"""Pictures as pretrained weights want them: as transformers' own image processors give them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from fedloom.config.models import ModelSettings
from fedloom.errors import BadInput
from fedloom.models.clients.build import build_client_model
from fedloom.models.clients.preprocessing import FILE, ImagePreprocessor, read_preprocessor
from fedloom.models.pictures import to_float

MEAN, STD = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]
PROCESSORS = {
    "vit": ("ViTImageProcessorPil", {"size": {"height": 32, "width": 32}}),
    "beit": ("BeitImageProcessorPil", {"size": {"height": 24, "width": 24}, "do_center_crop": False}),
    "clip": (
        "CLIPImageProcessorPil",
        {
            "size": {"shortest_edge": 36},
            "crop_size": {"height": 32, "width": 32},
            "image_mean": MEAN,
            "image_std": STD,
        },
    ),
    "blip": (
        "BlipImageProcessorPil",
        {"size": {"height": 32, "width": 32}, "image_mean": MEAN, "image_std": STD},
    ),
    "resnet": ("ConvNextImageProcessorPil", {"size": {"shortest_edge": 28}, "crop_pct": 0.875}),
    "large": ("ConvNextImageProcessorPil", {"size": {"shortest_edge": 384}}),
}


def photograph(side: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Smooth, as real pictures are: (1, side, side, 3)."""
    rough = np.random.default_rng(0).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return np.array(Image.fromarray(rough).resize((side, side), Image.Resampling.BICUBIC))[None]


@pytest.mark.parametrize("side", [64, 20])
@pytest.mark.parametrize("kind", PROCESSORS)
def test_equal_to_the_librarys_processor(kind: str, side: int, tmp_path: Path) -> None:
    """To about a step of a pixel: the library rounds to whole ones, once for rows and once for columns."""
    name, options = PROCESSORS[kind]
    processor = getattr(transformers, name)(**options)
    processor.save_pretrained(tmp_path)
    picture = photograph(side)
    wanted = torch.as_tensor(np.asarray(processor(Image.fromarray(picture[0]))["pixel_values"]))
    got = read_preprocessor(tmp_path, 8)(to_float(picture))
    assert got.shape == wanted.shape
    step = 1 / 255 / min(processor.image_std)
    assert (got - wanted).abs().max() < 2 * step


def test_without_a_file_pictures_stay_as_they_are(tmp_path: Path) -> None:
    assert read_preprocessor(tmp_path, 12) == ImagePreprocessor(12, 12)
    pixels = to_float(photograph(12))
    assert read_preprocessor(tmp_path, 12)(pixels) is pixels


@pytest.mark.parametrize(
    "preprocessor", [ImagePreprocessor(24, 24, (0.4, 0.5, 0.6)), ImagePreprocessor(24, 27, mode="bilinear")]
)
def test_what_is_exported_is_read_again(preprocessor: ImagePreprocessor, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps(preprocessor.processor()))
    assert read_preprocessor(tmp_path, 8) == preprocessor


@pytest.mark.parametrize("text", ["{", "[1]", '{"size": "wide"}', '{"image_std": [1, 0, 1]}', '{"image_mean": [1]}'])
def test_a_file_that_says_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(BadInput, match=FILE):
        read_preprocessor(tmp_path, 8)


def test_a_pretrained_client_reads_pictures_of_any_side(tmp_path: Path) -> None:
    """And its export, in which its own processor lies, gives its logits."""
    from fedloom.experiment.client_builder import write_model

    config = transformers.ViTConfig(
        image_size=32,
        patch_size=16,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    torch.manual_seed(0)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "given")
    transformers.ViTImageProcessorPil(size={"height": 32, "width": 32}, image_mean=MEAN, image_std=STD).save_pretrained(
        tmp_path / "given"
    )
    settings = ModelSettings(arch="vit", pretrained=str(tmp_path / "given"), width=8)
    learner = build_client_model(settings, classes=3, image_size=12).eval()
    picture = photograph(12)
    logits = learner(pixel_values=to_float(picture))
    write_model(learner, ("a", "b", "c"), None, 12, tmp_path / "out")
    stock = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "out").eval()
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "out", backend="pil")
    again = stock(**processor(Image.fromarray(picture[0]), return_tensors="pt")).logits
    torch.testing.assert_close(again, logits, atol=0.02, rtol=0)
