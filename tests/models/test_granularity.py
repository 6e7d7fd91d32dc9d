"""FedAFD's granularity-aware fusion."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from fedloom.errors import BadInput
from fedloom.models.granularity import GranularityFusion
from reference import granularity as slow


def fusion(width: int = 8, ratio: int = 2, seed: int = 0, **options: Any) -> GranularityFusion:
    """With every weight, bias and running number away from its start."""
    torch.manual_seed(seed)
    made = GranularityFusion(width, ratio, **options).double()
    for name, value in made.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5 if name.endswith("var") else torch.randn_like(value))
    return made


def features(*shape: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(len(shape))
    return torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("share", [False, True])
def test_size(norm: Any, share: bool) -> None:
    made = GranularityFusion(256, 4, norm, share)
    assert sum(p.numel() for p in made.parameters()) == 134_912
    assert sum(p.numel() for p in made.local_branches[0].parameters()) == 33_728


def test_golden_one_component() -> None:
    """In evaluation, norms and maps the identity: T(z) = relu(z). x = 1, g = 0:

    a = sigmoid(1 + 1) = 0.880797 = h;  b = sigmoid(2 h) = sigmoid(1.761594) = 0.853409
    """
    made = GranularityFusion(1, 1).eval()
    for name, p in made.named_parameters():
        p.data.fill_(1.0 if name.endswith("weight") else 0.0)
    x, g = torch.tensor([[1.0]]), torch.tensor([[0.0]])
    a, b = made.gates(x, g)
    assert (a.item(), b.item()) == pytest.approx((0.880797, 0.853409), abs=1e-5)
    assert made(x, g).item() == pytest.approx(0.853409, abs=1e-5)


def test_golden_constant_gates() -> None:
    """Last norms of weight 0: the gate is sigmoid(the two biases), whatever comes in; the first level says nothing."""
    made = fusion(2, 1, norm="layer")
    with torch.no_grad():
        for branches in (made.local_branches, made.global_branches):
            branches[1][4].weight.zero_()
            branches[1][4].bias.copy_(torch.tensor([0.0, math.log(3) / 2]))
    x, g = torch.tensor([[1.0, 0.0]]).double(), torch.tensor([[0.0, 2.0]]).double()
    assert made(x, g)[0].tolist() == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("length", [None, 1, 3])
def test_against_the_slow_reference(norm: Any, share: bool, training: bool, length: int | None) -> None:
    made = fusion(norm=norm, legacy_share_global=share).train(training)
    state = {name: value.tolist() for name, value in made.state_dict().items()}
    x, g = features(4, 8) if length is None else features(4, 8, length)
    rows = [z[:, None] if length is None else z.transpose(1, 2) for z in (x, g)]  # (B, L, D)
    expected = torch.tensor(
        slow.fused(rows[0].tolist(), rows[1].tolist(), state, norm, share, training), dtype=torch.float64
    )
    torch.testing.assert_close(made(x, g), expected[:, 0] if length is None else expected.transpose(1, 2))


def test_one_position_is_the_vector_case() -> None:
    made = fusion()
    x, g = features(5, 8)
    torch.testing.assert_close(made(x[..., None], g[..., None])[..., 0], made(x, g))


def test_with_positions_local_and_global_part() -> None:
    """Positions in another order: each keeps its own number, so the mean alone is global."""
    made = fusion(norm="layer")
    x, g = features(3, 8, 5)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(made(x[..., order], g[..., order]), made(x, g)[..., order])
    moved = x.clone()
    moved[..., 0] += 1
    assert not torch.allclose(made(moved, g)[..., 1], made(x, g)[..., 1])  # through the global branch


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(64, 8), (64, 8, 3)])
def test_equal_features_come_out_bitwise_and_others_between(
    norm: Any, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    for seed in range(5):
        made = fusion(seed=seed, norm=norm).to(dtype)
        x, g = (z.to(dtype) for z in features(*shape))
        assert torch.equal(made(x, x.clone()), x)
        for scale in (1e-3, 1.0, 30.0):  # at 30 gates reach 0 and 1
            out = made(scale * x, g)
            assert (out >= torch.minimum(scale * x, g)).all()
            assert (out <= torch.maximum(scale * x, g)).all()
        x[0, 0] = g[0, 0]
        assert torch.equal(made(x, g)[0, 0], g[0, 0])


def test_gates_shut_and_open() -> None:
    x, g = features(6, 8)
    for bias, expected in ((-500.0, g), (500.0, x)):
        made = fusion()
        for branches in (made.local_branches, made.global_branches):
            branches[1][4].bias.data.fill_(bias)
        assert torch.equal(made(x, g), expected)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_gradient_reaches_the_client_and_the_gates_and_never_the_server(norm: Any) -> None:
    made = fusion(norm=norm)
    x, g = (z.requires_grad_() for z in features(5, 8))
    made(x, g).square().sum().backward()
    assert g.grad is None
    assert x.grad is not None
    assert x.grad.abs().min() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 2)])
def test_gradients_against_finite_differences(norm: Any, shape: tuple[int, ...]) -> None:
    made = fusion(4, 2, norm=norm)
    x, g = features(*shape)
    assert torch.autograd.gradcheck(lambda z: made(z, g), (x.requires_grad_(),))


def test_the_shared_branch_leaves_the_other_alone_and_states_fit_both() -> None:
    ours, theirs = fusion(), fusion(legacy_share_global=True, seed=1)
    theirs.load_state_dict(ours.state_dict())
    x, g = features(5, 8)
    before = {name: value.clone() for name, value in theirs.global_branches[1].state_dict().items()}
    theirs(x, g).sum().backward()
    assert all(p.grad is None for p in theirs.global_branches[1].parameters())
    assert all(torch.equal(v, before[k]) for k, v in theirs.global_branches[1].state_dict().items())
    assert not torch.allclose(ours.eval()(x, g), theirs.eval()(x, g))


def test_one_sample_trains() -> None:
    for shape in ((1, 8), (1, 8, 3)):
        x, g = features(*shape)
        made = fusion()
        before = {name: value.clone() for name, value in made.state_dict().items()}
        x.requires_grad_()
        made(x, g).sum().backward()
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()
        if x.ndim == 2:  # no variance: by the running statistics, which stay
            torch.testing.assert_close(made(x, g), made.eval()(x, g))
            assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
        layered = fusion(norm="layer")
        torch.testing.assert_close(layered(x, g), layered(torch.cat([x, x + 1]), torch.cat([g, g - 1]))[:1])


def test_no_sample_changes_nothing() -> None:
    made = fusion()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    assert made(*features(0, 8)).shape == (0, 8)
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


def test_bad_input_is_named() -> None:
    made = fusion()
    with pytest.raises(ValueError, match=r"local \(2, 8\) and global \(3, 8\)"):
        made(torch.zeros(2, 8), torch.zeros(3, 8))
    with pytest.raises(ValueError, match=r"\(B, 8\) or \(B, 8, L\)"):
        made(torch.zeros(2, 9), torch.zeros(2, 9))
    with pytest.raises(ValueError, match=r"\(0, 8\) and global \(3, 8\)"):
        made(torch.zeros(0, 8), torch.zeros(3, 8))
    norm: Any = "group"
    with pytest.raises(BadInput, match="unknown fusion norm"):
        GranularityFusion(8, 2, norm)
    for ratio in (0, 9):
        with pytest.raises(BadInput, match=f"width 8 with ratio {ratio}"):
            GranularityFusion(8, ratio)
