"""How a site computes: in parts of a batch, in less than single precision, with activations computed twice."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_sites import CLASSES, SIDE, WIDTH, words

from fedloom.config.models import ModelSettings
from fedloom.data.containers import ImageSet, TextSet
from fedloom.errors import FedloomError
from fedloom.methods.context import ClientContext
from fedloom.models.clients.build import build_client_model

torch.set_num_threads(1)


def site(arch: str = "vit", tune: str = "all", **more: object) -> ClientContext:
    """A tiny real model over 24 samples."""
    rng, n = np.random.default_rng(0), 24
    labels = np.arange(n) % CLASSES
    sizes = {"hidden": 16, "layers": 2, "heads": 2, "patch": 6, "width": WIDTH}
    torch.manual_seed(0)
    settings = ModelSettings(arch=arch, tune=tune, **sizes)
    learner = build_client_model(settings, classes=CLASSES, image_size=SIDE, tokenizer=words())
    held: ImageSet | TextSet
    if arch == "vit":
        held = ImageSet(rng.integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8), labels)
    else:
        held = TextSet(tuple(f"a picture of {('iris', 'rose', 'tulip')[c]}" for c in labels), labels)
    given = {"private": held, "test": held, "seed": 0, "batch": 9, "augment": False, **more}
    modality = "image" if arch == "vit" else "text"
    return ClientContext(name="a", modality=modality, model=learner, tokenizer=words(), **given)  # type: ignore[arg-type]


def weights(one: ClientContext) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in one.model.state_dict().items()}


@pytest.mark.parametrize("parts", [2, 4, 50])
def test_a_step_in_parts_is_the_step_of_the_whole_batch(parts: int) -> None:
    whole, cut = site(), site(accumulate=parts)
    for one in (whole, cut):
        one.model.apply(lambda m: setattr(m, "p", 0.0) if isinstance(m, torch.nn.Dropout) else None)
    assert whole.train_private(3, 1) == pytest.approx(cut.train_private(3, 1), rel=1e-4)
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(cut)[name], value, rtol=1e-3, atol=2e-4)


def test_activations_computed_twice_change_nothing() -> None:
    plain, twice = site(), site(checkpointing=True)
    assert twice.model.backbone.is_gradient_checkpointing  # type: ignore[union-attr]
    assert plain.train_private(3, 1) == twice.train_private(3, 1)
    for name, value in weights(plain).items():
        assert torch.equal(weights(twice)[name], value)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("arch", ["vit", "bert"])
def test_less_than_single_precision(arch: str, precision: str) -> None:
    """Near the whole precision's numbers, and another's; weights and what comes out stay float32."""
    full, low = site(arch), site(arch, precision=precision)
    a, b = full.train_private(6, 1), low.train_private(6, 1)
    assert a != b
    assert a == pytest.approx(b, rel=0.05)
    assert {v.dtype for v in weights(low).values() if v.is_floating_point()} == {torch.float32}
    assert {t.dtype for t in low.look(low.test)} == {torch.float32}


def test_the_loss_scale_is_taken_up_again() -> None:
    """As well as the rest: two steps, a stop, two steps are four steps."""
    one, two = site(precision="fp16"), site(precision="fp16")
    assert one.scaler is not None
    assert two.scaler is not None
    quick = one.scaler.state_dict() | {"scale": 2.0**10, "growth_interval": 2}  # grows within the test
    for half in (one, two):
        half.scaler.load_state_dict(quick)  # type: ignore[union-attr]
    one.train_private(2, 1)
    kept = one.state()
    assert kept[1]["scaler"]["scale"] == 2**11
    two.load_state(*kept)
    assert one.train_private(2, 2) == two.train_private(2, 2)
    assert two.scaler.get_scale() == one.scaler.get_scale() == 2**12
    for name, value in weights(one).items():
        assert torch.equal(weights(two)[name], value)


def test_a_step_whose_gradients_overflow_is_left_out() -> None:
    one = site(precision="fp16")
    assert one.scaler is not None
    one.train_private(1, 0)
    one.scaler.load_state_dict(one.scaler.state_dict() | {"scale": 2.0**40})
    before = weights(one)
    one.train_private(1, 1)
    assert all(torch.equal(value, before[name]) for name, value in weights(one).items())
    assert one.scaler.get_scale() == 2.0**39


def test_a_loss_that_is_not_finite_in_one_part_is_named() -> None:
    one = site(accumulate=3)

    def objective(inputs: object, index: torch.Tensor) -> torch.Tensor:
        return next(one.model.parameters()).sum() * (float("nan") if 5 in index else 1.0)

    with pytest.raises(FedloomError, match="client a, here: the loss is nan"):
        one.fit(one.private, 3, objective, "here")


@pytest.mark.parametrize("arch", ["vit", "bert"])
def test_a_frozen_backbone_looks_once(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fedloom.models.clients.client_model import FrozenClientModel

    one, anew = site(arch, "head", rate=0.02), site(arch, "head", augment=True)
    assert set(one.private) == {"features"}
    assert "features" not in anew.private
    before = weights(one)
    monkeypatch.setattr(FrozenClientModel, "frozen_features", lambda *a, **k: pytest.fail("looked again"))
    losses = [one.train_private(20, t) for t in range(3)]
    assert losses[2] < losses[0]  # type: ignore[operator]
    moved = {name for name, value in weights(one).items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith(("projector.", "head.")) for name in moved)
    z = one.encode(one.test)
    anew.model.load_state_dict(one.model.state_dict())
    torch.testing.assert_close(anew.encode(anew.test), z)
