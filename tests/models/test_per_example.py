"""Gradients of single samples, and DP-SGD's step on them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fedloom.config.models import ModelSettings
from fedloom.errors import BadInput
from fedloom.models.clients.build import build_client_model
from fedloom.models.clients.text import tokenize, train_tokenizer
from fedloom.models.per_example import add_private_gradient, check_private, per_example_gradients

SIZES = {"hidden": 16, "layers": 1, "heads": 2, "width": 16}
LABELS = torch.tensor([0, 1, 2, 0])


class Line(nn.Module):
    """logit = w x, so that a sample's gradient is known."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(2))

    def forward(self, *, x):
        return x @ self.w


def line(*rows):
    """A model whose gradients of single samples are `rows`, and a step's objective."""
    model = Line()
    x = torch.tensor(rows)
    return model, {"x": x}, lambda views, i: model(**views).sum()


def step(model, parts, **how):
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    add_private_gradient(model, optimizer, iter(parts), **{"clip": 1.0, "noise": 0.0, "batch": 2.0, **how})
    return model.w.grad


def test_each_gradient_is_clipped_by_hand() -> None:
    """(3, 4) has norm 5: of it 1/5 is left; (0.6, 0) is as it is. Their sum over the expected 2."""
    model, views, objective = line([3.0, 4.0], [0.6, 0.0])
    each = per_example_gradients(model, objective, views, torch.arange(2))
    assert torch.equal(each["w"], views["x"])
    torch.testing.assert_close(step(model, [each]), torch.tensor([0.6, 0.4]), rtol=1e-5, atol=1e-6)
    assert not hasattr(model.w, "grad_sample")


def test_parts_of_a_batch_are_one_step_and_none_is_noise_alone() -> None:
    model, views, objective = line([3.0, 4.0], [0.6, 0.0])
    each = per_example_gradients(model, objective, views, torch.arange(2))["w"]
    parts = [{"w": each[:1].clone()}, {"w": each[1:].clone()}]
    torch.testing.assert_close(step(model, parts), torch.tensor([0.6, 0.4]), rtol=1e-5, atol=1e-6)
    model.w.grad = None
    torch.manual_seed(0)
    noise = step(model, [{"w": torch.zeros(0, 2)}], noise=2.0, clip=3.0)
    torch.manual_seed(0)
    torch.testing.assert_close(noise, torch.normal(0.0, 6.0, (2,)) / 2)


def test_it_is_added_to_the_gradient_of_the_shared_samples() -> None:
    model, views, objective = line([0.6, 0.0])
    model.w.grad = torch.tensor([1.0, 1.0])
    each = per_example_gradients(model, objective, views, torch.arange(1))
    torch.testing.assert_close(step(model, [each], batch=1.0), torch.tensor([1.6, 1.0]), rtol=1e-5, atol=1e-6)


def test_attack_a_sample_of_1e30_or_nan_moves_no_more_than_any() -> None:
    for poison in (1e30, float("nan"), float("inf")):
        model, views, objective = line([poison, 0.0], [0.0, 0.5])
        each = per_example_gradients(model, objective, views, torch.arange(2))
        found = step(model, [each])
        assert torch.isfinite(found).all()
        assert (found - torch.tensor([0.0, 0.25])).norm() <= 0.5 + 1e-6  # clip / batch


@pytest.mark.parametrize(
    ("arch", "tune"), [("vit", "all"), ("beit", "all"), ("bert", "all"), ("vit", "head"), ("bert", "lora")]
)
def test_their_mean_is_the_gradient_of_the_batch(arch: str, tune: str) -> None:
    words = train_tokenizer(["red flower of five petals", "blue cats sleeping"] * 3, vocabulary=60, length=8)
    torch.manual_seed(0)
    settings = ModelSettings(arch=arch, patch=6, tune=tune, **SIZES)
    model = build_client_model(settings, classes=3, image_size=12, tokenizer=words)
    texts = tokenize(words, ["red", "blue cats", "five petals of", ""])
    views = texts if arch == "bert" else {"pixel_values": torch.randn(4, 3, 12, 12)}

    def objective(seen, i):
        return F.cross_entropy(model(**seen), LABELS[i])

    check_private(model, {k: v[:1] for k, v in views.items()}, objective)
    model.eval()
    each = per_example_gradients(model, objective, views, torch.arange(4))
    objective(views, torch.arange(4)).backward()
    named = {k: p for k, p in model.named_parameters() if p.requires_grad}
    assert each.keys() == named.keys()
    for name, p in named.items():
        torch.testing.assert_close(each[name].mean(0), p.grad, rtol=1e-3, atol=1e-5)


def test_layers_that_mix_samples_are_refused() -> None:
    sample = {"pixel_values": torch.zeros(1, 3, 12, 12)}

    def check(**how):
        model = build_client_model(ModelSettings(arch="resnet", **SIZES, **how), classes=3, image_size=12)
        check_private(model, sample, lambda seen, i: F.cross_entropy(model(**seen), LABELS[i]))

    with pytest.raises(BadInput, match=r"BatchNorm2d makes one sample's gradient depend on others.*allowed: .*vit"):
        check()
    check(tune="head")  # a frozen backbone's statistics do not move
