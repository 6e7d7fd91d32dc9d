"""GLIDE's networks and tokens beside numbers of the published code.

The expected numbers were computed once with openai/glide-text2im (69b5307) on the weights and inputs that `hashed`
makes. The project does not import it.
"""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedloom.errors import BadInput
from fedloom.models.generators.glide.convert import from_published, to_published
from fedloom.models.generators.glide.layers import Attention
from fedloom.models.generators.glide.networks import UPSAMPLER, GlideTextEncoder, GlideUNet
from fedloom.models.generators.glide.tokenizer import build_tokenizer, byte_letters, encode

MERGES = "#version: 0.2\na t\nĠ c\nĠc at\nr e\nre d\n"
TEXT = {"vocabulary": 262, "length": 7, "width": 24, "layers": 2, "heads": 3}
SHAPE = {"channels": 32, "layers": 1, "head_channels": 16, "cross_attention_dim": 24}
BASE = SHAPE | {"sample_size": 16, "multipliers": (1, 2), "attention_sides": (8,)}
UP = SHAPE | {
    "sample_size": 32,
    "multipliers": (1, 1, 2),
    "attention_sides": (16, 8),
    "low_resolution": True,
}


def hashed(shape: tuple[int, ...], seed: int) -> Tensor:
    """Numbers that look random, spread evenly over [-1, 1], the same on every machine and version."""
    n = np.arange(int(np.prod(shape)), dtype=np.float64)
    wild = np.sin(n * 12.9898 + seed * 78.233) * 43758.5453
    return torch.from_numpy((2 * (wild - np.floor(wild)) - 1).reshape(shape)).float()


def published(sizes: dict[str, Any]) -> dict[str, Tensor]:
    """A state dict with the release's names and fixed weights, as the checkpoint of a GLIDE of these sizes has it."""
    with torch.device("meta"):
        shapes = to_published(GlideTextEncoder(**TEXT), GlideUNet(**sizes))
    state = {}
    for seed, (name, value) in enumerate(sorted(shapes.items())):
        row = hashed(tuple(value.shape), seed)
        if value.dim() == 1:
            state[name] = 0.1 * row + float(name.endswith("weight"))
        else:
            state[name] = row * (3 / value[0].numel()) ** 0.5
    return state


def networks(sizes: dict[str, Any]) -> tuple[GlideTextEncoder, GlideUNet]:
    with torch.device("meta"):
        pair = GlideTextEncoder(**TEXT).eval(), GlideUNet(**sizes).eval()
    from_published(published(sizes), *pair)
    return pair


def inputs(side: int) -> dict[str, Tensor]:
    """Two noisy pictures, their steps, two texts of 3 and 7 tokens, and smaller pictures."""
    ids = torch.tensor([[5, 260, 17, 261, 261, 261, 261], [1, 2, 3, 258, 257, 90, 44]])
    return {
        "x": 1.7 * hashed((2, 3, side, side), 1001),
        "t": torch.tensor([17, 903]),
        "ids": ids,
        "mask": torch.arange(7)[None] < torch.tensor([[3], [7]]),
        "low": hashed((2, 3, side // 4, side // 4), 1002),
    }


def predict(sizes: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Text states, their last, and the U-Net's output on `inputs`."""
    encoder, unet = networks(sizes)
    given = inputs(sizes["sample_size"])
    low = given["low"] if "low_resolution" in sizes else None
    with torch.no_grad():
        tokens, pooled = encoder(given["ids"], given["mask"])
        return tokens, pooled, unet(given["x"], given["t"], tokens, pooled, low_res=low).sample


def near(actual: Tensor, expected: list[float], within: float = 1e-4) -> None:
    torch.testing.assert_close(actual.flatten(), torch.tensor(expected), rtol=0, atol=within)


@pytest.mark.parametrize(
    ("sizes", "parameters", "names"),
    [
        ({}, 385_030_726, "5831aceada817bc8"),
        (UPSAMPLER, 398_361_286, "6508b479e01fb271"),
    ],
)
def test_sizes_and_names_of_the_release(sizes, parameters, names):
    with torch.device("meta"):
        state = to_published(GlideTextEncoder(), GlideUNet(**sizes))
    assert sum(value.numel() for value in state.values()) == parameters
    rows = "\n".join(f"{name} {tuple(value.shape)}" for name, value in sorted(state.items()))
    assert hashlib.sha256(rows.encode()).hexdigest()[:16] == names


def test_base_model_equals_the_published_one():
    tokens, pooled, out = predict(BASE)
    near(tokens[:, 1, :4], [0.644030, 0.658575, -1.225219, -1.995987, -0.214190, -1.241379, 1.496146, 0.606464])
    near(pooled[:, ::6], [1.181238, 0.071375, 0.474832, -0.391590, 0.037487, -0.229958, 0.110406, -0.216600])
    near(
        out[:, :, 3, 5],
        [
            -0.313557,
            -0.167588,
            -0.003413,
            0.401350,
            -0.057292,
            0.317170,
            0.097966,
            -0.029794,
            -0.072686,
            -1.021875,
            -0.459597,
            0.506269,
        ],
    )
    assert float(out.square().mean()) == pytest.approx(0.305094, abs=1e-4)


def test_upsampler_equals_the_published_one():
    _, _, out = predict(UP)
    assert out.shape == (2, 6, 32, 32)
    near(
        out[:, :, 13, 22],
        [
            -1.428454,
            0.760364,
            0.386756,
            0.676946,
            -0.620460,
            -0.017591,
            -0.002682,
            0.964459,
            0.467981,
            1.292772,
            0.194842,
            -0.507641,
        ],
    )
    assert float(out.square().mean()) == pytest.approx(0.323127, abs=1e-4)


def test_names_go_both_ways():
    state = published(UP)
    encoder, unet = networks(UP)
    again = to_published(encoder, unet)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], state[name]) for name in state)
    assert unet.middle[0].attention.qkv.weight.dim() == 2
    assert state["middle_block.1.qkv.weight"].dim() == 3


