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
from fedloom.methods.fedproto import class_prototypes, prototype_loss


def wave(*shape: int, phase: float = 0.0, scale: float = 2.0) -> Tensor:
    """scale sin(1.7 i + phase), i = 0, 1, ...: fixed numbers without a generator."""
    steps = torch.arange(math.prod(shape), dtype=torch.float64)
    return (scale * (1.7 * steps + phase).sin()).view(*shape)


def leaf(x: Tensor) -> Tensor:
    return x.clone().requires_grad_()


def close(found: Tensor | None, expected: list[list[float]] | list[float], abs: float = 2e-8) -> None:
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


def test_fedprotos_prototypes_and_distance() -> None:
    """yuetan031/FedProto 97e42e27: agg_func of lib/utils.py, and the loss of update_weights_het (nobody has class 1).

    Its proto_aggregation gives {0: (3, 1), 2: (5, 5)} for what `test_who_weighs_what_and_a_silent_class_stays` sends.
    """
    rows = torch.stack([wave(3), wave(3, phase=0.5), wave(3, phase=1.0), wave(3, phase=2.0)])
    means, _ = class_prototypes(rows, torch.tensor([0, 0, 0, 2]), 3)
    close(means[0].double(), [0.88059768, 1.4850274, -1.26327289], abs=2e-7)
    close(means[2].double(), [1.81859485, -1.05967228, -1.54552898], abs=2e-7)
    h = leaf(torch.tensor([[1.0, 0.0], [3.0, 2.0], [9.0, 9.0]], dtype=torch.float64))
    prototypes = torch.tensor([[0.0, 0.0], [math.nan] * 2, [3.0, 0.0]], dtype=torch.float64)
    loss = prototype_loss(h, torch.tensor([0, 2, 1]), prototypes)
    loss.backward()
    assert loss.item() == pytest.approx(0.83333333, abs=1e-8)
    close(h.grad, [[0.33333333, 0.0], [0.0, 0.66666667], [0.0, 0.0]])
