"""The generator: what conditioning does and does not change, what is trained, and that it can be carried away."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedloom.config.models import GeneratorSettings
from fedloom.errors import BadInput
from fedloom.models.fit import fit
from fedloom.models.generators.pixel import build_generator, load_generator
from fedloom.models.pictures import to_float

MODES = ("add", "token", "pooled")
PROMPTS = ["a picture of iris", "a red flower", "a picture of iris", ""]
FUSED = torch.randn(4, 10, generator=torch.Generator().manual_seed(3))


def loss_of(generator, pictures, *conditions):
    draws = torch.Generator().manual_seed(5)
    return generator.loss(to_float(pictures[:4]), PROMPTS, draws, *conditions)


def outputs(generator, *conditions):
    """The UNet's output on fixed noise."""
    with torch.no_grad():
        tokens, pooled, mask = generator.conditioned(PROMPTS, *conditions)
        x = torch.randn((4, 27, 4, 4), generator=torch.Generator().manual_seed(6))
        return generator.unet(x, 500, tokens, class_labels=pooled, encoder_attention_mask=mask).sample


def awake(generator, mode):
    """The generator with a W_r that says something."""
    generator.condition = mode
    torch.nn.init.normal_(generator.bridge.weight, generator=torch.Generator().manual_seed(7))
    return generator


@pytest.mark.parametrize("mode", MODES)
def test_zero_map_changes_nothing(generator, mode):
    generator.condition = mode
    assert not generator.bridge.weight.any()
    assert torch.equal(outputs(generator, FUSED, None), outputs(generator, None, None))


