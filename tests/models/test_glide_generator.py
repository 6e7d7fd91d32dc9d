"""GLIDE as a server: its pipeline's pictures, what conditioning changes, what is trained, the loss, and its folder."""

from __future__ import annotations

import atexit
import copy
import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_glide import BASE, MERGES, TEXT, UP, published

from fedloom.config.glide import GlideOptions, GlideSettings
from fedloom.errors import BadInput
from fedloom.models.fit import fit
from fedloom.models.generators.glide.convert import convert
from fedloom.models.generators.glide.generator import GlideGenerator, load_glide_generator
from fedloom.models.generators.glide.loss import denoising_loss, noisy
from fedloom.models.pictures import to_float, to_uint8

torch.set_num_threads(1)

MODES = ("add", "token", "pooled")
PROMPTS = ["a red cat", "cats", "a red cat", ""]
WIDTH = 10
FUSED = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(3))
EVERYONE = torch.ones(4, dtype=torch.bool)


@functools.cache
def tiny() -> Path:
    """A GLIDE folder of 16 and 32 px with fixed weights; it lives as long as this process. Never written to."""
    folder = Path(tempfile.mkdtemp(prefix="fedloom-glide-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    torch.save(published(BASE), folder / "base.pt")
    torch.save(published(UP), folder / "upsample.pt")
    (folder / "vocab.bpe").write_text(MERGES, encoding="utf-8")
    sizes = {"text": TEXT, "base": BASE, "upsampler": UP}
    convert(folder / "base.pt", folder / "upsample.pt", folder / "vocab.bpe", folder / "glide", **sizes)
    return folder / "glide"


@functools.cache
def loaded(side: int | None, **options: Any) -> GlideGenerator:
    settings = GlideSettings(side=side, guidance=2.0, sampling_steps=2, **options)
    return load_glide_generator(tiny(), WIDTH, "add", settings)


def load(mode: Any = "add", side: int | None = None, **options: Any) -> GlideGenerator:
    """A generator of its own; read from disk once."""
    generator = copy.deepcopy(loaded(side, **options))
    generator.condition = mode
    return generator


def awake(generator: GlideGenerator) -> GlideGenerator:
    """The generator with a W_r that says something."""
    torch.nn.init.normal_(generator.bridge.weight, generator=torch.Generator().manual_seed(7))
    return generator


def pictures(side: int = 12) -> torch.Tensor:
    return to_float(np.random.default_rng(0).integers(0, 256, (4, side, side, 3), dtype=np.uint8))


def loss_of(generator: GlideGenerator, *conditions: Any, side: int = 12) -> torch.Tensor:
    return generator.loss(pictures(side), PROMPTS, torch.Generator().manual_seed(5), *conditions)


def outputs(generator: GlideGenerator, *conditions: Any) -> torch.Tensor:
    """What the U-Net says on fixed noise."""
    with torch.no_grad():
        tokens, pooled, mask = generator.conditioned(PROMPTS, *conditions)
        x = torch.randn((4, 3, 16, 16), generator=torch.Generator().manual_seed(6))
        return generator.unet(x, 500, tokens, class_labels=pooled, encoder_attention_mask=mask).sample


def draw(generator: GlideGenerator, seed: int = 1, **options: Any) -> Any:
    return generator.synthesize(PROMPTS, torch.Generator().manual_seed(seed), **options)


def test_pictures_are_the_pipelines():
    generator = load()
    noise = torch.randn((4, 3, 16, 16), generator=torch.Generator().manual_seed(1))
    plain = to_uint8(generator.pipe(PROMPTS, noise=noise, output_type="pt"))
    assert np.array_equal(draw(generator), plain)
    assert not np.array_equal(draw(generator, seed=2), plain)
    assert np.abs(draw(generator, batch=3).astype(int) - plain).max() <= 1
    assert draw(load(side=12)).shape == (4, 12, 12, 3)


def test_through_the_upsampler():
    generator = load(side=24, upsample=True, upsampling_steps=2)
    assert generator.size == 24
    assert draw(generator).shape == (4, 24, 24, 3)
    assert not any(p.requires_grad for p in generator.pipe.upsampler.parameters())


@pytest.mark.parametrize("mode", MODES)
def test_a_map_of_zero_changes_nothing_another_is_heard(mode):
    generator = load(mode)
    plain = outputs(generator, None, None)
    assert torch.equal(outputs(generator, FUSED, None), plain)
    awake(generator)
    said = outputs(generator, FUSED, None)
    assert not torch.allclose(said, plain)
    some = torch.tensor([True, False, False, True])
    mixed = outputs(generator, FUSED, some)
    assert torch.allclose(mixed[some], plain[some], atol=1e-4)
    assert torch.allclose(mixed[~some], said[~some], atol=1e-4)
    assert torch.equal(loss_of(generator, FUSED, EVERYONE), loss_of(generator))


@pytest.mark.parametrize("mode", MODES)
def test_only_unet_and_map_learn(mode):
    generator = load(mode).train()
    before = {k: v.clone() for k, v in generator.state_dict().items()}
    optimizer = torch.optim.AdamW(generator.trainable(), 1e-3, weight_decay=0.0, fused=True)
    fit(optimizer, range(2), lambda _: loss_of(generator, FUSED))
    changed = {k for k, v in generator.state_dict().items() if not torch.equal(v, before[k])}
    assert {"bridge.weight", "unet.text.weight"} <= changed
    assert all(name.startswith(("unet.", "bridge.")) for name in changed)


def test_the_loss_is_that_of_the_formula():
    generator = load().eval()
    draws = torch.Generator().manual_seed(5)
    x0 = pictures(16)
    noise = torch.randn(x0.shape, generator=draws)
    t = torch.randint(1000, (4,), generator=draws)
    with torch.no_grad():
        tokens, pooled = generator.embed(PROMPTS)
        said = generator.unet(noisy(generator.process, x0, noise, t), t, tokens, pooled).sample
        expected = denoising_loss(generator.process, said, x0, noise, t)
        assert loss_of(generator, side=16).equal(expected)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_checkpointed_activations_give_the_same_gradients(precision):
    grads = []
    for checkpointing in (False, True):
        generator = load(checkpointing=checkpointing, precision=precision).train()
        torch.manual_seed(0)
        loss_of(generator, FUSED).backward()
        grads.append(generator.unet.conv_in.weight.grad)
    assert torch.equal(*grads)  # dropout and all


def test_saved_and_loaded(tmp_path):
    generator = awake(load(side=12))
    with torch.no_grad():
        generator.unet.conv_out.bias.add_(0.5)
    generator.save(tmp_path)
    again = load_glide_generator(
        tmp_path, WIDTH, settings=GlideSettings(side=12)
    )  # guidance and steps lie in the folder
    assert np.array_equal(draw(again), draw(generator))
    assert torch.equal(outputs(again, FUSED, None), outputs(generator, FUSED, None))
    assert str(tiny()) not in "".join(file.read_text() for file in tmp_path.rglob("*.json"))
    with pytest.raises(BadInput, match="W_r has shape"):
        load_glide_generator(tmp_path, 11)
    other = load()
    other.load_learned(generator.learned())
    assert torch.equal(outputs(other, FUSED, None), outputs(generator, FUSED, None))


def test_what_an_unchanged_generator_draws_is_drawn_once(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLOOM_CACHE", str(tmp_path))
    generator = load()
    plain = draw(generator)
    generator.origin = "weights of this test"
    assert np.array_equal(draw(generator), plain)
    with monkeypatch.context() as patch:
        patch.setattr(GlideGenerator, "_draw", lambda *a: pytest.fail("drawn again"))
        assert np.array_equal(draw(generator), plain)
    generator.pipe.register_to_config(guidance=4.0)
    assert not np.array_equal(draw(generator), plain)


def test_what_is_refused(tmp_path):
    def refused(match: str, folder: Path | None = None, **given: Any) -> None:
        with pytest.raises(BadInput, match=match) as caught:
            load_glide_generator(folder or tiny(), WIDTH, settings=GlideSettings(**given))
        assert "\n" not in str(caught.value)

    refused("pictures of 24 pixels, allowed: up to 16; more with glide.upsample", side=24)
    refused("device 'tpu'", device="tpu")
    refused("offload = True: parts wait on the CPU for an accelerator", offload=True)
    bare = shutil.copytree(tiny(), tmp_path / "bare")
    index = json.loads((bare / "model_index.json").read_text())
    for part in ("upsampler", "upsampler_text_encoder", "upsampler_scheduler"):
        index[part] = [None, None]
    (bare / "model_index.json").write_text(json.dumps(index))
    refused("the folder has no upsampler", bare, upsample=True)
    file = bare / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"prediction_type": "v_prediction"}))
    refused("prediction_type 'v_prediction', allowed: epsilon", bare)
    with pytest.raises(ValueError, match="upsampling_steps = 9 is for upsample"):
        GlideOptions(upsampling_steps=9)
