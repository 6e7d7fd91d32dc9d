"""Tiny random Stable Diffusion folders, built here and saved as diffusers saves them: 1.5-like, 2.1-like, XL."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

torch.set_num_threads(1)

MODALITIES = ("one", "two", "xl")
PICTURE = 32  # side in pixels
TEXTS = ["a red iris", "a blue rose", "a picture of a red rose", "iris"]


@functools.cache
def tiny(kind: str) -> Path:
    """The folder of one of `MODALITIES`; it lives as long as this process. Never written to."""
    folder = Path(tempfile.mkdtemp(prefix="fedloom-latent-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        build(kind).save_pretrained(folder / kind)
    return folder / kind


def tokenizer() -> Any:
    from transformers import CLIPTokenizer

    letters = sorted(set("".join(TEXTS)) - {" "})
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{x}</w>" for x in letters)]
    return CLIPTokenizer(
        vocab={w: i for i, w in enumerate(words)},
        merges=[],
        bos_token=words[0],
        eos_token=words[1],
        unk_token=words[1],
        pad_token=words[1],
        model_max_length=20,
    )


def text_encoder(tokens: Any, width: int, projected: bool) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    shape = CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokens.model_max_length,
        projection_dim=width,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(shape).eval()


def build(kind: str) -> Any:
    """The pipeline, random. `two` speaks v on a schedule that ends without signal; the others speak epsilon."""
    import diffusers

    xl, tokens = kind == "xl", tokenizer()
    added = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 24,
        "transformer_layers_per_block": (1, 1),
    }
    parts: dict[str, Any] = {
        "unet": diffusers.UNet2DConditionModel(
            sample_size=16,
            block_out_channels=(16, 32),
            layers_per_block=1,
            norm_num_groups=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=40 if xl else 16,
            attention_head_dim=2 if kind == "one" else (2, 4),
            use_linear_projection=kind != "one",
            **(added if xl else {}),
        ),
        "vae": diffusers.AutoencoderKL(
            block_out_channels=(8, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
            latent_channels=4,
            sample_size=PICTURE,
        ),
        "scheduler": diffusers.DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
            prediction_type="v_prediction" if kind == "two" else "epsilon",
            rescale_betas_zero_snr=kind == "two",
        ),
        "tokenizer": tokens,
        "text_encoder": text_encoder(tokens, 16, projected=False),
    }
    if xl:
        second = {"tokenizer_2": tokens, "text_encoder_2": text_encoder(tokens, 24, projected=True)}
        return diffusers.StableDiffusionXLPipeline(**parts, **second, add_watermarker=False)
    return diffusers.StableDiffusionPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )


@pytest.mark.parametrize("kind", MODALITIES)
def test_they_are_stock_folders(kind):
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(tiny(kind), local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    pictures = pipe(TEXTS[0], num_inference_steps=2, output_type="np").images
    assert pictures.shape == (1, PICTURE, PICTURE, 3)
