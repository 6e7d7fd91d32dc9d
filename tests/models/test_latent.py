"""The Stable Diffusion server: the stock pipeline's pictures, what conditioning changes, what is trained, the loss."""

from __future__ import annotations

import copy
import functools
from typing import Any

import numpy as np
import pytest
import torch
from test_latent_tiny import PICTURE, TEXTS, tiny

from fedloom.config.stable_diffusion import LatentSettings
from fedloom.errors import BadInput
from fedloom.models.fit import fit
from fedloom.models.generators.stable_diffusion import LatentGenerator, load_latent
from fedloom.models.pictures import to_float

WIDTH = 10
FUSED = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(3))
SOME = torch.tensor([True, False, False, True])
EVERYONE = torch.ones(4, dtype=torch.bool)
CASES = [("one", "add"), ("two", "token"), ("xl", "add"), ("xl", "token"), ("xl", "pooled")]


@functools.cache
def loaded(kind: str, **settings: Any) -> LatentGenerator:
    return load_latent(LatentSettings(pretrained=str(tiny(kind)), **settings), WIDTH)


def load(kind: str, mode: Any = "add", **settings: Any) -> LatentGenerator:
    """A generator of its own; read from disk once a test session."""
    options = {"sampling_steps": 2, "guidance": 3.0, "sampler": "ddim", "batch": 2} | settings
    generator = copy.deepcopy(loaded(kind, **options))
    generator.condition = mode
    return generator


def awake(generator: LatentGenerator) -> LatentGenerator:
    """The generator with a W_r that says something."""
    torch.nn.init.normal_(generator.bridge.weight, generator=torch.Generator().manual_seed(7))
    return generator


def pictures(n: int = 4, side: int = 20) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return to_float(rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8))


def outputs(generator, *conditions):
    """What the UNet says on fixed noise."""
    with torch.no_grad():
        said = generator.conditioned(TEXTS, *conditions)
        x = torch.randn((4, 4, 16, 16), generator=torch.Generator().manual_seed(6))
        return generator.denoise(x, torch.tensor([900, 500, 20, 1]), *said)


def loss_of(generator, *conditions, **options):
    return generator.loss(pictures(), TEXTS, torch.Generator().manual_seed(5), *conditions, **options)


