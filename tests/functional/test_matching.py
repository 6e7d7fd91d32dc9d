"""PCME's matching loss with one sample an item, and the spread of class weights."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fedloom.functional.matching import (
    PairMatching,
    class_spread,
    margin_cross_entropy,
    match_logits,
    match_probability,
    matching_loss,
)
from fedloom.functional.norms import unit
from reference import matching as slow


def pairs(b: int = 6, d: int = 5) -> tuple[Tensor, Tensor]:
    torch.manual_seed(b)
    x = unit(torch.randn(b, d, dtype=torch.float64))
    return x, unit(x + 0.5 * torch.randn(b, d, dtype=torch.float64))


def test_golden() -> None:
    """Distances 0.001 (the root of 1e-6) and 5: l = 0.999 and -4.

    4 log(1 + e^-1.998) + 4 log(1 + e^-8) = 4 (0.127167 + 0.000335)
    """
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert match_logits(x, x, 1.0, 1.0).flatten().tolist() == pytest.approx([0.999, -4, -4, 0.999])
    assert match_probability(x, x, 1.0, 1.0)[0].tolist() == pytest.approx([0.880586, 0.000335], abs=2e-6)
    assert matching_loss(x, x, 1.0, 1.0).item() == pytest.approx(0.510010, abs=4e-6)


@pytest.mark.parametrize(("scale", "shift"), [(15.0, 15.0), (1.0, 1.0), (3.0, -2.0)])
def test_against_the_slow_reference(scale: float, shift: float) -> None:
    x, y = pairs()
    expected = slow.loss(x.tolist(), y.tolist(), scale, shift)
    assert matching_loss(x, y, scale, shift).item() == pytest.approx(expected, rel=1e-12)
    got = match_probability(x, y[:4], scale, shift)
    each = [[slow.probability(a, b, scale, shift) for b in y[:4].tolist()] for a in x.tolist()]
    torch.testing.assert_close(got, torch.tensor(each, dtype=torch.float64))


def test_gradients_against_finite_differences() -> None:
    x, y = (z.requires_grad_() for z in pairs(3, 4))
    a = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    b = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(matching_loss, (x, y, a, b))


def test_both_directions_and_any_order_of_pairs_are_one_number() -> None:
    x, y = pairs()
    expected = matching_loss(x, y, 15.0, 15.0)
    torch.testing.assert_close(matching_loss(y, x, 15.0, 15.0), expected)
    order = torch.randperm(6)
    torch.testing.assert_close(matching_loss(x[order], y[order], 15.0, 15.0), expected)
    torch.testing.assert_close(matching_loss(x + 3, y + 3, 15.0, 15.0), expected)
    assert matching_loss(x, y.roll(1, 0), 15.0, 15.0) > 2 * expected


@pytest.mark.parametrize("size", [1e-8, 1.0, 1e4])
def test_finite_at_any_size_and_where_pairs_coincide(size: float) -> None:
    x = (size * torch.randn(5, 4)).requires_grad_()
    y = x.detach().clone().requires_grad_()
    loss = matching_loss(x, y, 15.0, 15.0)
    loss.backward()
    assert loss.isfinite()
    assert x.grad is not None
    assert y.grad is not None
    assert x.grad.isfinite().all()
    assert y.grad.isfinite().all()
    far = matching_loss(x, x.roll(1, 0), 1e4, 0.0)
    assert far.isfinite()


def test_a_near_pair_among_far_ones_keeps_its_distance() -> None:
    """In single precision |x|^2 + |y|^2 - 2 x y would lose it."""
    x = torch.full((2, 4), 100.0)
    y = x + 0.01
    got = match_logits(x, y, 1.0, 0.0)
    assert got.flatten().tolist() == pytest.approx([-math.sqrt(4e-4 + 1e-6)] * 4, rel=1e-3)


def test_no_tensor_of_pairs_times_width() -> None:
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple) else (out,):
                if isinstance(tensor, Tensor):
                    largest = max(largest, tensor.untyped_storage().nbytes())
            return out

    x, y = torch.randn(64, 256, requires_grad=True), torch.randn(64, 256, requires_grad=True)
    with Watch():
        matching_loss(x, y, 15.0, 15.0).backward()
    assert largest <= 64 * 256 * 4


def test_the_module_starts_at_fifteen_and_learns_both_numbers() -> None:
    x, y = (z.float() for z in pairs(12, 8))
    module = PairMatching()
    assert {name: p.item() for name, p in module.named_parameters()} == {"scale": 15.0, "shift": 15.0}
    torch.testing.assert_close(module(x, y), matching_loss(x, y, 15.0, 15.0))
    optimizer = torch.optim.Adam(module.parameters(), 0.1)
    before = module(x, y)
    for _ in range(50):
        optimizer.zero_grad()
        module(x, y).backward()
        optimizer.step()
    assert module(x, y) < 0.9 * before
    assert module.scale.item() != 15.0
    assert module.shift.item() != 15.0


def test_one_pair_and_none() -> None:
    x, y = pairs(1)
    assert matching_loss(x, y, 15.0, 15.0).item() == pytest.approx(slow.loss(x.tolist(), y.tolist(), 15.0, 15.0))
    none = torch.zeros(0, 5, requires_grad=True)
    loss = matching_loss(none, none, 15.0, 15.0)
    loss.backward()
    assert loss.item() == 0.0


def test_bad_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(3, 2\) and texts \(2, 2\)"):
        matching_loss(torch.zeros(3, 2), torch.zeros(2, 2), 1.0, 1.0)
    with pytest.raises(ValueError, match=r"\(3, 2\) and \(3, 4\)"):
        match_logits(torch.zeros(3, 2), torch.zeros(3, 4), 1.0, 1.0)
    for bad in (torch.zeros(3), torch.zeros(0, 3)):
        with pytest.raises(ValueError, match="expected \\(C, D\\)"):
            class_spread(bad)


# ----------------------------------------------------------------------------------------------------------- classes


def test_golden_spread() -> None:
    """Orthogonal unit classes: log(1 + 1/e) / 2; all negative: log(C) / 2."""
    assert class_spread(torch.eye(2)).item() == pytest.approx(0.156631, abs=2e-6)
    assert class_spread(torch.tensor([[2.0, -9.0], [-7.0, 1.0]])).item() == pytest.approx(
        (math.log(1 + math.e**-4) + math.log(1 + math.e**-1)) / 4, abs=2e-6
    )
    assert class_spread(-torch.ones(5, 3)).item() == pytest.approx(math.log(5) / 2)
    assert class_spread(torch.randn(1, 3)).item() == 0.0


def test_spread_against_the_slow_reference_and_finite_differences() -> None:
    torch.manual_seed(0)
    w = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    assert class_spread(w, 0.7).item() == pytest.approx(slow.class_spread(w.tolist(), 0.7))
    assert torch.autograd.gradcheck(class_spread, (w,))


def test_descending_it_spreads_the_classes() -> None:
    torch.manual_seed(1)
    w = (1 + 0.1 * torch.randn(4, 8)).requires_grad_()
    optimizer = torch.optim.SGD([w], 0.5)

    def likeness() -> float:
        v = unit(w.detach().relu())
        return ((v @ v.T).sum() - 4).item() / 12

    before = likeness()
    for _ in range(100):
        optimizer.zero_grad()
        class_spread(w).backward()
        optimizer.step()
    assert before > 0.9
    assert likeness() < 0.7


def test_spread_is_finite_for_large_weights() -> None:
    w = torch.full((3, 4), 1e4, requires_grad=True)
    class_spread(w).backward()
    assert w.grad is not None
    assert w.grad.isfinite().all()


def test_margin_by_hand_against_the_slow_reference_and_without_it() -> None:
    """Logits (1, 0), the first is right: at a margin of 1 both are 0, log 2."""
    assert margin_cross_entropy(torch.tensor([[1.0, 0.0]]), torch.tensor([0]), 1.0).item() == pytest.approx(math.log(2))
    torch.manual_seed(0)
    logits, labels = 3 * torch.randn(5, 4, dtype=torch.float64), torch.tensor([0, 3, 1, 1, 2])
    expected = slow.margin(logits.tolist(), labels.tolist(), 4.0)
    assert margin_cross_entropy(logits, labels, 4.0).item() == pytest.approx(expected, rel=1e-9)
    plain = torch.nn.functional.cross_entropy(logits, labels)
    assert margin_cross_entropy(logits, labels, 0.0).item() == plain.item()
    shifted = margin_cross_entropy(logits + 7.0, labels, 4.0)
    assert shifted.item() == pytest.approx(expected, rel=1e-9)
