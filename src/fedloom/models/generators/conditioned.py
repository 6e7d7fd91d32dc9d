"""What the server's text-to-image models have in common: text joined with representations, and what is learned."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fedloom.config.base import Precision
from fedloom.errors import BadInput, FedloomError
from fedloom.models.device import CPU, arithmetic
from fedloom.models.generators.latent_codes import keep
from fedloom.models.generators.latent_sizes import put_lora

Condition = Literal["add", "token", "pooled"]
Said = tuple[Tensor, Tensor, Tensor | None]
BRIDGE = "bridge.safetensors"  # W_r, beside a saved pipeline


def joined(
    mode: Condition,
    said: tuple[Tensor, Tensor],
    bridge: nn.Linear,
    representation: Tensor | None,
    leave_out: Tensor | None,
) -> Said:
    """Eq. 11 and 12: text joined with W_r R, except where `leave_out` says text only.

    Args:
        mode: to every token and the pooled text (add), as one more token, or to the pooled text alone.
        said: the text's tokens (B, L, w) and pooled vector (B, v).
        bridge: W_r, D to w for both; or to w + v: its first rows for tokens, the others for the pooled text.
        representation: R (B, D), layer-normalised here, or None.
        leave_out: bool (B,), the draws b of eq. 12, or None for none left out.

    Returns:
        tokens (B, L or L+1, w), pooled (B, v), attention mask (B, L+1) or None; on the text's device.
    """
    tokens, pooled = said
    if representation is None:
        return tokens, pooled, None
    device, width = tokens.device, tokens.shape[-1]
    r = representation.to(device, torch.float32)
    addition = bridge(F.layer_norm(r, r.shape[-1:], eps=1e-8))  # (B, w) or (B, w + v)
    leave_out = None if leave_out is None else leave_out.to(device)
    if leave_out is not None:
        addition = addition * (~leave_out)[:, None]
    to_tokens = addition[:, :width]
    to_pooled = addition if addition.shape[1] == pooled.shape[1] else addition[:, width:]
    if mode == "add":
        return tokens + to_tokens[:, None], pooled + to_pooled, None
    if mode == "pooled":
        return tokens, pooled + to_pooled, None
    # A zero token would still take attention: it is masked where R is left out, and gone as long as W_r is zero,
    # but for training: through a mask no gradient would ever reach W_r.
    speaks = torch.is_grad_enabled() or bool(bridge.weight.any())
    heard = torch.full((len(tokens),), speaks, device=device)
    heard = heard if leave_out is None else heard & ~leave_out
    if not heard.any():
        return tokens, pooled, None
    read = torch.ones(tokens.shape[:2], dtype=torch.bool, device=device)
    mask = torch.cat([read, heard[:, None]], dim=1)
    return torch.cat([tokens, to_tokens[:, None]], dim=1), pooled, mask


def write_bridge(bridge: nn.Linear, folder: Path) -> None:
    """W_r beside a saved pipeline."""
    save_file({"weight": bridge.weight.detach().cpu().contiguous()}, folder / BRIDGE)


def read_bridge(bridge: nn.Linear, folder: str | Path) -> None:
    """W_r from a folder, where it holds one. Raises BadInput for one of another width that says something."""
    file = Path(folder) / BRIDGE
    if not file.exists():
        return
    weight = load_file(file)["weight"]
    if weight.shape == bridge.weight.shape:
        bridge.load_state_dict({"weight": weight})
    elif weight.any():
        raise BadInput(f"{file}: W_r has shape {tuple(weight.shape)}, this run wants {tuple(bridge.weight.shape)}")


def without_place(folder: Path) -> None:
    """Take out of a saved pipeline where it was loaded from, which is nobody else's business."""
    for file in folder.rglob("*.json"):
        facts = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(facts, dict) and facts.pop("_name_or_path", None) is not None:
            file.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def check_training(precision: Precision, offload: bool = False) -> None:
    """BadInput where a generator can draw only, as it was loaded."""
    if precision == "fp16":
        raise BadInput("precision 'fp16' draws only (gradients vanish), allowed for training: fp32, bf16")
    if offload:
        raise BadInput("offload = True draws only, what is trained has to stay on its device: offload=false")


