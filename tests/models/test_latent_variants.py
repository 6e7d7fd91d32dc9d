"""Stable Diffusion folders whose weights are variants: what is read, what is refused, what an export holds."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_latent import WIDTH, awake
from test_latent_files import draw, stock_draw
from test_latent_tiny import tiny

from fedloom.config.stable_diffusion import LatentSettings
from fedloom.errors import BadInput
from fedloom.models.generators.latent_variants import variant_of, weights_of
from fedloom.models.generators.stable_diffusion import LatentGenerator, load_latent

SAMPLING: dict[str, Any] = {"sampling_steps": 2, "guidance": 3.0, "sampler": "ddim", "batch": 2}


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny folder in half precision, all of whose weights are called fp16; with `shards`, in several files."""

    @functools.cache
    def made(kind: str, shards: bool = False) -> Path:
        from diffusers import DiffusionPipeline

        folder = tmp_path_factory.mktemp("half") / kind
        pipe = DiffusionPipeline.from_pretrained(tiny(kind), local_files_only=True, torch_dtype=torch.float16)
        size = {"max_shard_size": "40KB"} if shards else {}
        pipe.save_pretrained(folder, variant="fp16", **size)
        return folder

    return made


def load(folder: Path, variant: str | None = "fp16", **more: Any) -> LatentGenerator:
    settings = LatentSettings(pretrained=str(folder), variant=variant, **SAMPLING, **more)
    return load_latent(settings, WIDTH)


def test_names():
    names = {
        "model.safetensors": "",
        "model.fp16.safetensors": "fp16",
        "diffusion_pytorch_model-00001-of-00002.safetensors": "",
        "model.fp16-00001-of-00002.safetensors": "fp16",
        "diffusion_pytorch_model.safetensors.index.json": "",
        "diffusion_pytorch_model.safetensors.index.fp16.json": "fp16",
        "diffusion_pytorch_model.non_ema.safetensors": "non_ema",
    }
    assert {name: variant_of(name) for name in names} == names


@pytest.mark.parametrize(("kind", "shards"), [("one", False), ("xl", True)])
def test_only_variants(kind, shards, half, tmp_path):
    """They are read in fp32, and an export holds all of them under the plain names."""
    folder = half(kind, shards)
    assert (folder / "unet" / "diffusion_pytorch_model.safetensors.index.fp16.json").exists() == shards
    with pytest.raises(BadInput, match=r"unet: no plain weights, .*variant = None, allowed: fp16") as caught:
        load(folder, None)
    assert "\n" not in str(caught.value)
    generator = awake(load(folder))
    assert {p.dtype for p in generator.parameters()} == {torch.float32}
    whole = load_latent(LatentSettings(pretrained=str(tiny(kind)), **SAMPLING), WIDTH)
    for own, other in zip(generator.vae.parameters(), whole.vae.parameters()):
        assert torch.equal(own, other.half().float())
    generator.save(tmp_path / "saved")
    assert not list((tmp_path / "saved").rglob("*fp16*"))
    assert np.array_equal(stock_draw(tmp_path / "saved"), draw(generator))
    again = load(tmp_path / "saved", None)
    assert again.weights_print() == generator.weights_print()
    assert torch.equal(again.bridge.weight, generator.bridge.weight)


def test_factors_beside_a_variant_and_merged(half, tmp_path):
    generator = load(half("one"), train="lora", rank=2)
    for p in generator.trainable():
        torch.nn.init.normal_(p, std=0.1, generator=torch.Generator().manual_seed(3))
    for merge in (True, False):
        folder = tmp_path / str(merge)
        generator.save(folder, merge)
        gap = np.abs(stock_draw(folder, lora=not merge).astype(int) - draw(generator))
        assert gap.max() <= 1  # merged factors round otherwise
    beside = load_file(tmp_path / "False" / "unet" / "diffusion_pytorch_model.safetensors")
    source = load_file(half("one") / "unet" / "diffusion_pytorch_model.fp16.safetensors")["conv_in.weight"]
    assert torch.equal(beside["conv_in.weight"], source.float())  # and the factors lie beside


def test_half_precision_under_plain_names(half, tmp_path):
    folder = shutil.copytree(half("two"), tmp_path / "plain")
    for file in list(folder.rglob("*.fp16.safetensors")):
        file.rename(file.with_name(file.name.replace(".fp16", "")))
    load(folder, None).save(tmp_path / "saved")
    assert np.array_equal(stock_draw(tmp_path / "saved"), draw(load(folder, None)))


def test_parts_without_the_variant_are_read_from_plain_files(half, tmp_path):
    """As some published folders are; where both lie side by side, the one that is asked for."""
    folder = shutil.copytree(half("one"), tmp_path / "mixed")
    for part in ("unet", "text_encoder"):
        for file in (tiny("one") / part).glob("*.safetensors"):
            shutil.copy(file, folder / part)
    (folder / "text_encoder" / "model.fp16.safetensors").unlink()
    plain = folder / "unet" / "diffusion_pytorch_model.safetensors"
    asked, source = load(folder), load_file(plain)["conv_in.weight"]
    assert torch.equal(asked.unet.conv_in.weight, source.half().float())
    assert not torch.equal(asked.unet.conv_in.weight, source)
    asked.save(tmp_path / "saved")
    kept = tmp_path / "saved" / "text_encoder" / "model.safetensors"
    assert kept.read_bytes() == (tiny("one") / "text_encoder" / "model.safetensors").read_bytes()
    assert weights_of(folder / "unet", None) == [plain]
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").unlink()
    merged = load(folder, train="lora", rank=2)
    merged.save(tmp_path / "merged")
    assert np.array_equal(stock_draw(tmp_path / "merged"), draw(merged))
    for file in tiny("one").glob("*/*.safetensors"):
        shutil.copy(file, folder / file.parent.name)
    with pytest.raises(BadInput, match=r"no part has such weights, .* = 'fp8', allowed: fp16"):
        load(folder, "fp8")


def test_a_hub_name_is_read_from_what_was_fetched(half, tmp_path, monkeypatch):
    from fedloom.models.generators.latent_files import resolve

    monkeypatch.setenv("FEDLOOM_WEIGHTS", str(tmp_path))
    fetched = shutil.copytree(half("one"), tmp_path / "maker" / "small")
    settings = LatentSettings(pretrained="maker/small", variant="fp16")
    assert resolve(settings) == fetched
    with pytest.raises(BadInput, match="no such folder, nor in the hub's cache"):
        resolve(settings.model_copy(update={"revision": "main"}))  # what was fetched may be another
    assert json.loads((fetched / "model_index.json").read_text())["_class_name"] == "StableDiffusionPipeline"
