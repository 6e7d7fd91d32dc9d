"""Folders of the Stable Diffusion server: what is refused, what is written, and syntheses that are killed."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from test_latent import FUSED, WIDTH, awake, load, loss_of, outputs
from test_latent_tiny import TEXTS, tiny

from fedloom.config.stable_diffusion import LatentSettings
from fedloom.errors import BadInput
from fedloom.models.fit import fit
from fedloom.models.generators.stable_diffusion import LatentGenerator, load_latent


def refused(match, width=WIDTH, **settings):
    with pytest.raises(BadInput, match=match) as caught:
        load_latent(LatentSettings(**settings), width)
    assert "\n" not in str(caught.value)


def trained(kind, **settings):
    generator = awake(load(kind, **settings))
    optimizer = torch.optim.AdamW(generator.trainable(), 1e-2, weight_decay=0.0, fused=True)
    fit(optimizer, range(2), lambda _: loss_of(generator, FUSED))
    return generator.eval()


def draw(generator, seed=1, **options):
    return generator.synthesize(TEXTS, torch.Generator().manual_seed(seed), **options)


def stock_draw(folder, lora=False):
    """The pictures of `draw`, drawn by stock diffusers."""
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    if lora:
        pipe.load_lora_weights(folder)
    seeds = torch.randint(2**62, (4,), generator=torch.Generator().manual_seed(1)).tolist()
    noise = torch.stack([torch.randn((4, 16, 16), generator=torch.Generator().manual_seed(s)) for s in seeds])
    parts = [
        pipe(TEXTS[i : i + 2], num_inference_steps=2, guidance_scale=3.0, latents=noise[i : i + 2]).images
        for i in (0, 2)
    ]
    return np.stack([np.asarray(picture) for part in parts for picture in part])


# ---------------------------------------------------------------------------------------------------------- refusals


def test_wrong_folders(tmp_path):
    refused("expected a diffusers folder", pretrained=str(tmp_path))
    refused("no such folder, nor in the hub's cache", pretrained=str(tmp_path / "nothing"))
    refused("`fedloom fetch nobody/has-this` downloads them", pretrained="nobody/has-this")
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    refused("_class_name 'FluxPipeline', allowed: StableDiffusionPipeline", pretrained=str(tmp_path))


def test_damaged_and_foreign_parts(tmp_path):
    def changed(name, part, **facts):
        folder = shutil.copytree(tiny("one"), tmp_path / name)
        file = folder / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
        file.write_text(json.dumps(json.loads(file.read_text()) | facts))
        return str(folder)

    refused(
        "prediction_type 'flow', allowed: epsilon",
        pretrained=changed("a", "scheduler", prediction_type="flow"),
    )
    refused("cannot be loaded", pretrained=changed("b", "unet", block_out_channels=[16, 48]))
    refused("allowed: one number", pretrained=changed("c", "unet", sample_size=[16, 8]))
    cut = shutil.copytree(tiny("one"), tmp_path / "cut")
    weights = cut / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    refused("cannot be loaded", pretrained=str(cut))


def test_wrong_settings():
    one = str(tiny("one"))
    refused("device 'tpu'", pretrained=one, device="tpu")
    if not torch.cuda.is_available():
        refused("device 'cuda'", pretrained=one, device="cuda")
    refused("offload = True", pretrained=one, offload=True)
    refused("side = 64 pixels, allowed: up to 32", pretrained=one, side=64)
    with pytest.raises(ValueError, match="fp32"):
        LatentSettings(pretrained=one, precision="fp64")
    with pytest.raises(ValueError, match="dpm"):
        LatentSettings(pretrained=one, sampler="heun")


def test_a_folder_as_stable_diffusion_was_published(tmp_path):
    """An old index with a safety checker that is not there, and PNDM."""
    folder = shutil.copytree(tiny("one"), tmp_path / "old")
    index = json.loads((folder / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    index["scheduler"] = ["diffusers", "PNDMScheduler"]
    for key in ("image_encoder", "requires_safety_checker"):
        del index[key]
    (folder / "model_index.json").write_text(json.dumps(index))
    schedule = {
        "_class_name": "PNDMScheduler",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "num_train_timesteps": 1000,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
        "clip_sample": False,
    }
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(schedule))
    settings = load("one").settings.model_copy(update={"pretrained": str(folder)})
    generator = load_latent(settings, WIDTH)
    assert np.array_equal(draw(generator), draw(load("one")))  # DDIM by the same betas
    own = load_latent(settings.model_copy(update={"sampler": "own"}), WIDTH)
    assert not np.array_equal(draw(own), draw(generator))
    own.save(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "model_index.json").read_text())
    assert saved["safety_checker"] == saved["feature_extractor"] == [None, None]
    stock_draw(tmp_path / "saved")


# --------------------------------------------------------------------------------------------------------------- saving


@pytest.mark.parametrize(
    ("kind", "train", "merge"),
    [
        ("xl", "unet", True),
        ("two", "lora", True),
        ("xl", "lora", False),
    ],
)
def test_saved_and_loaded(kind, train, merge, tmp_path):
    generator = trained(kind, train=train, rank=2)
    generator.save(tmp_path, merge)
    plain = train == "unet"
    assert not np.array_equal(draw(generator), draw(load(kind)))
    gap = np.abs(stock_draw(tmp_path, lora=not merge).astype(int) - draw(generator))
    assert gap.max() <= (0 if plain else 1)  # merged factors round otherwise
    for part in ("vae", "text_encoder", "scheduler", "tokenizer"):  # as they were, byte for byte
        for file in (tiny(kind) / part).iterdir():
            assert (tmp_path / part / file.name).read_bytes() == file.read_bytes()
    assert str(tiny(kind)) not in "".join(f.read_text() for f in tmp_path.rglob("*.json"))

    again_train = "unet" if merge else "lora"
    settings = generator.settings.model_copy(update={"pretrained": str(tmp_path), "train": again_train})
    again = load_latent(settings, WIDTH)
    assert torch.equal(again.bridge.weight, generator.bridge.weight)
    atol = 0.0 if plain or not merge else 1e-5
    assert torch.allclose(outputs(again, FUSED, None), outputs(generator, FUSED, None), rtol=0, atol=atol)
    refused("W_r has shape", width=11, **settings.model_dump())
    if not merge:
        refused("factors of rank", **(settings.model_dump() | {"rank": 3}))
        merged = load_latent(settings.model_copy(update={"train": "unet"}), WIDTH)  # beside it, trained on as a whole
        assert torch.allclose(outputs(merged, FUSED, None), outputs(generator, FUSED, None), atol=1e-5)
        assert len(merged.trainable()) == len(load(kind).trainable())


def test_not_saved_over_its_source(tmp_path):
    folder = shutil.copytree(tiny("one"), tmp_path / "one")
    generator = load_latent(LatentSettings(pretrained=str(folder)), WIDTH)
    with pytest.raises(BadInput, match="save it elsewhere"):
        generator.save(folder)


@pytest.mark.parametrize("train", ["unet", "lora"])
def test_checkpoint(train):
    generator, other = trained("one", train=train, rank=2), load("one", train=train, rank=2)
    other.origin = "weights of this test"
    other.load_learned(generator.learned())
    assert other.origin is None
    assert torch.equal(outputs(other, FUSED, None), outputs(generator, FUSED, None))
    assert other.weights_print() == generator.weights_print() != load("one").weights_print()
    with pytest.raises(BadInput, match="names differ"):
        load("one", train="lora" if train == "unet" else "unet", rank=2).load_learned(generator.learned())


def test_frozen_parts_are_copied_also_from_half_precision(tmp_path):
    awake(load("one", train="lora", rank=2, precision="bf16")).save(tmp_path)
    assert load_latent(LatentSettings(pretrained=str(tmp_path)), WIDTH).text_encoder.dtype == torch.float32
    for part in ("vae", "text_encoder"):
        for file in (tiny("one") / part).iterdir():
            assert (tmp_path / part / file.name).read_bytes() == file.read_bytes()


# ------------------------------------------------------------------------------------------------------------- killed


class Killed(BaseException):
    pass


def dying(monkeypatch, after):
    """Drawing that is killed at its call number `after`; the list of what was drawn."""
    plain, done = LatentGenerator._draw, []

    def some(self, prompts, seeds, side, steps):
        if len(done) == after:
            raise Killed
        done.append(list(prompts))
        return plain(self, prompts, seeds, side, steps)

    monkeypatch.setattr(LatentGenerator, "_draw", some)
    return done


@pytest.mark.parametrize("cached", [False, True])
def test_a_killed_synthesis_goes_on(cached, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLOOM_CACHE", str(tmp_path / "cache"))
    folder = None if cached else tmp_path / "batches"
    whole = draw(load("one"), batch=1)
    first = load("one")
    first.origin = "weights of this test" if cached else None
    with monkeypatch.context() as patch:
        done = dying(patch, after=2)
        with pytest.raises(Killed):
            draw(first, batch=1, folder=folder)
        assert done == [[t] for t in TEXTS[:2]]
    if folder is not None:  # and a file that a crash of the machine has cut
        (folder / "batch-0000001.npy").write_bytes(b"\x93NUMPY")
    again = load("one")
    again.origin = first.origin
    with monkeypatch.context() as patch:
        done = dying(patch, after=9)
        assert np.array_equal(draw(again, batch=1, folder=folder), whole)
        assert done == [[t] for t in (TEXTS[2:] if cached else TEXTS[1:])]
        done.clear()
        assert np.array_equal(draw(again, batch=1, folder=folder), whole)
        assert not done
    assert not list((tmp_path / "cache" / "synthesis").glob("*"))


def test_a_folder_holds_one_synthesis(tmp_path):
    generator = load("one")
    draw(generator, folder=tmp_path / "a")
    with pytest.raises(BadInput, match="batches of another synthesis"):
        draw(generator, seed=2, folder=tmp_path / "a")
    with torch.no_grad():
        generator.unet.conv_out.bias.add_(0.5)
    with pytest.raises(BadInput, match="batches of another synthesis"):
        draw(generator, folder=tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "other.txt").write_text("mine")
    with pytest.raises(BadInput, match="expected an empty folder"):
        draw(generator, folder=tmp_path / "b")