class Conditioned(nn.Module):
    """A pipeline's parts with what federated tuning adds: the map W_r from representations (FedMMKT, eq. 11).

    Trainable: what of the UNet (the paper's decoder) is not frozen, and W_r, which starts at zero. The text encoder is
    frozen. Randomness is drawn on the CPU, whatever the device.

    Args:
        pipe: who builds on this puts it on `device`.
        width: D of the representations.
        condition: how R joins the text.
        rows: of W_r; by default the width w of the text's tokens.
    """

    keep_texts: float = math.inf  # most texts whose encodings are kept

    def __init__(
        self,
        pipe: Any,
        width: int,
        condition: Condition = "add",
        device: torch.device = CPU,
        precision: Precision = "fp32",
        rows: int | None = None,
    ) -> None:
        super().__init__()
        self.pipe = pipe
        self.device, self.precision = device, precision
        self.unet = pipe.unet
        self.condition: Condition = condition
        self.text_encoder = pipe.text_encoder.requires_grad_(False).eval()
        self.bridge = nn.Linear(width, rows or pipe.unet.config.cross_attention_dim, bias=False)
        nn.init.zeros_(self.bridge.weight)
        self.bridge.to(device)
        self._texts: dict[str, tuple[Tensor, Tensor]] = {}
        self.origin: str | None = None  # what it was loaded from, by content, as long as nothing has changed it

    @property
    def steps_to_learn_from(self) -> int | None:
        """Sampling steps of pictures that are learned from; None: as always."""
        return None

    def train(self, mode: bool = True) -> Self:
        """Training mode for what is trained; the frozen parts stay as they are."""
        super().train(mode)
        for name, part in self.named_children():
            if name not in ("unet", "bridge"):
                part.eval()
        return self

    def touched(self) -> None:
        """State that it is about to be changed: what it draws is no longer what others drew who began like it."""
        self.origin = None

    def only_lora(self, rank: int, seed: int) -> None:
        """From now on only LoRA's factors on the UNet's attention are trained, and W_r. BadInput where it has some."""
        if any("lora_A" in name for name, _ in self.unet.named_parameters()):
            raise BadInput(f"settings.lora_rank = {rank}: this generator is tuned by LoRA already, allowed: 0")
        put_lora(self.unet, rank, seed)

    def _trained(self) -> dict[str, nn.Parameter]:
        named = {f"unet.{k}": p for k, p in self.unet.named_parameters() if p.requires_grad}
        return named | {"bridge.weight": self.bridge.weight}

    def trainable(self) -> list[nn.Parameter]:
        """W_r's parameters after the UNet's, or after those of its LoRA factors."""
        return list(self._trained().values())

    def learned(self) -> dict[str, Tensor]:
        """What training changes, on the CPU: a checkpoint's content (with LoRA some megabytes)."""
        return {k: p.detach().cpu().clone(memory_format=torch.contiguous_format) for k, p in self._trained().items()}

    @torch.no_grad()
    def load_learned(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore `learned()`. BadInput where the names differ (LoRA's factors for a whole UNet, say)."""
        self.touched()
        own = self._trained()
        if other := own.keys() ^ tensors.keys():
            raise BadInput(f"generator's weights: {len(other)} names differ, such as {min(other)}")
        for name, p in own.items():
            p.copy_(tensors[name])

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Texts to (tokens (B, L, w), pooled (B, v)), v = 0 without pooled text; float32 on the device.

        Each distinct text is encoded once, the encoders being frozen.
        """
        found = {text: self._texts[text] for text in texts if text in self._texts}
        for text in dict.fromkeys(text for text in texts if text not in found):
            tokens, pooled = self._encode([text])  # alone: what stands beside it in a batch changes the last bits
            found[text] = tokens[0], pooled[0]
            keep(self._texts, text, found[text], self.keep_texts)
        tokens = torch.stack([found[text][0] for text in texts])
        pooled = torch.stack([found[text][1] for text in texts])
        return tokens.to(self.device), pooled.to(self.device)

    @torch.no_grad()
    def read(self, texts: Sequence[str], batch: int = 64) -> None:
        """Encode texts ahead, many at a time: their last bits then hang on those beside them, unlike in `embed`."""
        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        for i in range(0, len(new), batch):
            part = new[i : i + batch]
            for text, tokens, pooled in zip(part, *self._encode(part)):
                keep(self._texts, text, (tokens, pooled), self.keep_texts)

    def _encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        with self._arithmetic():
            tokens, pooled = self.pipe.embed(list(texts))
        return tokens.float(), pooled.float()

    def _arithmetic(self) -> AbstractContextManager[Any]:
        return arithmetic(self.device, self.precision)

    def conditioned(self, texts: Sequence[str], representation: Tensor | None, leave_out: Tensor | None) -> Said:
        """B texts joined with R (B, D), see `joined`: tokens (B, L or L+1, w), pooled (B, v), mask (B, L+1) or None."""
        return joined(self.condition, self.embed(texts), self.bridge, representation, leave_out)

    def check_finite(self, pixels: Tensor) -> Tensor:
        """The pictures that were drawn. FedloomError where a value is not finite."""
        if not torch.isfinite(pixels).all():
            raise FedloomError(f"generator: drew pictures that are not finite ({self.precision})")
        return pixels

    def save(self, folder: Path) -> None:
        """Write a folder of the pipeline, W_r beside it; LoRA's factors are merged into the UNet's weights."""
        whole = self.pipe.unet
        if any("lora_A" in name for name, _ in whole.named_parameters()):
            self.pipe.unet = copy.deepcopy(whole)
            self.pipe.unet.fuse_lora()
            self.pipe.unet.unload_lora()
        try:
            self.pipe.save_pretrained(folder)
        finally:
            self.pipe.unet = whole
        without_place(folder)
        write_bridge(self.bridge, folder)
