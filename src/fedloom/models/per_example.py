"""A step on private samples as DP-SGD takes it: each sample's gradient clipped, noise on their sum. By opacus.

Gradients of single samples are torch's (`torch.func`): a loss is computed of one sample alone, so that whatever the
objective is, nothing in it is of two. opacus' own hooks give the same for the layers that they know.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fedloom.errors import BadInput

Objective = Callable[[dict[str, Tensor], Tensor], Tensor]
ATTENTION = "fedloom_per_example"


class _Whole(nn.Module):
    """An objective and the model it trains, so that torch puts other parameters in their place."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model, self._objective = model, objective

    def forward(self, views: dict[str, Tensor], index: Tensor) -> Tensor:
        return self._objective({k: v[None] for k, v in views.items()}, index[None])


def per_example_gradients(
    model: nn.Module, objective: Objective, views: Mapping[str, Tensor], index: Tensor
) -> dict[str, Tensor]:
    """The gradient of each sample's own loss, (B, *shape) by parameter name; what is not finite counts as 0.

    Args:
        objective: inputs and indices of samples -> scalar loss; called with one sample at a time.
        views, index: inputs of B samples, and which they are, (B,).
    """
    whole = _Whole(model, objective)
    trained = {k: p.detach() for k, p in whole.named_parameters() if p.requires_grad}
    # A frozen backbone has no gradient, and need not be looked through by single samples.
    frozen: Any = getattr(model, "frozen_features", None)
    seen = dict(views) if frozen is None or "features" in views else {"features": frozen(**views)}

    def loss(parameters: dict[str, Tensor], one: dict[str, Tensor], i: Tensor) -> Tensor:
        return torch.func.functional_call(whole, parameters, (one, i))  # type: ignore[no-any-return]

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0), randomness="different")
    with sdpa_kernel(SDPBackend.MATH):  # the one that torch computes for many samples at once
        found: dict[str, Tensor] = each(trained, seen, index)
    return {k.removeprefix("model."): torch.nan_to_num(g, posinf=0.0, neginf=0.0) for k, g in found.items()}


def add_private_gradient(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    gradients: Iterator[dict[str, Tensor]],
    *,
    clip: float,
    noise: float,
    batch: float,
) -> None:
    """Add to the parameters' gradients the sum of clipped ones with noise, over the batch's expected size.

    The noise is of torch's global generators.

    Args:
        gradients: of all samples of the batch, a part at a time; at least one part, which may be of no sample.
        clip: largest L2 norm of a sample's gradient.
        noise: standard deviation over `clip`.
        batch: expected samples of a batch.
    """
    from opacus.optimizers import DPOptimizer

    private = DPOptimizer(
        optimizer,
        noise_multiplier=noise,
        max_grad_norm=clip,
        expected_batch_size=batch,  # n times the sampling rate: a fraction, as a rule
        loss_reduction="mean",
    )
    named, before = dict(model.named_parameters()), [p.grad for p in private.params]
    try:
        part: dict[str, Tensor] | None = next(gradients)
        while part is not None:
            for name, value in part.items():
                named[name].grad_sample = value  # type: ignore[attr-defined]
            part = next(gradients, None)
            private.signal_skip_step(part is not None)  # noise once, after the last part
            private.pre_step()
        for p, old in zip(private.params, before):
            if old is not None:
                p.grad = p.grad + old if p.grad is not None else old
    finally:
        for p in private.params:
            for name in ("grad_sample", "summed_grad"):
                if hasattr(p, name):
                    delattr(p, name)


def check_private(model: nn.Module, sample: Mapping[str, Tensor], objective: Objective) -> None:
    """Raises BadInput where gradients of single samples mean nothing, or cannot be had.

    sample: inputs of one sample, of zeros. The model's mode and torch's random stream stay as they are.
    """
    modes = {part: part.training for part in model.modules()}
    model.train()
    try:
        for part in model.modules():
            if any(p.requires_grad for p in part.parameters(recurse=False)):
                _check_layer(part)
        _see_masks_whole(model)
        with torch.random.fork_rng(devices=[]):
            per_example_gradients(model, objective, sample, torch.zeros(1, dtype=torch.int64))
    except RuntimeError as error:
        why = " ".join(str(error).split())[:120]
        raise BadInput(f"clients.privacy: this model gives no gradients of single samples: {why}") from None
    finally:
        for part, mode in modes.items():
            part.training = mode


def _check_layer(part: nn.Module) -> None:
    """Raises BadInput for what opacus' validator refuses; here also for what is derived from it."""
    from opacus.validators import ModuleValidator

    for kind, check in ModuleValidator.VALIDATORS.items():
        if isinstance(part, kind) and check(part):
            allowed = (
                "vit, deit, beit or swin, or pretrained weights with tune = 'head' (a frozen backbone)"
                if "Norm" in kind.__name__
                else "bert, distilbert, roberta or albert"
            )
            raise BadInput(
                f"clients.privacy: {kind.__name__} makes one sample's gradient depend on others, or has none that "
                f"opacus knows; allowed: a model without, such as {allowed}"
            )


def _see_masks_whole(model: nn.Module) -> None:
    """transformers looks whether a batch has padding at all, which one sample of many cannot say: leave that out."""
    _register()
    for part in model.modules():
        choose: Any = getattr(part, "set_attn_implementation", None)
        if choose is not None and getattr(part, "_supports_sdpa", False):
            choose(ATTENTION)


@functools.cache
def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    def mask(*args: Any, **how: Any) -> Any:
        return sdpa_mask(*args, **{**how, "allow_is_bidirectional_skip": False})

    AttentionInterface.register(ATTENTION, sdpa_attention_forward)
    AttentionMaskInterface.register(ATTENTION, mask)
