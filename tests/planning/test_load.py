"""What a sample costs a model, beside hand-made numbers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fedloom.planning.load import Load, count, measured


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(*shape, device="meta")


def on_meta(make):
    with torch.device("meta"):
        return make()


def test_two_layers():
    """2 x 4 x 3 and 2 x 3 x 5 FLOP; backwards the same for each weight, and once for what lies between."""
    module = on_meta(lambda: nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 5)))
    load = measured(module, lambda n: module(zeros(n, 4)))
    assert load.forward == 24 + 30
    assert load.training == 2 * 54 + 30
    assert load.kept == 4 * (4 + 3)  # its input, and what the second layer reads; weights are not kept


def test_frozen_layers_cost_no_weight_gradient():
    module = on_meta(lambda: nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 5)))
    module[0].requires_grad_(False)
    load = measured(module, lambda n: module(zeros(n, 4)))
    assert load.training == 54 + 30
    assert load.kept == 4 * 3
    assert (count(module), count(module, trained=True)) == (15 + 20, 20)


def test_what_is_never_trained_keeps_nothing():
    module = on_meta(lambda: nn.Linear(4, 3))
    assert measured(module, lambda n: module(zeros(n, 4)), train=False) == Load(24, 24, 0)


@pytest.mark.parametrize(("tokens", "read"), [(7, 7), (7, 3)])
def test_attention_keeps_no_scores(tokens, read):
    """2 x tokens x read x (width + width) FLOP a head; kept are queries, keys, values and the result."""
    heads, width = 2, 8
    scale = nn.Parameter(zeros(1))

    def run(n):
        q = scale * zeros(n, heads, tokens, width)
        k, v = (scale * zeros(n, heads, read, width) for _ in range(2))
        return F.scaled_dot_product_attention(q, k, v)

    module = nn.ParameterList([scale])
    load = measured(module, run)
    forward = 2 * heads * tokens * read * 2 * width
    assert load.forward == forward
    assert load.training == 3.5 * forward
    # and what the three products with `scale` keep
    inside = heads * width * (2 * tokens + 2 * read)
    assert load.kept == 4 * (inside + heads * width * (tokens + 2 * read))


def test_loads_add_up():
    assert Load(1, 3, 5).plus(Load(10, 20, 30), 2) == Load(21, 43, 65)