def stock(kind):
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(tiny(kind), local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


# -------------------------------------------------------------------------------------------------------- the pictures


@pytest.mark.parametrize("kind", ["one", "two", "xl"])
def test_pictures_are_the_stock_pipelines(kind):
    generator = load(kind)
    seeds = torch.randint(2**62, (2,), generator=torch.Generator().manual_seed(1)).tolist()
    noise = [torch.randn((4, 16, 16), generator=torch.Generator().manual_seed(s)) for s in seeds]
    options = {"num_inference_steps": 2, "guidance_scale": 3.0, "latents": torch.stack(noise)}
    theirs = stock(kind)(TEXTS[:2], **options).images  # PIL
    drawn = generator.synthesize(TEXTS[:2], torch.Generator().manual_seed(1))
    assert drawn.shape == (2, PICTURE, PICTURE, 3)
    assert np.array_equal(drawn, np.stack([np.asarray(picture) for picture in theirs]))


@pytest.mark.parametrize(("kind", "mode"), CASES)
def test_the_unet_without_a_map_is_the_stock_one(kind, mode):
    generator, pipe = load(kind, mode), stock(kind)
    x = torch.randn((1, 4, 16, 16), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        said = (
            pipe.encode_prompt(TEXTS[0], "cpu", 1, False)
            if kind != "xl"
            else pipe.encode_prompt(TEXTS[0], do_classifier_free_guidance=False)
        )
        added = {}
        if kind == "xl":
            sizes = torch.tensor([[PICTURE, PICTURE, 0, 0, PICTURE, PICTURE]], dtype=torch.float32)
            added = {"added_cond_kwargs": {"text_embeds": said[2], "time_ids": sizes}}
        theirs = pipe.unet(x, 500, said[0], **added).sample
        ours = generator.denoise(x, torch.tensor([500]), *generator.conditioned(TEXTS[:1], FUSED[:1], None))
    assert not generator.bridge.weight.any()
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["ddim", "dpm++", "euler", "own"])
def test_samplers(name):
    generator = load("two", sampler=name, sampling_steps=2)
    drawn = [generator.synthesize(TEXTS[:2], torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    assert type(generator.pipe.scheduler).__name__ == "DDIMScheduler"  # the folder's own is back


def test_a_picture_depends_on_its_own_seed():
    generator = load("one")

    def draw(n, **options):
        return generator.synthesize(TEXTS[:n], torch.Generator().manual_seed(0), **options).astype(int)

    assert np.abs(draw(4) - draw(4, batch=3)).max() <= 1
    small = draw(2, side=12)
    assert small.shape == (2, 12, 12, 3)
    assert draw(0).shape == (0, PICTURE, PICTURE, 3)
    plain = load("one", attention_slicing=True, vae_slicing=True, vae_tiling=True)
    assert np.abs(plain.synthesize(TEXTS, torch.Generator().manual_seed(0)) - draw(4)).max() <= 1


@pytest.mark.parametrize(("kind", "precision"), [("one", "bf16"), ("xl", "fp16")])
def test_half_precision_draws_about_the_same(kind, precision):
    generator = load(kind, precision=precision)
    drawn = generator.synthesize(TEXTS[:2], torch.Generator().manual_seed(0)).astype(int)
    assert np.abs(drawn - load(kind).synthesize(TEXTS[:2], torch.Generator().manual_seed(0))).mean() < 3
    assert generator.vae.dtype == torch.float32


# -------------------------------------------------------------------------------------------------------- conditioning


@pytest.mark.parametrize(("kind", "mode"), CASES)
def test_the_map_is_heard_where_it_is_not_left_out(kind, mode):
    generator = load(kind, mode)
    plain = outputs(generator, None, None)
    assert torch.equal(outputs(generator, FUSED, None), plain)  # W_r is zero
    awake(generator)
    said, mixed = outputs(generator, FUSED, None), outputs(generator, FUSED, SOME)
    assert not torch.allclose(plain, said)
    assert torch.allclose(mixed[SOME], plain[SOME], atol=1e-5)
    assert torch.allclose(mixed[~SOME], said[~SOME], atol=1e-5)
    assert torch.equal(outputs(generator, FUSED, EVERYONE), plain)
    assert torch.equal(loss_of(generator, FUSED, EVERYONE), loss_of(generator))


@pytest.mark.parametrize("mode", ["add", "token"])
def test_slices_of_attention_respect_the_mask(mode):
    whole, sliced = awake(load("one", mode)), awake(load("one", mode, attention_slicing=True))
    assert torch.allclose(outputs(whole, FUSED, SOME), outputs(sliced, FUSED, SOME), atol=1e-5)


def test_modes():
    with pytest.raises(BadInput, match=r"condition 'pooled': .* allows add, token"):
        load_latent(LatentSettings(pretrained=str(tiny("one"))), WIDTH, "pooled")
    generator = load("two")
    with pytest.raises(BadInput, match="allows add, token"):
        generator.condition = "pooled"
    with pytest.raises(BadInput, match="XL allows add, token, pooled"):
        load("xl", "tokens")


def test_texts_are_read_once_and_few_are_kept():
    generator = load("xl", keep_texts=2)
    tokens, pooled = generator.embed([*TEXTS, "", TEXTS[0]])
    assert tokens.shape == (6, 20, 40)
    assert pooled.shape == (6, 24)
    assert torch.equal(tokens[0], tokens[5])
    assert not tokens[4].any()  # as guidance has it
    assert not pooled[4].any()
    assert len(generator._texts) == 2
    generator.read(TEXTS)
    assert torch.allclose(generator.embed(TEXTS)[0], tokens[:4], atol=1e-5)
    assert load("one").embed(["iris"])[1].shape == (1, 0)


# ------------------------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize(
    ("kind", "mode", "train"),
    [(*CASES[0], "unet"), (*CASES[1], "lora"), (*CASES[2], "lora"), (*CASES[4], "unet")],
)
def test_only_what_is_to_learn_learns(kind, mode, train):
    generator = load(kind, mode, train=train, rank=2)
    before = {k: v.clone() for k, v in generator.state_dict().items()}
    optimizer = torch.optim.AdamW(generator.trainable(), 1e-3, weight_decay=0.0, fused=True)
    generator.train()
    assert not generator.vae.training
    assert not generator.text_encoder.training
    fit(optimizer, range(2), lambda _: loss_of(generator, FUSED, SOME))
    with_gradient = {name for name, p in generator.named_parameters() if p.grad is not None}
    assert all(name.startswith(("unet.", "bridge.")) for name in with_gradient)
    assert all("lora_" in name for name in with_gradient if train == "lora" and name != "bridge.weight")
    changed = {k for k, v in generator.state_dict().items() if not torch.equal(v, before[k])}
    assert "bridge.weight" in changed  # in every mode: a W_r of zero must be able to leave it
    assert changed == with_gradient
    assert any(name.startswith("unet.") for name in changed)
    rows = generator.bridge.weight.abs().sum(1) > 0
    assert rows[: generator.tokens_width].any() == (mode != "pooled")


@pytest.mark.parametrize(("train", "precision"), [("unet", "fp32"), ("lora", "bf16")])
def test_loss_falls(train, precision):
    generator = load("one", train=train, precision=precision, rank=4)
    dtypes = {p.dtype for p in generator.trainable()}
    assert dtypes == {torch.float32}
    rate = 1e-2 if train == "unet" else 6e-2
    optimizer = torch.optim.AdamW(generator.trainable(), rate, weight_decay=0.0, fused=True)
    two = pictures(2, 32)

    def objective(step):
        return generator.loss(two, TEXTS[:2], torch.Generator().manual_seed(step % 4), FUSED[:2])

    with torch.no_grad():
        before = float(sum(objective(i) for i in range(4)))
    fit(optimizer, range(8), objective)
    with torch.no_grad():
        after = float(sum(objective(i) for i in range(4)))
    assert after < (0.8 if train == "unet" else 0.97) * before


@pytest.mark.parametrize("kind", ["one", "two"])
def test_loss_against_the_formula(kind):
    """By hand: one picture at a time, alpha-bar from the betas, epsilon or v."""
    generator, pipe = load(kind), stock(kind)
    images = pictures(2, PICTURE)
    with torch.no_grad():
        loss = generator.loss(images, TEXTS[:2], torch.Generator().manual_seed(5))
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
        a = torch.cumprod(1 - betas, 0)
        if kind == "two":  # rescaled so that the last step has no signal (arXiv 2305.08891)
            root = a.sqrt()
            a = ((root - root[-1]) * root[0] / (root[0] - root[-1])).square()
        draws = torch.Generator().manual_seed(5)
        noise = torch.randn((2, 4, 16, 16), generator=draws)
        t = torch.randint(1000, (2,), generator=draws)
        total = 0.0
        for i in range(2):
            x0 = pipe.vae.encode(images[i : i + 1]).latent_dist.mean[0] * pipe.vae.config.scaling_factor
            signal, rest = float(a[t[i]]) ** 0.5, (1 - float(a[t[i]])) ** 0.5
            said = pipe.encode_prompt(TEXTS[i], "cpu", 1, False)[0]
            out = pipe.unet((signal * x0 + rest * noise[i])[None], t[i], said).sample[0]
            wanted = signal * noise[i] - rest * x0 if kind == "two" else noise[i]
            total += float((out - wanted).square().mean()) / 2
    assert float(loss) == pytest.approx(total, rel=1e-4)


def test_loss_is_named_by_its_draws_and_reads_pictures_once(monkeypatch):
    generator = load("one", min_snr=0.1)
    first = loss_of(generator)
    assert torch.isfinite(first)
    assert not torch.equal(first, generator.loss(pictures(), TEXTS, torch.Generator().manual_seed(6)))
    assert not torch.equal(first, loss_of(load("one")))  # weighted otherwise
    latents = generator.encode(pictures())
    assert latents.shape == (4, 4, 16, 16)
    calls: list[int] = []
    monkeypatch.setattr(generator.vae, "encode", lambda *a: calls.append(1))
    assert torch.equal(loss_of(generator), first)
    assert torch.equal(loss_of(generator, latents=latents), first)
    assert not calls


def test_pictures_of_any_size_are_resized():
    generator = load("one", keep_latents=0)
    flat = torch.full((1, 3, 64, 48), 0.25)
    assert torch.allclose(generator.encode(flat), generator.encode(flat[..., :32, :32]), atol=1e-5)
    assert not generator._codes.known


def test_what_draws_only_says_so():
    generator = load("one", precision="fp16")
    with pytest.raises(BadInput, match=r"fp16.* allowed for training: fp32, bf16"):
        loss_of(generator)
    with torch.no_grad():
        assert torch.isfinite(loss_of(generator))


def test_the_tuner_tunes_it():
    from fedloom.methods.base import ServerContext
    from fedloom.methods.shared_messages import TuningSettings
    from fedloom.methods.tuning import Tuner

    generator = load("xl", side=16)
    before, generator.origin = generator.weights_print(), "weights of this test"
    tools = ServerContext(("iris", "rose"), ("iris", "rose"), WIDTH, 0, 2, generator=generator)
    tuner = Tuner(tools, TuningSettings(tune_steps=2, tune_batch=2, omit=0.5, condition="pooled"))
    drawn = generator.synthesize(TEXTS[:2], tools.draws(1, "synthesis"))
    assert drawn.shape == (2, generator.size, generator.size, 3) == (2, 16, 16, 3)
    tuner.add(drawn, torch.tensor([0, 1]), (), FUSED[:2])
    assert np.isfinite(tuner.tune(1))
    assert generator.origin is None
    after = generator.weights_print()
    assert after != before
    kept = tuner.state()
    tuner.tune(2)
    tuner.load_state(*kept)
    assert generator.weights_print() == after
    with pytest.raises(BadInput, match="allows add, token"):
        Tuner(
            ServerContext(("iris",), ("iris",), WIDTH, 0, 2, generator=load("one")),
            TuningSettings(condition="pooled"),
        )


def test_checkpointed_activations_give_the_same_gradients():
    grads = []
    for checkpointing in (False, True):
        generator = load("one", checkpointing=checkpointing).train()
        loss_of(generator, FUSED).backward()
        grads.append([p.grad for p in generator.trainable()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*grads))
