"""Generators on another device than the CPU, a pretended one: the CPU's numbers, handed out on the CPU; and in bf16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_glide_generator import tiny as glide
from test_latent_tiny import tiny as latent

from fedloom.config import load_config
from fedloom.config.models import GeneratorSettings
from fedloom.errors import BadInput
from fedloom.models.fit import fit
from fedloom.models.generators.families import check_given, load_family, load_pipeline
from fedloom.models.pictures import to_float
from pretend import DEVICE, pretended

WIDTH = 10
PROMPTS = ["a red iris", "a blue rose", "iris"]
FUSED = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(3))
MODALITIES = ("pixel", "one", "xl-lora", "glide")


@pytest.fixture
def made(generator: Any, tmp_path: Path) -> Any:
    """kind -> the settings of such a generator, and its folder."""

    def settings(kind: str, **options: Any) -> tuple[GeneratorSettings, Path]:
        tree: dict[str, Any] = {"sampling_steps": 2, "guidance": 2.0}
        if kind == "pixel":
            generator.save(tmp_path / "pixel")
            folder = tmp_path / "pixel"
        elif kind == "glide":
            folder = glide()
            tree["glide"] = {"batch": 2, "upsample": True, "upsampling_steps": 2} | options
        else:
            folder = latent(kind.partition("-")[0])
            train = "lora" if "lora" in kind else "unet"
            tree["latent"] = {"sampler": "ddim", "batch": 2, "train": train, "rank": 2} | options
        given = {"server": {"generator": tree | {"pretrained": str(folder)}}}
        return load_config(values=given).server.generator, folder

    return settings


def worked(settings: GeneratorSettings, folder: Path, device: str, precision: Any = "fp32") -> dict[str, Any]:
    """What a generator draws, then learns, then draws."""
    g = load_family(settings, folder, WIDTH, device=device, precision=precision)
    assert {p.device.type for p in g.parameters()} == {torch.device(device).type}
    images = to_float(np.random.default_rng(0).integers(0, 256, (3, 12, 12, 3), dtype=np.uint8))
    before = g.synthesize(PROMPTS, torch.Generator().manual_seed(1))
    optimizer = torch.optim.AdamW(g.trainable(), 1e-3, weight_decay=0.0, fused=True)
    draws, some = torch.Generator().manual_seed(2), torch.tensor([True, False, False])
    loss = fit(optimizer, range(2), lambda _: g.loss(images, PROMPTS, draws, FUSED, some))
    assert {p.dtype for p in g.trainable()} == {torch.float32}
    drawn = g.synthesize(PROMPTS, torch.Generator().manual_seed(1))
    kept = g.learned()
    assert {v.device.type for v in kept.values()} == {"cpu"}
    g.load_learned(kept)
    assert torch.equal(g.learned()["bridge.weight"], kept["bridge.weight"])
    return {"before": before, "loss": loss, "after": drawn} | kept


@pytest.mark.parametrize("kind", MODALITIES)
def test_the_same_numbers_as_on_the_cpu(kind, made):
    """What is drawn first to the last bit; then nearly, as other kernels are differentiated."""
    settings, folder = made(kind)
    here = worked(settings, folder, "cpu")
    with pretended():
        there = worked(settings, folder, DEVICE)
    assert np.array_equal(here["before"], there["before"])
    assert there["loss"] == pytest.approx(here["loss"], rel=1e-5)
    # Two of Adam's steps are 2e-3, also where a gradient is no more than what rounding leaves of nothing: on some
    # processors a few pixels differ by more than a level.
    assert (np.abs(here["after"].astype(int) - there["after"]) > 1).mean() < 0.01
    assert not np.array_equal(here["before"], here["after"])
    assert here["bridge.weight"].any()
    assert here.keys() == there.keys()
    for key in here.keys() - {"loss", "before", "after"}:
        assert (here[key] - there[key]).abs().mean() < 5e-4, key


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.conformance if k in ("xl-lora", "glide") else ()) for k in MODALITIES]
)
def test_in_bf16(kind, made):
    """Of GLIDE the base alone: where a processor has no instructions for bf16, larger pictures take very long."""
    base_alone = {"upsample": False, "upsampling_steps": None} if kind == "glide" else {}
    settings, folder = made(kind, **base_alone)
    whole, half = worked(settings, folder, "cpu"), worked(settings, folder, "cpu", "bf16")
    assert whole["loss"] != half["loss"] == pytest.approx(whole["loss"], rel=0.02)
    gap = np.abs(whole["before"].astype(int) - half["before"])
    assert 0 < gap.mean() < 8
    with pretended():
        there = worked(settings, folder, DEVICE, "bf16")
    assert there["loss"] == pytest.approx(whole["loss"], rel=0.02)


@pytest.mark.parametrize("kind", ["pixel", "glide"])
def test_fp16_draws_only(kind, made):
    settings, folder = made(kind)
    generator = load_family(settings, folder, WIDTH, precision="fp16")
    whole = load_family(settings, folder, WIDTH)
    drawn, wanted = (g.synthesize(PROMPTS, torch.Generator().manual_seed(1)) for g in (generator, whole))
    assert 0 < np.abs(drawn.astype(int) - wanted).mean() < 2
    images = torch.zeros(3, 3, 12, 12)
    with pytest.raises(BadInput, match=r"fp16.* allowed for training: fp32, bf16"):
        generator.loss(images, PROMPTS, torch.Generator())
    with torch.no_grad():
        assert torch.isfinite(generator.loss(images, PROMPTS, torch.Generator()))


@pytest.mark.parametrize("kind", ["one", "glide"])
def test_parts_that_wait_on_the_cpu(kind, made, tmp_path):
    settings, folder = made(kind)
    wanted = load_family(settings, folder, WIDTH).synthesize(PROMPTS, torch.Generator().manual_seed(1))
    waiting, _ = made(kind, offload=True, attention_slicing=True)
    with pretended():
        generator = load_family(waiting, folder, WIDTH, device=DEVICE)
        assert {p.device.type for p in generator.unet.parameters()} == {"cpu"}
        drawn = generator.synthesize(PROMPTS, torch.Generator().manual_seed(1))
        assert np.abs(drawn.astype(int) - wanted).max() <= 1  # sliced sums round otherwise
        with pytest.raises(BadInput, match="offload = True draws only"):
            generator.loss(torch.zeros(3, 3, 12, 12), PROMPTS, torch.Generator())
        generator.save(tmp_path / "saved")
    again = load_family(settings, tmp_path / "saved", WIDTH)
    assert np.array_equal(again.synthesize(PROMPTS, torch.Generator().manual_seed(1)), wanted)


@pytest.mark.parametrize("kind", MODALITIES)
def test_a_pipeline_draws_on_the_runs_device(kind, made):
    from fedloom.models.generators.drawing import prepare_drawing

    base_alone = {"upsample": False, "upsampling_steps": None} if kind == "glide" else {}
    settings, folder = made(kind, **base_alone)

    def drawn(device: str, precision: Any = "fp32", steps: int = 2) -> Any:
        pipe = load_pipeline(folder)
        with pretended():
            batch, draw = prepare_drawing(pipe, settings, steps, None, device, precision)
            return draw(PROMPTS[:batch], torch.Generator().manual_seed(1))

    here = drawn("cpu")
    assert here.dtype == np.uint8
    assert np.abs(drawn(DEVICE).astype(int) - here).max() <= 1  # devices are not promised to be equal
    assert 0 < np.abs(drawn("cpu", "bf16").astype(int) - here).mean() < 8
    assert not np.array_equal(drawn("cpu", steps=3), here)


def test_what_is_refused_before_anything_is_begun(made):
    tunes, draws = type("Tunes", (), {"tune_steps": 3}), type("Draws", (), {"tune_steps": 0})
    embedded = load_config(preset="smoke").server.generator
    for settings in (embedded, made("one")[0], made("glide")[0]):
        with pytest.raises(BadInput, match="device 'tpu'"):
            check_given(settings, draws(), device="tpu")
        with pytest.raises(BadInput, match=r"server.precision = 'fp16' draws only, .* tunes the generator"):
            check_given(settings, tunes(), precision="fp16")
        check_given(settings, draws(), precision="fp16")
    for kind, group in (("one", "latent"), ("glide", "glide")):
        waiting, _ = made(kind, offload=True)
        with pytest.raises(BadInput, match=f"server.generator.{group}.offload = True draws only"):
            check_given(waiting, tunes())
        with pytest.raises(BadInput, match=f"{group}.offload = True: .* server.device is 'cpu'"):
            check_given(waiting, draws())
        with pretended():
            check_given(waiting, draws(), device=DEVICE)
