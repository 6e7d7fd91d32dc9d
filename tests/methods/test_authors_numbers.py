"""Baselines beside their authors' public code: values and gradients that it gave on small fixed tensors, in double.

The numbers were printed by the authors' own functions, at the commits named. None of their code is here.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fedloom.functional.distillation import softened
from fedloom.methods.feddat import dual_loss


def wave(*shape: int, phase: float = 0.0, scale: float = 2.0) -> Tensor:
    """scale sin(1.7 i + phase), i = 0, 1, ...: fixed numbers without a generator."""
    steps = torch.arange(math.prod(shape), dtype=torch.float64)
    return (scale * (1.7 * steps + phase).sin()).view(*shape)


def leaf(x: Tensor) -> Tensor:
    return x.clone().requires_grad_()


def close(found: Tensor | None, expected: list[list[float]], abs: float = 2e-8) -> None:
    assert found is not None
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=abs)


# FedMEKT's code adds 1e-7 to the teacher's probabilities, which its numbers show in the sixth digit.
MEKT = [
    [-0.20455328, 0.11479723, 0.11553444, -0.02577839],
    [-0.18567765, 0.19667132, 0.07385885, -0.08485253],
    [-0.06216715, 0.17747471, 0.03754735, -0.15285491],
]


def test_fedmekts_transfer() -> None:
    """Agent2H/FedMEKT, utils/train_utils.py, KL_Loss(temperature=3)."""
    z = leaf(wave(3, 4))
    loss = softened(z, wave(3, 4, phase=0.9, scale=3.0), 3.0)
    loss.backward()
    assert loss.item() == pytest.approx(1.24690309, abs=5e-6)
    close(z.grad, MEKT, abs=5e-7)


def test_feddats_losses() -> None:
    """HaokunChen245/FedDAT 8ed970aa, task_trainer.py: kl_loss, and L_1 and L_0 of `train_step`, with cross-entropy."""
    z1, teacher = leaf(wave(3, 4)), leaf(wave(3, 4, phase=0.9, scale=3.0))
    assert softened(z1, teacher, 3.0).item() == pytest.approx(1.24689995, abs=1e-8)
    loss = dual_loss(z1, teacher, torch.tensor([1, 0, 3]), 3.0)
    loss.backward()
    assert loss.item() == pytest.approx(1.25447722 + 1.09530168, abs=2e-8)
    close(
        z1.grad,
        [
            [-0.08380681, 0.02495028, 0.06884628, -0.00998975],
            [-0.20464601, 0.19917439, 0.04196639, -0.03649476],
            [0.07603132, 0.13121847, 0.02158258, -0.22883237],
        ],
    )
    close(
        teacher.grad,
        [
            [0.21375037, -0.1741507, -0.05708657, 0.01748689],
            [0.06966581, -0.09036222, -0.03655484, 0.05725125],
            [0.14307731, -0.0870944, -0.01818257, -0.03780034],
        ],
    )