def test_a_masked_token_is_not_there():
    """FedMMKT adds a token and masks it where it says nothing."""
    encoder, unet = networks(BASE)
    given = inputs(16)
    with torch.no_grad():
        tokens, pooled = encoder(given["ids"], given["mask"])
        more = torch.cat([tokens, hashed((2, 1, 24), 3)], dim=1)
        heard = torch.ones(2, 8, dtype=torch.bool)
        heard[0, 7] = False
        plain = unet(given["x"], given["t"], tokens, pooled).sample
        out = unet(given["x"], given["t"], more, pooled, encoder_attention_mask=heard).sample
    torch.testing.assert_close(out[0], plain[0], rtol=0, atol=1e-5)
    assert (out[1] - plain[1]).abs().max() > 1e-3


def test_heads_at_once_change_nothing():
    encoder, unet = networks(BASE)
    given = inputs(16)
    with torch.no_grad():
        tokens, pooled = encoder(given["ids"], given["mask"])
        whole = unet(given["x"], 5, tokens, pooled).sample
        for slices in ("auto", "max", 3):
            unet.set_attention_slice(slices)
            out = unet(given["x"], 5, tokens, pooled).sample
            torch.testing.assert_close(out, whole, rtol=0, atol=1e-5)
    assert {part.slices for part in unet.modules() if isinstance(part, Attention)} == {3}


def test_training_reaches_every_weight():
    encoder, unet = networks(BASE)
    unet.train().enable_gradient_checkpointing()
    given = inputs(16)
    tokens, pooled = encoder(given["ids"], given["mask"])
    unet(given["x"], given["t"], tokens.detach(), pooled.detach()).sample.square().sum().backward()
    assert [n for n, p in unet.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_half_precision_is_near():
    encoder, unet = networks(BASE)
    given = inputs(16)
    with torch.no_grad():
        tokens, pooled = encoder(given["ids"], given["mask"])
        whole = unet(given["x"], given["t"], tokens, pooled).sample
        out = unet.to(torch.bfloat16)(given["x"], given["t"], tokens, pooled).sample
    assert out.dtype == torch.float32
    assert (out - whole).square().mean().sqrt() < 0.02


def test_tokens_are_those_of_the_release(tmp_path: Path):
    (tmp_path / "vocab.bpe").write_text(MERGES, encoding="utf-8")
    (tmp_path / "vocab.bpe.gz").write_bytes(gzip.compress(MERGES.encode()))
    tokenizer = build_tokenizer(tmp_path / "vocab.bpe", length=12)
    texts = ["", "A red cat", "  cats\n sat.", "<|endoftext|>", "ΟΔΟΣ é", "it'll cat cat cat cat cat"]
    ids, mask = encode(tokenizer, texts)
    assert mask.sum(1).tolist() == [0, 4, 8, 12, 11, 10]
    assert [row[seen].tolist() for row, seen in zip(ids, mask)] == [
        [],
        [64, 220, 260, 258],
        [220, 258, 82, 198, 220, 82, 256, 13],
        [27, 91, 68, 77, 67, 78, 69, 83, 68, 87, 83, 91],
        [138, 123, 138, 112, 138, 123, 139, 224, 220, 127, 102],
        [72, 83, 6, 75, 75, 258, 258, 258, 258, 258],
    ]
    assert ids[~mask].unique().tolist() == [261]
    assert encode(build_tokenizer(tmp_path / "vocab.bpe.gz", length=12), texts)[0].equal(ids)
    assert tokenizer.decode(ids[1][mask[1]]) == "a red cat"
    assert len(set(byte_letters())) == 256


@pytest.mark.parametrize("text", ["#version\na t b\n", "#version\na Q?\n", "#version\na t\nat\n", "#v\na t\na t\n"])
def test_a_wrong_vocabulary_is_named(tmp_path: Path, text: str):
    (tmp_path / "vocab.bpe").write_text(text)
    with pytest.raises(BadInput, match=r"^vocabulary .*vocab\.bpe[^\n]*$"):
        build_tokenizer(tmp_path / "vocab.bpe")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sample_size": 15}, "cannot halve 15 px"),
        ({"channels": 48}, "32 norm groups do not divide 48"),
        ({"head_channels": 24}, "heads of 24 channels do not divide 64"),
    ],
)
def test_sizes_that_do_not_fit(change, message):
    with pytest.raises(BadInput, match=message):
        GlideUNet(**BASE | change)


def test_wrong_inputs_of_the_networks():
    encoder, unet = networks(BASE)
    tokens, pooled = hashed((1, 7, 24), 0), hashed((1, 24), 0)
    with pytest.raises(BadInput, match="takes no smaller picture"):
        unet(hashed((1, 3, 16, 16), 0), 1, tokens, pooled, low_res=hashed((1, 3, 4, 4), 0))
    with pytest.raises(BadInput, match="wanted: square, a multiple of 2"):
        unet(hashed((1, 3, 15, 15), 0), 1, tokens, pooled)
    with pytest.raises(BadInput, match="texts of 7 tokens, these have 5"):
        encoder(torch.zeros(1, 5, dtype=torch.int64), torch.ones(1, 5, dtype=torch.bool))
    with pytest.raises(BadInput, match="3 heads do not divide the width 25"):
        GlideTextEncoder(**TEXT | {"width": 25})
