"""Given generators are planned by the configurations in their folder alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedloom.config import load_config
from fedloom.data.sizes import DataSizes
from fedloom.errors import BadInput
from fedloom.planning.client_models import StandInTokenizer
from fedloom.planning.generators import generator_cost
from latent_counts import counts, folder_configs

WIDTH = 16
UNET = {
    "sample_size": 8,
    "block_out_channels": [8, 16],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "cross_attention_dim": 12,
    "attention_head_dim": 2,
}
VAE = {"block_out_channels": [8, 8], "norm_num_groups": 4, "latent_channels": 4, "layers_per_block": 1}
VAE |= {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
TEXT = {"hidden_size": 12, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
GLIDE = {
    "unet": {"sample_size": 16, "channels": 32, "multipliers": [1, 2], "layers": 1, "head_channels": 16},
    "text_encoder": {"vocabulary": 262, "length": 7, "width": 24, "layers": 2, "heads": 3},
}
GLIDE["unet"] |= {"attention_sides": [8], "cross_attention_dim": 24}


def folder(place: Path, name: str, parts: dict[str, dict[str, Any]]) -> str:
    """A folder of that pipeline without any weights."""
    place.mkdir()
    for part, config in parts.items():
        (place / part).mkdir(parents=True)
        (place / part / "config.json").write_text(json.dumps(config))
    (place / "model_index.json").write_text(json.dumps({"_class_name": name}))
    return str(place)


def planned(given: str, side: int, tuned: bool = True, **more: object) -> Any:
    keys = {"server.generator.pretrained": given, "clients.image": "[]"}
    keys |= {"clients.text": f"[{{arch: bert, width: {WIDTH}}}]", **more}
    config = load_config(overrides=[f"{k}={v}" for k, v in keys.items()])
    return generator_cost(config, StandInTokenizer(50, 7), DataSizes(3, side, {}), None, tuned)


def test_a_generator_with_an_autoencoder(tmp_path):
    """Of an exported one the side of pictures is 8 times that of latents, and the autoencoder is one of its models."""
    own = UNET | {"in_channels": 4, "out_channels": 4, "sample_size": 4, "projection_class_embeddings_input_dim": 12}
    parts = {"unet": own | {"class_embed_type": "projection"}, "text_encoder": TEXT | {"projection_dim": 12}}
    coder = {"_class_name": "PooledTinyAutoencoder", "latent_channels": 4, "width": 8}
    given = folder(tmp_path / "with", "PixelTextToImagePipeline", parts | {"autoencoder": coder})
    cost = planned(given, 32)
    names = [model.role for model in cost.models]
    assert (cost.side, "generator: autoencoder" in names) == (32, True)
    pixels = folder(
        tmp_path / "without", "PixelTextToImagePipeline", {**parts, "unet": parts["unet"] | {"in_channels": 3}}
    )
    plain = planned(pixels, 4)
    assert "generator: autoencoder" not in [model.role for model in plain.models]
    assert cost.drawing > plain.drawing
    other = folder(tmp_path / "other", "PixelTextToImagePipeline", parts | {"autoencoder": {"_class_name": "Kernel"}})
    with pytest.raises(BadInput, match="autoencoder: 'Kernel', allowed: AutoencoderTiny"):
        planned(other, 32)


@pytest.fixture(scope="module")
def stable(tmp_path_factory):
    parts = {"unet": UNET, "vae": VAE, "text_encoder": TEXT}
    return folder(tmp_path_factory.mktemp("given") / "sd", "StableDiffusionPipeline", parts)


@pytest.fixture(scope="module")
def drawn(stable):
    """In five steps, with guidance."""
    return planned(stable, 16, **{"server.generator.sampling_steps": 5, "server.generator.guidance": 3.0})


def test_stable_diffusion(stable, drawn):
    known = counts(folder_configs(stable))
    assert {p.role: (p.parameters, p.trained) for p in drawn.models} == {
        "generator: UNet": (known["unet"], known["unet"]),
        "generator: VAE": (known["vae"], 0),
        "generator: text encoder": (known["text_encoder"], 0),
        "generator: W_r": (WIDTH * 12, WIDTH * 12),
    }
    assert drawn.side == 16
    assert [p.exact for p in drawn.models] == [False, True, False, True]


def test_steps_and_guidance_are_what_drawing_costs(drawn):
    unet, vae, text, _ = drawn.models
    assert drawn.drawing == 5 * 2 * unet.load.forward + vae.load.forward + text.load.forward


def test_lora(stable, drawn):
    found = planned(stable, 16, **{"server.generator.latent": "{train: lora, rank: 3}"})
    assert found.models[0].trained == counts(folder_configs(stable), lora=3)["lora"]
    assert found.tuning < drawn.tuning
    assert found.models[0].load.kept < drawn.models[0].load.kept


def test_glide(tmp_path):
    given = folder(tmp_path / "glide", "GlidePipeline", GLIDE)
    found = planned(given, 16)
    assert [p.role for p in found.models] == [
        "generator: UNet",
        "generator: text encoder",
        "generator: W_r",
    ]
    unet, text, _ = found.models
    assert found.drawing == 100 * 2 * unet.load.forward + text.load.forward
    assert unet.source == given
    with pytest.raises(BadInput, match="draws 16 pixels, the data's pictures have 32; allowed: up to 16"):
        planned(given, 32)


def test_an_earlier_runs_generator(tmp_path):
    """Pixel blocks of 3 x 3 become channels: 8 x 3 pixels a side."""
    pooled = {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 10}
    unet = {**UNET, "in_channels": 27, "out_channels": 27, **pooled}
    text = {**TEXT, "projection_dim": 10, "vocab_size": 50, "max_position_embeddings": 7}
    given = folder(tmp_path / "own", "PixelTextToImagePipeline", {"unet": unet, "text_encoder": text})
    found = planned(given, 24)
    assert found.side == 24
    assert found.models[0].source == given
    assert found.tuning > 2 * found.models[0].load.forward


def test_other_pipelines(tmp_path):
    given = folder(tmp_path / "other", "FluxPipeline", {})
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(BadInput, match=r"server\.generator: .* holds a 'FluxPipeline', allowed: Stable"):
        planned(given, 16)
    with pytest.raises(BadInput, match="holds a bert, allowed: Stable Diffusion, GLIDE"):
        planned(str(tmp_path / "bert"), 16)
