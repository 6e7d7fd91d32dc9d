"""Eqs. 6 and 7."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fedloom.errors import BadInput, FedloomError
from fedloom.functional.attention import (
    LearnedCrossAttention,
    chunk_heads,
    cross_attention,
    layer_norm,
    train_cross_attention,
    unit,
)
from reference import fusion as slow

MODES = ["paired", "batch", "chunk", "mha"]


def attend(mode: str, queries: Tensor, context: Tensor, heads: int = 4) -> Tensor:
    if mode == "mha":
        with torch.no_grad():
            return LearnedCrossAttention(queries.shape[-1], heads).to(queries.dtype)(queries, context)
    return cross_attention(queries, context, mode, heads=heads)


@pytest.fixture
def scene() -> tuple[Tensor, Tensor]:
    """queries (3, 5, 12), context (5, 12)."""
    torch.manual_seed(0)
    return torch.randn(3, 5, 12, dtype=torch.float64) * 7, torch.randn(5, 12, dtype=torch.float64)


@pytest.mark.parametrize("mode", MODES)
def test_against_the_slow_reference(mode: str, scene: tuple[Tensor, Tensor]) -> None:
    queries, context = scene
    context[2] = 0.0
    got = attend(mode, queries, context)
    for k in range(3):
        expected = torch.tensor(slow.attend(queries[k].tolist(), context.tolist(), mode, 0.1, 4))
        # eps sits inside the norm: `paired` normalises unit vectors, the reference vectors of length sqrt(D)
        torch.testing.assert_close(got[k].float(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_permuting_samples_permutes_outputs(mode: str, scene: tuple[Tensor, Tensor]) -> None:
    queries, context = scene
    order = torch.tensor([4, 0, 3, 1, 2])
    a, b = attend(mode, queries, context)[:, order], attend(mode, queries[:, order], context[order])
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize("mode", MODES)
def test_scale_of_a_representation_does_not_matter(mode: str, scene: tuple[Tensor, Tensor]) -> None:
    queries, context = scene
    torch.testing.assert_close(attend(mode, 100 * queries, context), attend(mode, queries, 0.01 * context))


@pytest.mark.parametrize("mode", MODES)
def test_one_client_needs_no_client_axis(mode: str, scene: tuple[Tensor, Tensor]) -> None:
    queries, context = scene
    torch.testing.assert_close(attend(mode, queries[1], context), attend(mode, queries, context)[1])


def test_paired_with_itself_is_its_own_layer_norm() -> None:
    torch.manual_seed(1)
    r = torch.randn(6, 768)
    got = cross_attention(r[None], r, "paired")[0]
    torch.testing.assert_close(got, layer_norm(unit(r)), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(got, layer_norm(2 * unit(r)))


def test_attention_to_a_single_key_is_constant_in_the_query() -> None:
    """Why `paired` needs its residual: without it, all clients would be the same."""
    torch.manual_seed(2)
    q, context = torch.randn(2, 1, 8), torch.randn(1, 8)
    stock = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    heard, share = stock(q, context.expand(2, 1, 8), context.expand(2, 1, 8))
    torch.testing.assert_close(heard[0], heard[1])
    torch.testing.assert_close(share, torch.ones_like(share))
    for mode in ("batch", "mha"):
        torch.testing.assert_close(attend(mode, q, context, heads=2), cross_attention(q, context, "paired"))
    torch.testing.assert_close(cross_attention(q, context, "chunk", heads=1), cross_attention(q, context, "paired"))


def test_attention_rows_sum_to_one() -> None:
    """Context rows that are all equal come back unchanged, however attention is shared among them."""
    torch.manual_seed(3)
    q, c = torch.randn(2, 9, 6), torch.randn(6)
    same = c.expand(9, 6)
    torch.testing.assert_close(cross_attention(q, same, "batch"), cross_attention(q, same, "paired"))


def test_chunk_tells_clients_apart_without_the_residual() -> None:
    torch.manual_seed(4)
    q, c = torch.randn(2, 1, 64), torch.randn(1, 64)
    heard = [layer_norm(v) for v in cross_attention(q, c, "chunk", heads=8)[:, 0]]
    assert (heard[0] - heard[1]).norm() > 0.1


@pytest.mark.parametrize(
    ("width", "heads", "pieces"), [(768, 12, 12), (64, 12, 8), (512, 12, 8), (12, 5, 4), (7, 7, 7), (7, 1, 1)]
)
def test_pieces_of_a_width(width: int, heads: int, pieces: int) -> None:
    assert chunk_heads(width, heads) == pieces


@pytest.mark.parametrize(("width", "heads"), [(7, 6), (64, 0), (1, 4)])
def test_widths_that_cannot_be_cut(width: int, heads: int) -> None:
    with pytest.raises(BadInput, match=f"width {width}"):
        chunk_heads(width, heads)


def test_bad_options_are_named(scene: tuple[Tensor, Tensor]) -> None:
    queries, context = scene
    with pytest.raises(BadInput, match="unknown attention"):
        cross_attention(queries, context, "pared")
    with pytest.raises(BadInput, match="LearnedCrossAttention"):
        cross_attention(queries, context, "mha")
    with pytest.raises(BadInput, match="temperature is 0"):
        cross_attention(queries, context, "batch", temperature=0)
    with pytest.raises(ValueError, match=r"\(3, 5, 12\) and context \(4, 12\)"):
        cross_attention(queries, context[:4])
    with pytest.raises(BadInput, match="5 attention heads do not divide"):
        LearnedCrossAttention(12, 5)


def test_large_batches_agree_with_the_plain_softmax() -> None:
    torch.manual_seed(5)
    q, c = torch.randn(2, 700, 16), torch.randn(700, 16)
    plain = layer_norm(unit(q) + (unit(q) @ unit(c).T / 0.1).softmax(-1) @ unit(c))
    torch.testing.assert_close(cross_attention(q, c, "batch"), plain, atol=1e-4, rtol=1e-4)


def loss_of(module: LearnedCrossAttention, queries: Tensor, context: Tensor) -> float:
    with torch.no_grad():
        own = torch.arange(len(context))
        logits = [unit(module(q, context)) @ unit(context).T / 0.07 for q in queries]
        both = [F.cross_entropy(g, own) + F.cross_entropy(g.T, own) for g in logits]
        return float(torch.stack(both).mean() / 2)


def test_training_lowers_its_loss_and_returns_the_mean() -> None:
    torch.manual_seed(6)
    context = torch.randn(20, 16)
    queries = torch.stack([context @ torch.randn(16, 16) for _ in range(3)])
    module = LearnedCrossAttention(16, 4)
    before = loss_of(module, queries, context)
    first = train_cross_attention(module, queries, context)
    assert first == pytest.approx(before, rel=0.02)  # three steps of 1e-4 move it little
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    for _ in range(30):
        train_cross_attention(module, queries, context, optimizer=optimizer)
    assert loss_of(module, queries, context) < 0.8 * before


def test_training_is_repeatable_and_leaves_absent_samples_out() -> None:
    torch.manual_seed(7)
    queries, context = torch.randn(2, 9, 8), torch.randn(9, 8)
    present = torch.ones(2, 9, dtype=torch.bool)
    present[0, 3:] = False
    states = []
    for filler in (0.0, math.nan):
        queries[0, 3:] = filler
        module = LearnedCrossAttention(8, 2)
        assert train_cross_attention(module, queries, context, present, batch=4) is not None
        states.append(module.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_training_without_a_contrast_does_nothing() -> None:
    module = LearnedCrossAttention(8, 2)
    assert train_cross_attention(module, torch.randn(2, 1, 8), torch.randn(1, 8)) is None
    assert torch.equal(module.key.weight, torch.eye(8))


def test_training_stops_at_nan_with_weights_untouched() -> None:
    module = LearnedCrossAttention(8, 2)
    queries = torch.randn(2, 5, 8)
    queries[0, 1, 1] = math.nan
    with pytest.raises(FedloomError, match="client 0"):
        train_cross_attention(module, queries, torch.randn(5, 8))
    assert torch.equal(module.key.weight, torch.eye(8))
    with pytest.raises(BadInput, match="at least 2"):
        train_cross_attention(module, queries, torch.randn(5, 8), batch=1)
