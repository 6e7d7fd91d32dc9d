"""Generators that diffuse a small autoencoder's latents: where it comes from, what it does, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from pydantic import ValidationError
from safetensors.torch import save_file

from fedloom.config.models import ClipSettings, GeneratorSettings
from fedloom.data.containers import PublicData
from fedloom.errors import BadInput
from fedloom.models.evaluators.clip import build_clip
from fedloom.models.generators.autoencoder import check_autoencoder, convert_taef2, load_autoencoder
from fedloom.models.generators.pixel import build_generator, load_generator, pretrain_generator
from fedloom.models.generators.pixel_pipeline import PooledTinyAutoencoder
from fedloom.models.pictures import to_float

SIDE, LATENTS = 16, 4


def pair(scale=1.0):
    """TAEF2's pair of files, small, as it is published: numbered layers, half precision."""
    torch.manual_seed(0)
    made = PooledTinyAutoencoder(LATENTS, 8)
    halves = {part: getattr(made, part).half().state_dict() for part in ("encoder", "decoder")}
    return {part: {k: v * scale for k, v in half.items()} for part, half in halves.items()}


def tiny():
    torch.manual_seed(0)
    return AutoencoderTiny(
        encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4, latent_channels=LATENTS
    )


@pytest.fixture(scope="module")
def taef2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("taef2")
    for part, half in pair().items():
        save_file({k: v.contiguous() for k, v in half.items()}, folder / f"{part}.safetensors")
    return str(folder)


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tiny().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def words(tokenizer):
    torch.manual_seed(0)
    return build_clip(ClipSettings(hidden=16, layers=1, heads=2, patch=8, width=16), tokenizer, SIDE).eval()


@pytest.fixture(scope="module")
def shown():
    return np.random.default_rng(0).integers(0, 256, (6, SIDE, SIDE, 3), dtype=np.uint8)


def settings(autoencoder, **more):
    sizes = {"channels": (16, 16), "heads": 2, "unshuffle": 1, "sampling_steps": 2, "guidance": 2.0}
    return GeneratorSettings(autoencoder=autoencoder, **sizes | more)


def built(words, autoencoder, **more):
    torch.manual_seed(0)
    return build_generator(settings(autoencoder, **more), words, SIDE, 10).eval()


@pytest.fixture(params=["taef2", "stock"])
def generator(request, words):
    return built(words, request.getfixturevalue(request.param))


def test_published_layers_have_their_numbers():
    """The order of layers as its authors' module has it: numbers and shapes of the published files."""
    half = {part: set(values) for part, values in pair().items()}
    for part, strided, pooled, plain in (
        ("encoder", (2, 6, 10), (11, 12, 13), 14),
        ("decoder", (7, 12, 17), (3, 4, 5), 19),
    ):
        assert {f"{n}.pool.{k}" for n in pooled for k in ("0.weight", "1.weight", "1.bias", "3.weight")} == {
            name for name in half[part] if ".pool." in name
        }
        assert {f"{n}.weight" for n in strided} <= half[part]
        assert not {f"{n}.bias" for n in strided} & half[part]
        assert f"{plain}.bias" in half[part]


def test_a_block_is_as_published():
    torch.manual_seed(1)
    made = PooledTinyAutoencoder(LATENTS, 8).eval()
    block, x = made.decoder[3], torch.randn(2, 8, 4, 4)
    pooled = x + block.pool[3](
        torch.relu(torch.group_norm(block.pool[0](x), 4, block.pool[1].weight, block.pool[1].bias))
    )
    y = block.conv[4](torch.relu(block.conv[2](torch.relu(block.conv[0](pooled)))))
    assert torch.allclose(block(x), torch.relu(y + pooled), atol=1e-6)
    z = torch.randn(2, LATENTS, 2, 2) * 5
    assert torch.allclose(made.decoder[0](z), 3 * torch.tanh(z / 3))


