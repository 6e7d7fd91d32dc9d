"""GLIDE's noise processes, walks along them and loss beside numbers of the published code.

The expected numbers were computed once with openai/glide-text2im (69b5307) and, for the variational bound,
openai/guided-diffusion, on the inputs that `hashed` makes. The project imports neither.
"""

from __future__ import annotations

import pytest
import torch
from test_glide import hashed
from torch import Tensor

from fedloom.errors import BadInput
from fedloom.models.generators.glide.loss import denoising_loss, noisy, variational_bits
from fedloom.models.generators.glide.process import (
    Process,
    base_scheduler,
    kept_steps,
    takes_variance,
    upsampler_scheduler,
    walk,
)


def test_kept_steps_are_those_of_the_release():
    assert kept_steps(1000, "fast27") == (
        0,
        22,
        44,
        66,
        88,
        111,
        133,
        155,
        177,
        199,
        200,
        222,
        244,
        266,
        288,
        311,
        333,
        355,
        377,
        399,
        400,
        500,
        599,
        600,
        799,
        800,
        997,
    )
    assert kept_steps(1000, 21)[9:12] == (450, 499, 549)  # a sum of floats falls just short of 499.5
    assert kept_steps(1000, "5") == (0, 250, 500, 749, 999)
    assert kept_steps(1000, "ddim50") == tuple(range(0, 1000, 20))
    assert kept_steps(10, "1,2,2") == (0, 4, 6, 7, 9)
    assert kept_steps(1000, 1000) == tuple(range(1000))


@pytest.mark.parametrize("spacing", ["none", "0", "-3", "1.5", "10,", "ddim7,2", "ddim700", "1001", "500,501"])
def test_other_spacings_are_refused(spacing):
    with pytest.raises(BadInput, match="spacing"):
        kept_steps(1000, spacing)


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        (base_scheduler(), [0.999958716, 0.845887986, 0.492285172, 0.143178646, 2.42876691e-06]),
        (upsampler_scheduler(), [0.9999, 0.521423031, 0.0777966584, 0.00330015836, 4.11819364e-05]),
    ],
)
def test_schedules(scheduler, expected):
    """Alpha bar at steps 0, 250, 500, 750 and 998."""
    bar = Process.of(scheduler).bar[[0, 250, 500, 750, 998]]
    torch.testing.assert_close(bar, torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=0)


def test_a_walk_is_the_process_of_its_steps():
    own, times = walk(base_scheduler(), "10,10,3,2,2")
    assert times == kept_steps(1000, "10,10,3,2,2")[::-1]
    assert own.timesteps.tolist() == list(range(27))[::-1]
    assert torch.equal(own.alphas_cumprod, Process.of(base_scheduler()).bar[list(times[::-1])])
    assert takes_variance(own)
    assert not takes_variance(walk(upsampler_scheduler(), 3)[0])


def test_other_schedulers_take_numbers_only():
    from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler

    solver = DPMSolverMultistepScheduler.from_config(base_scheduler().config)
    assert takes_variance(solver)
    assert len(walk(solver, 4)[1]) == 4
    assert not takes_variance(EulerDiscreteScheduler.from_config(base_scheduler().config))
    with pytest.raises(BadInput, match="'fast27', allowed: a number"):
        walk(solver, "fast27")


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        (base_scheduler(), [0.09209244, 0.01912565, 0.0005315575, 0.9899809]),
        (upsampler_scheduler(), [0.09898026, 0.02153015, 0.000653365, 1.568258]),
    ],
)
def test_the_bound_of_the_learned_variance(scheduler, expected):
    """Bits at t = 1, 5, 250 and 0; the last is theirs but for their approximate distribution function."""
    process, t = Process.of(scheduler), torch.tensor([1, 5, 250, 0])
    x0, noise = loss_inputs()
    out = loss_output()
    xt = noisy(process, x0, noise, t)
    bits = variational_bits(process, out[:, :3], out[:, 3:], x0, xt, t)
    torch.testing.assert_close(bits[:3], torch.tensor(expected[:3]), rtol=1e-5, atol=1e-6)
    assert float(bits[3]) == pytest.approx(expected[3], rel=2e-3)
    whole = denoising_loss(process, out, x0, noise, t, variational=0.001)
    simple = denoising_loss(process, out, x0, noise, t)
    assert float(whole) == pytest.approx(float(simple + bits.mean()), rel=1e-5)  # 0.001 of 1000 steps


def loss_inputs() -> tuple[Tensor, Tensor]:
    x0 = ((hashed((4, 3, 6, 6), 7) + 1) * 127.5).round() / 127.5 - 1
    x0[:, 0, 0, 0], x0[:, 0, 0, 1] = 1, -1
    return x0, 1.7 * hashed((4, 3, 6, 6), 8)


def loss_output() -> Tensor:
    out = 0.5 * hashed((4, 6, 6, 6), 9)
    out[:, :3] += loss_inputs()[1]
    return out


def test_without_the_bound_the_variance_gets_no_gradient():
    process, t = Process.of(base_scheduler()), torch.tensor([1, 5, 250, 0])
    x0, noise = loss_inputs()
    out = loss_output().requires_grad_()
    (plain,) = torch.autograd.grad(denoising_loss(process, out, x0, noise, t), out)
    (both,) = torch.autograd.grad(denoising_loss(process, out, x0, noise, t, variational=0.001), out)
    assert not plain[:, 3:].any()
    assert both[:, 3:].any()
    assert torch.equal(plain[:, :3], both[:, :3])  # the bound leaves the mean alone
