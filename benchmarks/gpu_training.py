"""A training step of the generator and of clients: seconds, share of the card's peak, memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from gpu_drawing import GLIDE, SD, WIDTH, prompts
from measured import Row, against, flop, in_turn
from random_weights import put

from fedloom.models.fit import adamw

IMAGE, TEXT = "google/vit-base-patch32-224-in21k", "google-bert/bert-base-uncased"
BATCH = {"real": 16, "tiny": 2}  # the generator's, as in the paper
CLIENT_BATCH = {"real": 32, "tiny": 4}
CLASSES, TOKENS = 102, 64
Step = Callable[[], Any]


def rows(weights: Path, size: Any, device: torch.device, repeats: int, precision: Any) -> list[Row]:
    """Each step alone on the device: what one leaves there is gone before the next."""
    batch, many = BATCH[size], CLIENT_BATCH[size]
    folders = {name: put(weights, name, size) for name in (SD, GLIDE, IMAGE, TEXT)}
    steps: list[tuple[str, str, str, Callable[[], Step]]] = [
        (
            f"{SD}, step of {batch}",
            way,
            precision,
            lambda way=way: latent(folders[SD], way, batch, device, precision),
        )
        for way in ("unet", "lora")
    ]
    steps.append(
        (
            f"{GLIDE}, step of {batch}",
            "unet",
            precision,
            lambda: glide(folders[GLIDE], batch, device, precision),
        )
    )
    steps += [
        (
            f"{name}, step of {many}",
            "client",
            precision,
            lambda a=a, n=name: client(a, n, many, device, precision),
        )
        for a, name in (("vit", IMAGE), ("bert", TEXT))
    ]
    found = []
    for what, way, kind, build in steps:
        step = build()
        step()  # texts are read and moments made once
        work = flop(step)
        row = in_turn({way: step}, device, repeats)[way]
        found.append({"what": what, "way": way} | against(row, device, kind, work))
        del step
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return found


def stepping(parameters: Any, loss: Callable[[], Any]) -> Step:
    """A step as `fit` takes it."""
    kept = [p for p in parameters if p.requires_grad]
    optimizer = adamw(kept, 1e-5)

    def step() -> None:
        value = loss()
        value.item()
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(kept, 1.0)
        optimizer.step()

    return step


def conditioned(batch: int, device: torch.device) -> dict[str, Any]:
    """Texts, representations and who is left out."""
    fused = torch.randn((batch, WIDTH), generator=torch.Generator().manual_seed(1)).to(device)
    draws = torch.Generator().manual_seed(2)
    out = torch.zeros(batch, dtype=torch.bool, device=device)
    return {"texts": prompts(batch), "draws": draws, "representation": fused, "leave_out": out}


def latent(folder: Path, train: Any, batch: int, device: torch.device, precision: Any) -> Step:
    """Stable Diffusion's UNet, or LoRA's factors on it, from latents that are kept."""
    from fedloom.config.stable_diffusion import LatentSettings
    from fedloom.models.generators.stable_diffusion import load_latent

    where = {"pretrained": str(folder), "device": str(device), "precision": precision}
    generator = load_latent(LatentSettings(**where, train=train), WIDTH).train()
    config = generator.unet.config
    latents = torch.randn((batch, config.in_channels, config.sample_size, config.sample_size))
    given = conditioned(batch, device)
    return stepping(generator.trainable(), lambda: generator.loss(None, latents=latents, **given))


def glide(folder: Path, batch: int, device: torch.device, precision: Any) -> Step:
    """GLIDE's base model."""
    from fedloom.config.glide import GlideSettings
    from fedloom.models.generators.glide.generator import load_glide_generator

    settings = GlideSettings(device=str(device), precision=precision)
    generator = load_glide_generator(folder, WIDTH, settings=settings).train()
    images = torch.rand((batch, 3, generator.native, generator.native)) * 2 - 1
    given = conditioned(batch, device)
    return stepping(generator.trainable(), lambda: generator.loss(images, **given))


def client(arch: str, name: str, batch: int, device: torch.device, precision: Any) -> Step:
    """A client's classifier around pretrained weights, loaded by its hub name as in a run."""
    from fedloom.config.models import ModelSettings
    from fedloom.models.clients.build import build_client_model

    learner: Any = build_client_model(ModelSettings(arch=arch, pretrained=name, width=WIDTH), classes=CLASSES)
    learner.settle(device, precision)
    learner.train()
    labels = torch.arange(batch) % CLASSES
    config = learner.backbone.config
    if arch == "vit":
        inputs = {"pixel_values": torch.randn((batch, 3, config.image_size, config.image_size), device=device)}
    else:
        ids = torch.randint(5, config.vocab_size, (batch, TOKENS), device=device)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    return stepping(learner.parameters(), lambda: F.cross_entropy(learner(**inputs), labels))
