"""What the figures of `gpu.py` are bounded by: FLOP counted on torch's meta device at full size, and a card's peaks.

    python benchmarks/gpu.py limits --card H200

Nothing is computed and no weight takes memory, so it runs anywhere. Products, convolutions and attentions are counted,
two FLOP a multiplication and addition; what else there is moves memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gpu_drawing
import gpu_fusion
import gpu_training
import torch
from measured import PEAKS, Row, flop
from torch import Tensor

from fedloom.models.generators.latent_sizes import add_lora, family_configs

META = torch.device("meta")
PROMPT = {gpu_drawing.SD: (77, 768), gpu_drawing.GLIDE: (128, 512)}  # tokens of a text, their width


def rows(card: str) -> list[Row]:
    """FLOP of each figure, and the least seconds they take on the card."""
    found = [*drawing(), *training(), *clients()]
    clients_each, n, width = gpu_fusion.SIZES["real"]
    work = gpu_fusion.flops(2 * clients_each, n, width)
    what = f"MultiRepFusion, {2 * clients_each} clients, N = {n}, D = {width}"
    moved = gpu_fusion.moved(2 * clients_each, n, width) / PEAKS[card]["bytes"]
    found += [{"what": what, "way": kind, "flop": work, "arithmetic": kind} for kind in ("fp32", "tf32")]
    found.append({"what": what, "way": "memory", "flop": 0, "arithmetic": "fp32", "seconds": moved})
    return [{"seconds": row["flop"] / PEAKS[card][row["arithmetic"]]} | row for row in found]


def drawing() -> list[Row]:
    """Steps through the U-Net, both branches in one batch; of Stable Diffusion also what the VAE decodes."""
    found = []
    for name in (gpu_drawing.SD, gpu_drawing.GLIDE):
        batch, steps, guidance = gpu_drawing.SIZES["real"][name]
        with torch.no_grad():
            work = steps * flop(partial(said, unet_of(name), name, 2 * batch))
            if name == gpu_drawing.SD:
                work += flop(partial(vae().decode, torch.empty((batch, 4, 64, 64), device=META)))
        what = f"{name}, {batch} pictures, {steps} steps, guidance {guidance}"
        found.append({"what": what, "way": "drawing", "flop": work, "arithmetic": "bf16"})
    return found


def training() -> list[Row]:
    """Forward and backward of the generator's steps."""
    batch, found = gpu_training.BATCH["real"], []
    for name, way in ((gpu_drawing.SD, "unet"), (gpu_drawing.SD, "lora"), (gpu_drawing.GLIDE, "unet")):
        unet = unet_of(name)
        if way == "lora":
            with META:
                add_lora(unet, 8)
        work = flop(partial(backward, partial(said, unet, name, batch)))
        found.append({"what": f"{name}, step of {batch}", "way": way, "flop": work, "arithmetic": "bf16"})
    return found


def clients() -> list[Row]:
    """Forward and backward of a ViT-B/32 and of a BERT-base."""
    import transformers as hf

    many, found = gpu_training.CLIENT_BATCH["real"], []
    with META:
        vit = hf.ViTForImageClassification(hf.ViTConfig(patch_size=32, num_labels=gpu_training.CLASSES))
        bert = hf.BertForSequenceClassification(hf.BertConfig(num_labels=gpu_training.CLASSES))
        ids = torch.ones((many, gpu_training.TOKENS), dtype=torch.int64)
        pixels = torch.empty((many, 3, 224, 224))
    # Without a mask: to look whether it hides anything takes numbers.
    given = ((gpu_training.IMAGE, partial(vit, pixels)), (gpu_training.TEXT, partial(bert, ids)))
    for name, model in given:
        work = flop(partial(backward, lambda model=model: model().logits))
        found.append({"what": f"{name}, step of {many}", "way": "client", "flop": work, "arithmetic": "bf16"})
    return found


def backward(forward: Callable[[], Tensor]) -> None:
    """A forward and a backward pass."""
    forward().mean().backward()  # type: ignore[no-untyped-call]


def unet_of(name: str) -> Any:
    """The U-Net at its published size, on the meta device."""
    with META:
        if name == gpu_drawing.GLIDE:
            from fedloom.models.generators.glide.networks import GlideUNet

            return GlideUNet()
        from diffusers import UNet2DConditionModel

        return UNet2DConditionModel.from_config(dict(family_configs("sd-1.5")["unet"]))


def vae() -> Any:
    """Stable Diffusion's VAE at its published size, on the meta device."""
    from diffusers import AutoencoderKL

    with META:
        return AutoencoderKL.from_config(dict(family_configs("sd-1.5")["vae"]))


def said(unet: Any, name: str, batch: int) -> Tensor:
    """What the U-Net answers to a batch."""
    length, width = PROMPT[name]
    side = unet.config.sample_size
    x = torch.empty((batch, unet.config.in_channels, side, side), device=META)
    t = torch.ones(batch, dtype=torch.int64, device=META)
    tokens = torch.empty((batch, length, width), device=META)
    if name == gpu_drawing.GLIDE:
        pooled = torch.empty((batch, width), device=META)
        return unet(x, t, tokens, pooled).sample  # type: ignore[no-any-return]
    return unet(x, t, tokens).sample  # type: ignore[no-any-return]
