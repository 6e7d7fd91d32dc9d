"""Parts that are trained beside a frozen backbone: LoRA's factors (peft), biases, bottleneck adapters.

An adapter (Houlsby et al., arXiv 1902.00751) follows each block of the backbone: h + up(gelu(down(h))). Its `up` begins
at zero, so that an adapted model begins as the bare one.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from fedloom.config.archs import spec_of
from fedloom.config.models import ModelSettings
from fedloom.errors import BadInput
from fedloom.models.clients.client_model import Classifier, export_weights
from fedloom.models.clients.spec import QUERY_VALUE
from fedloom.models.device import place_of

HEAD = re.compile(r"(^|\.)head\.")  # what a client keeps to itself where parameters are exchanged


def train_only(model: nn.Module, settings: ModelSettings) -> nn.Module:
    """The model with everything frozen but its head and what `settings.tune` names; LoRA and adapters are put in."""
    if settings.tune == "all":
        return model
    for name, p in model.named_parameters():
        chosen = HEAD.search(name) or (settings.tune == "bias" and name.endswith("bias"))
        chosen = chosen or (settings.tune == "head" and "projector." in name)
        p.requires_grad_(bool(chosen))
    if settings.tune == "lora":
        targets = dict.fromkeys(spec_of(tower.arch).lora for tower in settings.towers())
        return with_lora(model, settings.rank, "|".join(targets))
    return Adapted(model, settings.rank) if settings.tune == "adapters" else model


# ------------------------------------------------------------------------------------------------------------ LoRA


def with_lora(model: nn.Module, rank: int, targets: str = QUERY_VALUE) -> nn.Module:
    """The model with low-rank factors on the layers that match `targets`: W + B A, B zero at first (alpha = rank).

    Raises:
        BadInput: no linear layer matches.
    """
    import peft

    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=targets)
    try:
        peft.inject_adapter_in_model(config, model)
    except ValueError as error:
        raise BadInput(f"tune = 'lora': no layer is called {targets}: {str(error).splitlines()[0]}") from error
    for name, p in model.named_parameters():
        if "lora_" not in name:  # peft freezes all but its factors
            p.requires_grad_(bool(HEAD.search(name)))
    model.export = _Merged(model)  # type: ignore[assignment]
    return model


class _Merged:
    """Exports a model whose factors have been added to the weights: a stock folder again."""

    def __init__(self, model: nn.Module) -> None:
        self.model = [model]  # in a list: no submodule

    def __call__(self, folder: Path, class_names: tuple[str, ...]) -> None:
        from peft.tuners.lora import LoraLayer

        model: Any = self.model[0]
        del model.export
        try:
            whole = copy.deepcopy(model)
        finally:
            model.export = self
        for name, module in list(whole.named_modules()):
            if isinstance(module, LoraLayer):
                module.merge()
                whole.set_submodule(name, module.get_base_layer())
        whole.export(folder, class_names)


def plain_names(model: nn.Module) -> dict[str, str]:
    """The names of a model's state without LoRA -> those it has now."""
    return {k.replace(".base_layer.", "."): k for k in model.state_dict()}


# -------------------------------------------------------------------------------------------------------- adapters


class Bottleneck(nn.Module):
    """up(gelu(down(h))) for h (..., width)."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, rank), nn.Linear(rank, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, h: Tensor) -> Tensor:
        return self.up(F.gelu(self.down(h)))  # type: ignore[no-any-return]


class Adapted(Classifier):
    """A model with something after each block: `make(width)` gives it, its output is added to the block's.

    `adapters`: one a block, in the backbone's order; of a pair, the picture tower's first. Hooks carry them, so `bare`
    keeps its names and its state.
    """

    def __init__(self, bare: nn.Module, rank: int, make: Callable[[int], nn.Module] | None = None) -> None:
        super().__init__()
        self.bare = bare
        self.rank = rank
        found = blocks(bare)
        self.adapters = nn.ModuleList([make(w) if make else Bottleneck(w, rank) for _, w in found])
        for i, (block, _) in enumerate(found):
            block.register_forward_hook(Adds(self.adapters, i))

    def encode(self, **inputs: Tensor) -> Tensor:
        """Representations z (B, D)."""
        return self.bare.encode(**inputs)  # type: ignore[operator, no-any-return]

    def classify(self, z: Tensor) -> Tensor:
        """Logits (B, C) of representations z (B, D)."""
        return self.bare.classify(z)  # type: ignore[operator, no-any-return]

    def export(self, folder: Path, class_names: tuple[str, ...]) -> None:
        """Write all weights with their names and sizes; no class of transformers has adapters like these."""
        export_weights(self, folder, class_names, f"an adapter of {self.rank} units after each block")


class Adds:
    """A forward hook: adds adapter `i`'s output to a block's (B, L, W), or maps (B, W, H, W').

    An adapter is small and stays on the CPU; its weights follow a block that is elsewhere, and gradients come back.
    """

    def __init__(self, adapters: nn.ModuleList | Sequence[Callable[[Tensor], Tensor]], i: int) -> None:
        self.adapters, self.i = adapters, i  # whatever stands there when the block runs

    def __call__(self, block: nn.Module, inputs: Any, output: Any) -> Any:
        h = output[0] if isinstance(output, tuple) else output
        maps = h.ndim == 4
        added = _at_place(self.adapters[self.i], h.movedim(1, -1) if maps else h)
        h = h + (added.movedim(-1, 1) if maps else added)
        return (h, *output[1:]) if isinstance(output, tuple) else h


def _at_place(adapter: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
    """An adapter's output for h, on the device of h."""
    if not isinstance(adapter, nn.Module) or place_of(adapter) == h.device:
        return adapter(h)
    weights = {name: p.to(h.device) for name, p in adapter.named_parameters()}
    return functional_call(adapter, weights, (h,))  # type: ignore[no-any-return]


def blocks(model: nn.Module) -> list[tuple[nn.Module, int]]:
    """The blocks that an adapter can follow, each with the width of its output; outermost lists of modules have them.

    A model without blocks (frozen features) has one: its projector. BadInput where there is nothing of the kind.
    """
    found: list[tuple[nn.Module, int]] = []
    for tower in [model.image, model.text] if hasattr(model, "text") else [model]:
        assert isinstance(tower, nn.Module)
        backbone: Any = None if hasattr(type(tower), "frozen_features") else getattr(tower, "backbone", None)
        if backbone is None:
            found.append((tower.projector, tower.head.in_features))  # type: ignore[union-attr, arg-type]
            continue
        config = getattr(backbone, "config", None)
        listed = next((m for m in backbone.modules() if isinstance(m, nn.ModuleList)), ())
        widths = spec_of(str(tower.arch)).block_widths
        one: Any = getattr(config, "hidden_size", None) or getattr(config, "dim", None)
        if not listed or not (widths or one):
            name = getattr(config, "model_type", tower.arch)
            raise BadInput(f"{name} has no blocks that an adapter could follow")
        found += zip(listed, widths(config) if widths else [one] * len(listed))
    return found


@torch.no_grad()
def put(module: nn.Module, values: Tensor) -> None:
    """Fill all parameters of a module, in their order, from one vector. ValueError where the lengths differ."""
    parameters = list(module.parameters())
    if len(values) != sum(p.numel() for p in parameters):
        raise ValueError(f"{len(values)} numbers for {sum(p.numel() for p in parameters)} parameters")
    for p, part in zip(parameters, torch.split(values, [p.numel() for p in parameters])):
        p.copy_(part.view_as(p))