def test_shapes_and_range(taef2, stock):
    for name in (taef2, stock):
        coder = load_autoencoder(name)
        x = torch.rand(2, 3, SIDE, SIDE) * 2 - 1
        latents = coder.encode(x).latents
        assert latents.shape == (2, LATENTS, SIDE // 8, SIDE // 8)
        assert coder.decode(latents).sample.shape == x.shape
        assert all(p.dtype == torch.float32 and not p.requires_grad for p in coder.parameters())


def test_published_files_become_a_folder(taef2, tmp_path):
    source, out = tmp_path / "published", tmp_path / "made"
    source.mkdir()
    with pytest.raises(BadInput, match=r"taef2_encoder\.pth: cannot be read"):
        convert_taef2(source, out)
    for part, half in pair().items():
        torch.save(half, source / f"taef2_{part}.pth")
    convert_taef2(source, out)
    assert json.loads((out / "config.json").read_text())["latent_channels"] == LATENTS
    for own, other in zip(load_autoencoder(str(out)).parameters(), load_autoencoder(taef2).parameters()):
        assert torch.equal(own, other)
    torch.save({"0.weight": torch.zeros(3)}, source / "taef2_decoder.pth")
    with pytest.raises(BadInput, match="holds no TAEF2"):
        convert_taef2(source, out)


def test_what_is_learned_are_latents(generator, shown):
    """The loss is that of a generator of these latents, each computed once; what is drawn is decoded."""
    assert generator.size == SIDE
    texts, images = ["a picture of iris"] * 6, to_float(shown)
    with torch.no_grad():
        loss = generator.loss(images, texts, torch.Generator().manual_seed(1))
        x0 = generator.autoencoder.encode(images).latents
        draws = torch.Generator().manual_seed(1)
        noise, level = torch.randn(x0.shape, generator=draws), torch.rand(6, generator=draws)
        level = 2 * level / (1 + level)
        tokens, pooled, _ = generator.conditioned(texts, None, None)
        s = level.view(-1, 1, 1, 1)
        said = generator.unet((1 - s) * x0 + s * noise, level * 1000, tokens, class_labels=pooled).sample
        by_hand = ((said - x0).square().mean((1, 2, 3)) / level.clamp(min=0.25).square()).mean()
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-4)
    known = len(generator._codes.known)
    generator.loss(images[:3], texts[:3], torch.Generator())
    assert known == len(generator._codes.known) == 6


def test_it_is_frozen_and_learns(generator, shown):
    before = {k: v.clone() for k, v in generator.autoencoder.state_dict().items()}
    public = PublicData(shown, ("a red flower",) * 6, np.zeros(6, dtype=np.int64))
    made = settings(None, steps=2, batch=4, mirror=True)
    pretrain_generator(generator, public, ["a picture of iris"], made, 0)
    assert all(torch.equal(v, before[k]) for k, v in generator.autoencoder.state_dict().items())
    assert len(generator._codes.known) > 6  # mirrored pictures, too
    assert all(name.startswith(("unet.", "bridge.")) for name in generator.learned())


def test_it_is_carried_away(generator, tmp_path, elsewhere):
    folder = tmp_path / "generator"
    generator.save(folder)
    again = load_generator(folder, 10)
    drawn = [g.synthesize(["a red flower"] * 3, torch.Generator().manual_seed(4)) for g in (generator, again)]
    assert drawn[0].shape == (3, SIDE, SIDE, 3)
    assert np.array_equal(*drawn)
    pipe = again.pipe
    pipe.set_progress_bar_config(disable=True)
    here = pipe(["a picture of iris"] * 2, generator=torch.Generator().manual_seed(2), output_type="np").images
    assert np.array_equal(elsewhere(folder), here)


def test_what_is_refused(words, taef2, tmp_path):
    with pytest.raises(
        BadInput, match=r"server.generator.autoencoder = '.*': no autoencoder, allowed: a folder of Auto"
    ):
        check_autoencoder(str(tmp_path))
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    with pytest.raises(BadInput, match="holds 'AutoencoderKL', allowed"):
        check_autoencoder(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(BadInput, match=r"config\.json"):
        check_autoencoder(str(tmp_path))
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderTiny", "latent_channels": 4}')
    with pytest.raises(BadInput, match="cannot be loaded as AutoencoderTiny"):
        load_autoencoder(str(tmp_path))
    with pytest.raises(BadInput, match="fedloom fetch some/autoencoder"):
        check_autoencoder("some/autoencoder")
    with pytest.raises(BadInput, match="the autoencoder's 8, unshuffle 1 and 2 levels do not divide side 20"):
        build_generator(settings(taef2), words, 20, 10)
    with pytest.raises(ValidationError, match="pretrained names a whole generator"):
        settings(taef2, pretrained="x")


def test_another_factor_is_refused(tmp_path):
    sizes = {"encoder_block_out_channels": (8,) * 3, "decoder_block_out_channels": (8,) * 3}
    made = AutoencoderTiny(**sizes, num_encoder_blocks=(1, 1, 1), num_decoder_blocks=(1, 1, 1))
    made.save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="latents of 1/4 of the side, allowed: 1/8"):
        load_autoencoder(str(tmp_path))