@pytest.mark.parametrize("mode", MODES)
def test_the_map_is_heard(generator, mode):
    awake(generator, mode)
    plain, said = outputs(generator, None, None), outputs(generator, FUSED, None)
    assert not torch.allclose(plain, said)
    leave_out = torch.tensor([True, False, False, True])
    mixed = outputs(generator, FUSED, leave_out)
    assert torch.allclose(mixed[leave_out], plain[leave_out], atol=1e-5)
    assert torch.allclose(mixed[~leave_out], said[~leave_out], atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_all_left_out_is_text_only(generator, mode, pictures):
    awake(generator, mode)
    everyone = torch.ones(4, dtype=torch.bool)
    assert torch.equal(loss_of(generator, pictures, FUSED, everyone), loss_of(generator, pictures))
    assert torch.equal(outputs(generator, FUSED, everyone), outputs(generator, None, None))


@pytest.mark.parametrize("mode", MODES)
def test_only_unet_and_map_learn(generator, mode, pictures):
    generator.condition = mode
    before = {k: v.clone() for k, v in generator.state_dict().items()}
    optimizer = torch.optim.AdamW(generator.trainable(), 1e-3, weight_decay=0.0, fused=True)
    fit(optimizer, range(2), lambda _: loss_of(generator, pictures, FUSED, None))
    with_gradient = {name for name, p in generator.named_parameters() if p.grad is not None}
    assert with_gradient
    assert all(name.startswith(("unet.", "bridge.")) for name in with_gradient)
    changed = {k for k, v in generator.state_dict().items() if not torch.equal(v, before[k])}
    assert "bridge.weight" in changed  # in every mode: a W_r of zero must be able to leave it
    assert all(name.startswith(("unet.", "bridge.", "pipe.unet.")) for name in changed)
    assert not any("text_encoder" in name for name in changed)


def test_a_constant_added_to_representations_does_nothing(generator):
    awake(generator, "add")
    assert torch.allclose(outputs(generator, FUSED + 3, None), outputs(generator, FUSED, None), atol=1e-4)


@pytest.mark.parametrize("prediction", ["picture", "velocity"])
def test_loss_against_the_formula(generator, prediction, pictures):
    generator.pipe.register_to_config(prediction=prediction)
    images = to_float(pictures[:4])
    with torch.no_grad():
        loss = loss_of(generator, pictures)
        draws, u = torch.Generator().manual_seed(5), generator.pipe.config.unshuffle
        x0 = torch.nn.functional.pixel_unshuffle(images, u)
        noise = torch.randn(x0.shape, generator=draws)
        level = torch.rand(4, generator=draws)
        level = 2 * level / (1 + level)  # level_shift = 2
        tokens, pooled = generator.embed(PROMPTS)
        total = 0.0
        for i in range(4):
            noisy = (1 - level[i]) * x0[i] + level[i] * noise[i]
            one = noisy[None], level[i] * 1000, tokens[i : i + 1]
            out = generator.unet(*one, class_labels=pooled[i : i + 1]).sample[0]
            if prediction == "picture":
                out = (noisy - out) / max(float(level[i]), generator.pipe.config.level_floor)
                target = (noisy - x0[i]) / max(float(level[i]), generator.pipe.config.level_floor)
            else:
                target = noise[i] - x0[i]
            total += float((out - target).square().mean()) / 4
    assert float(loss) == pytest.approx(total, rel=1e-4)


def test_synthesis_is_named_by_its_stream(generator):
    def draw(seed, batch=64):
        return generator.synthesize(PROMPTS, torch.Generator().manual_seed(seed), batch)

    first = draw(0)
    assert first.shape == (4, 12, 12, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, draw(0))
    assert not np.array_equal(first, draw(1))
    assert np.abs(first.astype(int) - draw(0, batch=2)).max() <= 1


def test_saved_and_loaded(generator, tmp_path):
    awake(generator, "add").save(tmp_path)
    again = load_generator(tmp_path, 10)
    assert all(tensor.data_ptr() % 64 == 0 for tensor in again.state_dict().values())  # or other kernels are taken
    draws = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    assert np.array_equal(again.synthesize(PROMPTS, draws[0]), generator.synthesize(PROMPTS, draws[1]))
    assert torch.equal(outputs(again, FUSED, None), outputs(generator, FUSED, None))
    again.save(tmp_path / "again")
    assert str(tmp_path) not in "".join(file.read_text() for file in (tmp_path / "again").rglob("*.json"))
    with pytest.raises(BadInput, match="W_r has shape"):
        load_generator(tmp_path, 11)


def test_sides_that_do_not_divide(clip):
    with pytest.raises(BadInput, match="do not divide side 12"):
        build_generator(GeneratorSettings(unshuffle=5, channels=(16, 16)), clip, 12, 10)


def test_diffusers_loads_it(generator, tmp_path, elsewhere):
    from diffusers import DiffusionPipeline

    folder = tmp_path / "generator"
    generator.save(folder)
    pipe = DiffusionPipeline.from_pretrained(folder)  # fedloom.models.generators.pixel_pipeline is imported here
    pipe.set_progress_bar_config(disable=True)

    def draw(**options):
        return pipe(["a picture of iris"] * 2, generator=torch.Generator().manual_seed(2), **options)

    here = draw(output_type="np").images
    assert np.array_equal(np.asarray(draw().images[0]), here[0])  # PIL
    pixels = draw(output_type="pt")
    assert pixels.shape == (2, 3, 12, 12)
    assert float(pixels.abs().max()) <= 1
    assert np.array_equal(elsewhere(folder), here)


def test_guidance_of_one_is_the_conditional_branch(generator):
    pipe, noise = generator.pipe, torch.randn((1, 27, 4, 4), generator=torch.Generator().manual_seed(0))
    pipe.set_progress_bar_config(disable=True)
    plain = pipe("a red flower", guidance_scale=1.0, noise=noise, output_type="pt")
    guided = pipe("a red flower", guidance_scale=1.0 + 1e-7, noise=noise, output_type="pt")
    assert torch.allclose(plain, guided, atol=1e-3)
    empty = pipe("a red flower", guidance_scale=1e-12, noise=noise, output_type="pt")
    assert torch.allclose(empty, pipe("", guidance_scale=1.0, noise=noise, output_type="pt"), atol=1e-4)


def test_what_an_unchanged_generator_draws_is_drawn_once(generator, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLOOM_CACHE", str(tmp_path))

    def draw(prompts=PROMPTS, seed=1):
        draws = torch.Generator().manual_seed(seed)
        return generator.synthesize(prompts, draws), draws.get_state()

    plain, after = draw()
    generator.origin = "weights of this test"
    assert np.array_equal(draw()[0], plain)
    with monkeypatch.context() as patch:
        patch.setattr(type(generator), "_draw", lambda *a: pytest.fail("drawn again"))
        again, state = draw()
    assert np.array_equal(again, plain)
    assert torch.equal(state, after)  # the stream goes on where it would have gone on
    others = [draw(seed=2)[0], draw(PROMPTS[::-1])[0]]
    generator.pipe.register_to_config(guidance=generator.pipe.config.guidance + 1)
    others.append(draw()[0])
    assert all(not np.array_equal(other, plain) for other in others)
    generator.pipe.register_to_config(guidance=generator.pipe.config.guidance - 1)
    with torch.no_grad():
        generator.unet.conv_out.bias.add_(0.5)
    assert np.array_equal(draw()[0], plain)  # nobody has said that it was changed
    generator.touched()
    assert not np.array_equal(draw()[0], plain)


def test_who_tunes_a_generator_says_so(generator, tmp_path, monkeypatch):
    from fedloom.methods.base import ServerContext
    from fedloom.methods.shared_messages import TuningSettings
    from fedloom.methods.tuning import Tuner

    monkeypatch.setenv("FEDLOOM_CACHE", str(tmp_path))
    tools = ServerContext(("iris", "rose"), ("iris", "rose"), 10, 0, 2, generator=generator)
    tuner = Tuner(tools, TuningSettings(tune_steps=1, tune_batch=2))
    before = tuner.state()
    for change in (lambda: tuner.tune(1), lambda: tuner.load_state(*before)):
        generator.origin = "weights of this test"
        tuner.add(np.zeros((4, 12, 12, 3), np.uint8), torch.zeros(4, dtype=torch.long), (), None)
        change()
        assert generator.origin is None
