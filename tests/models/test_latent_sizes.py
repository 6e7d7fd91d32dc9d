"""What Stable Diffusion weighs, and the mathematics of its noise."""

from __future__ import annotations

import pytest
import torch
from test_latent import WIDTH, load
from test_latent_tiny import tiny

from fedloom.errors import BadInput
from fedloom.models.generators.latent_schedule import (
    PREDICTIONS,
    noised,
    prediction_of,
    sampler,
    snr_weight,
    target,
)
from fedloom.models.generators.latent_sizes import family_configs
from latent_counts import count, counts, folder_configs

# As published with the weights; LoRA: rank (in + out) a matrix, four matrices an attention.
UNETS = {"sd-1.5": 859_520_964, "sd-2.1": 865_910_724, "sd-xl": 2_567_463_684}
TEXTS = {"sd-1.5": [123_060_480], "sd-2.1": [340_387_840], "sd-xl": [123_060_480, 694_659_840]}
LORA8 = {"sd-1.5": 1_594_368, "sd-2.1": 1_659_904, "sd-xl": 11_612_160}


@pytest.mark.parametrize("family", UNETS)
def test_published_families(family):
    found = counts(family_configs(family), lora=8)
    assert found["unet"] == UNETS[family]
    assert found["vae"] == 83_653_863
    assert [n for part, n in found.items() if part.startswith("text")] == TEXTS[family]
    assert found["lora"] == LORA8[family]


def test_unknown_family():
    with pytest.raises(BadInput, match="Did you mean 'sd-xl'"):
        family_configs("sdxl")


@pytest.mark.parametrize("kind", ["one", "xl"])
def test_folders_are_counted_as_they_are_loaded(kind):
    generator = load(kind, train="lora", rank=3, precision="bf16")
    known = counts(folder_configs(tiny(kind)), lora=3)
    loaded = {part: count(module) for part, module in generator.named_children() if module is not None}
    bridge = loaded.pop("bridge")
    assert loaded == {k: n for k, n in known.items() if k != "lora"} | {"unet": known["unet"] + known["lora"]}
    assert sum(p.numel() for p in generator.trainable()) == known["lora"] + bridge
    assert bridge == WIDTH * (40 + 24 if kind == "xl" else 16)
    sizes = {torch.float32: 0, torch.bfloat16: 0}
    for p in generator.parameters():
        sizes[p.dtype] += p.numel()
    assert sizes[torch.float32] == known["lora"] + known["vae"] + bridge
    assert sizes[torch.bfloat16] == sum(known.values()) - known["lora"] - known["vae"]


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_targets_and_noise_against_diffusers(kind):
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    draws = torch.Generator().manual_seed(0)
    x0, noise = torch.randn((2, 3, 4, 4, 4), generator=draws)
    t = torch.tensor([0, 500, 999])
    kept = theirs.alphas_cumprod[t]
    assert torch.allclose(noised(x0, noise, kept), theirs.add_noise(x0, noise, t), atol=1e-6)
    wanted = {"epsilon": noise, "sample": x0, "v_prediction": theirs.get_velocity(x0, noise, t)}[kind]
    assert torch.allclose(target(kind, x0, noise, kept), wanted, atol=1e-6)


def test_snr_weights_are_one_weight_on_the_picture():
    """Whatever is said, the error it makes in x_0 weighs min(snr, gamma)."""
    kept = torch.tensor([0.999, 0.9, 0.5, 0.1])
    snr = kept / (1 - kept)
    on_x0 = {
        "sample": 1.0,
        "epsilon": snr,
        "v_prediction": snr + 1,
    }  # squared error of each, an error of 1 in x_0
    for kind in PREDICTIONS:
        assert torch.allclose(snr_weight(kind, kept, 5.0) * on_x0[kind], snr.clamp(max=5.0), rtol=1e-4)
    assert float(snr_weight("epsilon", torch.zeros(1), 5.0)) == 1.0


def test_schedulers_that_do_not_fit():
    from diffusers import FlowMatchEulerDiscreteScheduler, PNDMScheduler

    with pytest.raises(BadInput, match="no DDPM schedule"):
        prediction_of(FlowMatchEulerDiscreteScheduler())
    own = PNDMScheduler()
    with pytest.raises(BadInput, match="PNDM needs 4 steps or more, sampling_steps = 3"):
        sampler("own", own, 3)
    assert sampler("own", PNDMScheduler(skip_prk_steps=True), 1)
    with pytest.raises(BadInput, match="unknown sampler"):
        sampler("heun", own, 4)
