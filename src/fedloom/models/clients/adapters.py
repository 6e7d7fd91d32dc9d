"""Parts that are trained beside a frozen backbone: LoRA's factors (peft), biases, bottleneck adapters.

An adapter (Houlsby et al., arXiv 1902.00751) follows each block of the backbone: h + up(gelu(down(h))). Its `up` begins
at zero, so that an adapted learner begins as the bare one.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from fedloom.config.models import ModelSettings
from fedloom.errors import BadInput
from fedloom.models.device import place_of

# The query and value projections, as transformers names them: vit, beit, bert and roberta, distilbert.
_QUERY_VALUE = re.compile(r".*\.(q_proj|v_proj|query|value|q_lin|v_lin)")
HEAD = re.compile(r"(^|\.)head\.")  # what a client keeps to itself where parameters are exchanged


def train_only(learner: nn.Module, settings: ModelSettings) -> nn.Module:
    """The learner with everything frozen but its head and what `settings.tune` names; LoRA and adapters are put in."""
    if settings.tune == "all":
        return learner
    for name, p in learner.named_parameters():
        chosen = HEAD.search(name) or (settings.tune == "bias" and name.endswith("bias"))
        chosen = chosen or (settings.tune == "head" and "projector." in name)
        p.requires_grad_(bool(chosen))
    if settings.tune == "lora":
        return with_lora(learner, settings.rank)
    return Adapted(learner, settings.rank) if settings.tune == "adapters" else learner


# ------------------------------------------------------------------------------------------------------------ LoRA


def with_lora(learner: nn.Module, rank: int) -> nn.Module:
    """The learner with low-rank factors on all query and value projections: W + B A, B zero at first (alpha = rank)."""
    import peft

    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=_QUERY_VALUE.pattern)
    peft.inject_adapter_in_model(config, learner)
    for name, p in learner.named_parameters():
        if "lora_" not in name:  # peft freezes all but its factors
            p.requires_grad_(bool(HEAD.search(name)))
    learner.export = _Merged(learner)  # type: ignore[assignment]
    return learner


class _Merged:
    """Exports a learner whose factors have been added to the weights: a stock folder again."""

    def __init__(self, learner: nn.Module) -> None:
        self.learner = [learner]  # in a list: no submodule

    def __call__(self, folder: Path, class_names: tuple[str, ...]) -> None:
        from peft.tuners.lora import LoraLayer

        learner: Any = self.learner[0]
        del learner.export
        try:
            whole = copy.deepcopy(learner)
        finally:
            learner.export = self
        for name, module in list(whole.named_modules()):
            if isinstance(module, LoraLayer):
                module.merge()
                whole.set_submodule(name, module.get_base_layer())
        whole.export(folder, class_names)


def plain_names(learner: nn.Module) -> dict[str, str]:
    """The names of a learner's state without LoRA -> those it has now."""
    return {k.replace(".base_layer.", "."): k for k in learner.state_dict()}


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


class Adapted(nn.Module):
    """A learner with something after each block: `make(width)` gives it, what it says is added to the block's output.

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

    def forward(self, **inputs: Tensor) -> Tensor:
        """Logits (B, C)."""
        return self.classify(self.encode(**inputs))

    def export(self, folder: Path, class_names: tuple[str, ...]) -> None:
        """Write all weights with their names and sizes; no class of transformers has adapters like these."""
        export_weights(self, folder, class_names, f"an adapter of {self.rank} units after each block")


class Adds:
    """A forward hook: adds what adapter `i` says of a block's output (B, L, W), or of maps (B, W, H, W').

    An adapter is small and stays on the CPU; its weights follow a block that is elsewhere, and gradients come back.
    """

    def __init__(self, adapters: nn.ModuleList | Sequence[Callable[[Tensor], Tensor]], i: int) -> None:
        self.adapters, self.i = adapters, i  # whatever stands there when the block runs

    def __call__(self, block: nn.Module, given: Any, output: Any) -> Any:
        h = output[0] if isinstance(output, tuple) else output
        maps = h.ndim == 4
        said = _said_there(self.adapters[self.i], h.movedim(1, -1) if maps else h)
        h = h + (said.movedim(-1, 1) if maps else said)
        return (h, *output[1:]) if isinstance(output, tuple) else h


def _said_there(adapter: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
    """What an adapter says of h, on the device of h."""
    if not isinstance(adapter, nn.Module) or place_of(adapter) == h.device:
        return adapter(h)
    weights = {name: p.to(h.device) for name, p in adapter.named_parameters()}
    return functional_call(adapter, weights, (h,))  # type: ignore[no-any-return]


def blocks(learner: nn.Module) -> list[tuple[nn.Module, int]]:
    """The blocks that an adapter can follow, each with the width of its output; outermost lists of modules have them.

    A learner without blocks (frozen features) has one: its projector.
    """
    towers = [learner.image, learner.text] if hasattr(learner, "text") else [learner]
    found: list[tuple[nn.Module, int]] = []
    for tower in towers:
        assert isinstance(tower, nn.Module)
        backbone: Any = None if hasattr(type(tower), "look") else getattr(tower, "backbone", None)
        if backbone is None:
            found.append((tower.projector, tower.head.in_features))  # type: ignore[union-attr, arg-type]
            continue
        config = backbone.config
        listed = next((m for m in backbone.modules() if isinstance(m, nn.ModuleList)), None)
        if listed is None:
            raise BadInput(f"{config.model_type} has no blocks that an adapter could follow")
        widths = (
            config.hidden_sizes
            if config.model_type == "resnet"
            else [getattr(config, "hidden_size", None) or config.dim] * len(listed)
        )
        found += list(zip(listed, widths))
    return found


def export_weights(learner: nn.Module, folder: Path, class_names: tuple[str, ...], what: str) -> None:
    """Write a learner that is no stock model: weights, class names, and a word on how it comes alive again."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().contiguous().clone() for k, v in learner.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    about = {"fedloom": type(learner).__name__, "holds": what, "class_names": list(class_names)}
    (folder / "config.json").write_text(json.dumps(about, indent=2) + "\n")
    (folder / "README.md").write_text(
        f"The weights of a client's model: {what}.\n"
        "It is no stock transformers model: the run's own configuration (config.yaml, `clients` and `settings`)\n"
        "builds it again, and `load_state_dict` takes these weights.\n"
    )


@torch.no_grad()
def put(module: nn.Module, values: Tensor) -> None:
    """Fill all parameters of a module, in their order, from one vector. ValueError where the lengths differ."""
    parameters = list(module.parameters())
    if len(values) != sum(p.numel() for p in parameters):
        raise ValueError(f"{len(values)} numbers for {sum(p.numel() for p in parameters)} parameters")
    for p, part in zip(parameters, torch.split(values, [p.numel() for p in parameters])):
        p.copy_(part.view_as(p))
