"""GLIDE's pipeline and converter: numbers of the published code, round trips, and wrong input.

The expected pictures were computed once with openai/glide-text2im (69b5307), as its notebook draws, on the weights and
noise that `hashed` makes.
"""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_glide import BASE, MERGES, TEXT, UP, hashed, published
from test_glide import near as nearer
from torch import Tensor

from fedloom.errors import BadInput
from fedloom.models.generators.glide.convert import convert, from_published, read_published, to_published
from fedloom.models.generators.glide.networks import GlideTextEncoder, GlideUNet
from fedloom.models.generators.glide.pipeline import GlidePipeline, load_glide

PROMPTS = ["A red cat", "cats"]
SHORT: dict[str, Any] = {"num_inference_steps": 3, "upsampling_steps": 2, "output_type": "pt"}

near = partial(nearer, within=1e-3)  # after a dozen steps, with whatever kernels


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user has it: base.pt, upsample.pt in half precision, vocab.bpe; and `out`, what became of them."""
    folder = tmp_path_factory.mktemp("glide")
    torch.save(published(BASE), folder / "base.pt")
    torch.save({name: value.half() for name, value in published(UP).items()}, folder / "upsample.pt")
    (folder / "vocab.bpe").write_text(MERGES, encoding="utf-8")
    sizes = {"text": TEXT, "base": BASE, "upsampler": UP}
    convert(folder / "base.pt", folder / "upsample.pt", folder / "vocab.bpe", folder / "out", **sizes)
    return folder


@pytest.fixture
def pipe(files: Path) -> GlidePipeline:
    loaded = load_glide(files / "out")
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.fixture
def noise() -> Tensor:
    return 1.7 * hashed((2, 3, 16, 16), 2001)


def drawn(shape: Any, *_: Any, **__: Any) -> Tensor:
    """In place of random numbers: the same for every step."""
    return 1.7 * hashed(tuple(shape)[1:], 2002)[None].expand(next(iter(shape)), -1, -1, -1)


def test_pictures_equal_the_published_ones(pipe, noise, monkeypatch):
    """Ancestral at 16 px with guidance 3, then DDIM at 32 px."""
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", drawn)
    both = {
        "num_inference_steps": "5",
        "upsampling_steps": "2,1,1",
        "guidance_scale": 3.0,
        "output_type": "pt",
    }
    small = pipe(PROMPTS, noise=noise, **both)
    near(
        small[:, 0, 3, ::2],
        [
            -1.000000,
            1.000000,
            -0.675335,
            1.000000,
            1.000000,
            0.812721,
            -0.856148,
            1.000000,
            -1.000000,
            -0.986769,
            1.000000,
            -0.900197,
            1.000000,
            -1.000000,
            1.000000,
            -0.553215,
        ],
    )
    assert float(small.square().mean()) == pytest.approx(0.853633, abs=1e-3)
    pipe.upsampler.load_state_dict(full_precision().state_dict())  # `files` holds it in half
    large = pipe(PROMPTS, noise=noise, upsample=True, upsampling_noise=1.7 * hashed((2, 3, 32, 32), 2003), **both)
    near(
        large[:, 0, 13, ::4],
        [
            -1.000000,
            1.000000,
            -0.999116,
            -0.601348,
            1.000000,
            -1.000000,
            0.147854,
            1.000000,
            -1.000000,
            -0.377275,
            -1.000000,
            -1.000000,
            1.000000,
            1.000000,
            -1.000000,
            -1.000000,
        ],
    )
    assert float(large.square().mean()) == pytest.approx(0.923306, abs=1e-3)


def full_precision() -> GlideUNet:
    with torch.device("meta"):
        pair = GlideTextEncoder(**TEXT), GlideUNet(**UP)
    state = {name: value.half().float() for name, value in published(UP).items()}
    from_published(state, *pair)
    return pair[1]


def test_the_converted_folder_holds_the_same_weights(files, pipe):
    parts = ((pipe.text_encoder, pipe.unet, BASE), (pipe.upsampler_text_encoder, pipe.upsampler, UP))
    for encoder, unet, sizes in parts:
        wanted, kept = published(sizes), to_published(encoder, unet)
        assert wanted.keys() == kept.keys()
        for name, value in wanted.items():
            assert kept[name].equal(value.half().float() if sizes is UP else value), name
    assert not any(path.suffix in (".bin", ".pt") for path in (files / "out").rglob("*"))
    assert pipe.upsampler_scheduler.config.beta_schedule == "linear"
    assert not pipe.unet.training


def test_half_precision_and_a_base_model_alone(files, tmp_path):
    made = convert(files / "base.pt", None, files / "vocab.bpe", tmp_path / "half", torch.float16, text=TEXT, base=BASE)
    assert made.upsampler is None
    again = load_glide(tmp_path / "half", torch.float16)
    assert again.unet.dtype == torch.float16
    kept = to_published(again.text_encoder, again.unet)
    assert all(kept[name].equal(value.half()) for name, value in published(BASE).items())
    with pytest.raises(BadInput, match="has no upsampler"):
        again("a cat", upsample=True)


def test_saved_pipelines_draw_the_same(pipe, noise, tmp_path):
    from diffusers import DiffusionPipeline

    pipe.register_to_config(guidance=2.0, sampling_steps="3")
    first = pipe(PROMPTS, noise=noise, upsample=True, upsampling_steps=2, output_type="pt")
    pipe.save_pretrained(tmp_path)
    again = DiffusionPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert again(PROMPTS, noise=noise, upsample=True, upsampling_steps=2, output_type="pt").equal(first)


def test_noise_decides_everything(pipe, noise):
    first = pipe(PROMPTS, noise=noise, upsample=True, **SHORT)
    torch.manual_seed(5)
    assert pipe(PROMPTS, noise=noise, upsample=True, **SHORT).equal(first)
    alone = pipe(PROMPTS[1:], noise=noise[1:], upsample=True, **SHORT)
    torch.testing.assert_close(alone, first[1:], rtol=0, atol=5e-3)
    seeded = [pipe(PROMPTS, generator=torch.Generator().manual_seed(s), **SHORT) for s in (1, 1, 2)]
    assert seeded[0].equal(seeded[1])
    assert not seeded[0].equal(seeded[2])


def test_guidance_one_is_the_text_alone(pipe, noise, monkeypatch):
    rows: list[int] = []
    plain = type(pipe.unet).forward

    def forward(unet: GlideUNet, sample: Tensor, *rest: Any, **more: Any) -> Any:
        rows.append(len(sample))
        return plain(unet, sample, *rest, **more)

    monkeypatch.setattr(type(pipe.unet), "forward", forward)
    one = pipe(PROMPTS, noise=noise, guidance_scale=1.0, **SHORT)
    assert rows == [2, 2, 2]
    almost = pipe(PROMPTS, noise=noise, guidance_scale=1.0 + 1e-7, **SHORT)
    assert rows[3:] == [4, 4, 4]
    torch.testing.assert_close(one, almost, rtol=0, atol=1e-3)
    none = pipe(PROMPTS, noise=noise, guidance_scale=0.0, **SHORT)
    empty = pipe(["", ""], noise=noise, guidance_scale=1.0, num_inference_steps=3, output_type="pt")
    assert not one.equal(none)
    assert (none - empty).abs().mean() < (none - one).abs().mean()  # the variance is still that with text


def test_outputs(pipe):
    assert pipe("a cat", num_inference_steps=2).images[0].size == (16, 16)
    array = pipe(PROMPTS, num_inference_steps=2, upsampling_steps=2, upsample=True, output_type="np").images
    assert array.shape == (2, 32, 32, 3)
    assert array.dtype == np.uint8
    bare = pipe(PROMPTS, **SHORT)
    assert bare.dtype == torch.float32
    assert bare.abs().max() <= 1


def test_few_steps_of_another_scheduler(pipe, noise):
    from diffusers import DPMSolverMultistepScheduler

    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config, lambda_min_clipped=-5.1)
    out = pipe(PROMPTS, noise=noise, num_inference_steps=4, output_type="pt")
    assert out.isfinite().all()
    assert out.std() > 0.1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prompt": []}, "no prompt"),
        ({"output_type": "png"}, "output_type = 'png', allowed: pil, np, pt"),
        ({"noise": torch.zeros(1, 3, 16, 16)}, r"noise of shape \(1, 3, 16, 16\), wanted \(2, 3, 16, 16\)"),
        ({"num_inference_steps": "fast"}, "spacing = 'fast', allowed"),
        ({"num_inference_steps": 0}, "spacing = 0, allowed"),
    ],
)
def test_wrong_requests(pipe, given, message):
    with pytest.raises(BadInput, match=message):
        pipe(**{"prompt": PROMPTS, **given})


def test_wrong_checkpoints(files, tmp_path):
    state = published(BASE)

    def refused(name: str, content: Any, message: str, **sizes: Any) -> None:
        torch.save(content, tmp_path / name)
        sizes = {"text": TEXT, "base": BASE, **sizes}
        with pytest.raises(BadInput, match=message) as caught:
            convert(tmp_path / name, None, files / "vocab.bpe", tmp_path / "out", **sizes)
        assert "\n" not in str(caught.value)

    bare = {name: value for name, value in state.items() if name != "final_ln.bias"}
    refused("less.pt", bare, r"less\.pt has no 'final_ln.bias'")
    refused("more.pt", state | {"unemb.bias": torch.zeros(3)}, r"more\.pt has unknown 'unemb.bias'")
    refused("other.pt", state | {"final_ln.bias": torch.zeros(3)}, r"'final_ln.bias' has shape \(3,\)")
    refused("list.pt", [1, 2], "is no state dict")
    refused("vocabulary.pt", state, "has shape", text=TEXT | {"vocabulary": 300})
    with pytest.raises(BadInput, match="no such file"):
        read_published(tmp_path / "nothing.pt")
    (tmp_path / "code.pt").write_bytes(pickle.dumps({"a": Path("x")}, protocol=2))
    with pytest.raises(BadInput, match="no file of weights alone"):
        read_published(tmp_path / "code.pt")
    with pytest.raises(BadInput, match="no diffusers folder"):
        load_glide(tmp_path)


def test_a_tokenizer_of_another_vocabulary(files, tmp_path):
    (tmp_path / "vocab.bpe").write_text("#version\na t\n")
    with pytest.raises(BadInput, match="a tokenizer of 258 tokens, a text encoder of 262"):
        convert(files / "base.pt", None, tmp_path / "vocab.bpe", tmp_path / "out", text=TEXT, base=BASE)
