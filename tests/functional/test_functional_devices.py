"""Every equation on a pretended device: it stays there, mixes no devices, gives the CPU's numbers to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from fedloom.functional import (
    adversarial,
    attention,
    augment,
    confidence,
    contrast,
    distillation,
    ensemble,
    fusion,
    infiltration,
    matching,
    omission,
    robust,
    similarity,
    suspects,
    voting,
)
from pretend import DEVICE, pretended

K, N, D, C = 4, 13, 12, 5
GROUP = ["image", "image", "text", "text"]


def inputs() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    return {
        "z": torch.randn(K, N, D, generator=g),
        "y": torch.randn(K, N, D, generator=g),
        "logits": torch.randn(K, N, C, generator=g),
        "labels": torch.randint(C, (N,), generator=g),
        "votes": torch.randint(-1, C, (K, N), generator=g),
        "weights": torch.rand(K, N, generator=g),
        "present": torch.rand(K, N, generator=g) < 0.8,
        "pictures": torch.rand(3, 3, 8, 8, generator=g) * 2 - 1,
        "ids": torch.randint(9, (3, 7), generator=g),
    }


def own() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def mha(z: Tensor, y: Tensor, present: Tensor) -> list[Tensor]:
    module = attention.LearnedCrossAttention(D, heads=2).to(z.device)
    attention.train_cross_attention(module, z, y[0], batch=5)
    attention.train_cross_attention(module, z, y[0], present)
    return [module(z, y[0]), *module.parameters()]


def fused(mode: str) -> Callable[[dict[str, Tensor]], Any]:
    return lambda x: fusion.fuse_modalities(
        x["z"][:2], x["z"][2:], image_present=x["present"][:2], text_present=x["present"][2:], mode=mode,
        heads=3, anchor="enhanced", balance=True,
    )  # fmt: skip


def together(rule: Any) -> Callable[[dict[str, Tensor]], Tensor]:
    return lambda x: robust.combine(x["z"], rule, weights=x["weights"], present=x["present"])


def taught(x: dict[str, Tensor]) -> Any:
    sure, labels = infiltration.confidence(x["logits"][0], x["labels"]), x["labels"]
    means = [infiltration.class_means(v, labels, C) for v in (sure, infiltration.confidence(x["logits"][1], labels))]
    tau = infiltration.class_temperatures(means[0], means[1])
    weights = infiltration.class_weights(means[0], means[1], geometric=True)
    return means, infiltration.infiltration_loss(x["logits"][0], x["logits"][1], labels, tau, weights=weights)


def aligned(x: dict[str, Tensor]) -> list[Tensor]:
    return [distillation.align_loss(x["z"][0], x["y"][0], kind) for kind in ("kl", "mse", "cos")]


CASES: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "adversarial": lambda x: [
        adversarial.discriminator_loss(x["z"], x["y"]), adversarial.encoder_loss(x["z"]),
        adversarial.reverse_gradient(x["z"]), adversarial.discriminator_accuracy(x["z"], x["y"]),
    ],
    "attention mha": lambda x: mha(x["z"], x["y"], x["present"]),
    "shift": lambda x: augment.shift_flip(x["pictures"], own()),
    "simclr": lambda x: augment.simclr_views(x["pictures"], own()),
    "tokens": lambda x: augment.drop_tokens(x["ids"], torch.ones_like(x["ids"]), 0.5, own(), 1),
    "confidence": lambda x: confidence.confidence(confidence.entropy(x["logits"]), "lin", classes=C),
    "contrast": lambda x: contrast.contrast_weights(x["z"], x["y"], 0.1, present=x["present"], tile=3),
    "infonce": lambda x: contrast.symmetric_infonce(x["z"][0], x["y"][0]),
    "align": aligned,
    "modality mean": lambda x: ensemble.modality_mean(x["z"], GROUP, x["present"]),
    "Fed-ET": lambda x: ensemble.weighted_consensus(x["logits"], GROUP, x["present"]),
    "FedGEMS": lambda x: ensemble.knowing_weights(x["logits"], x["labels"], x["present"]),
    **{f"fusion {mode}": fused(mode) for mode in ("paired", "batch", "chunk")},
    "views": lambda x: fusion.fuse_views(x["z"], x["y"], present=x["present"]),
    "logits": lambda x: fusion.fuse_logits(x["logits"], GROUP, present=x["present"]),
    "infiltration": taught,
    "matching": lambda x: matching.PairMatching().to(x["z"].device)(x["z"][0], x["y"][0]),
    "spread": lambda x: matching.class_spread(x["z"][0]),
    "omission": lambda x: omission.omit(N, 0.5, torch.Generator(x["z"].device).manual_seed(1)),
    "similarity": lambda x: similarity.similarity_ensemble(x["z"], x["y"][0], present=x["present"], tile=4),
    "score facts": lambda x: similarity.score_facts(x["z"], x["y"][0], tile=4),
    "distance": lambda x: similarity.distillation_distance(x["z"][0], x["y"][0], "l2"),
    **{f"robust {rule}": together(rule) for rule in ("median", "trimmed", "geometric_median", "multi_krum")},
    "norm bound": lambda x: robust.clip_to_median(x["z"], 0.9, x["present"], x["y"][0]),
    "suspects": lambda x: [
        suspects.label_agreement(x["votes"], C), suspects.row_agreement(x["z"], x["present"]),
        suspects.row_distances(x["z"], x["present"]),
    ],
    "capped": lambda x: voting.capped(x["weights"], 0.3),
    "vote": lambda x: voting.label_vote(x["votes"], x["weights"], C, x["labels"]),
    "quorum": lambda x: voting.quorum_filter(x["labels"], K, 0.5),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_equation_stays_on_its_device(name: str) -> None:
    expected = tree_leaves(CASES[name](inputs()))
    with pretended():
        found = tree_leaves(CASES[name](tree_map(lambda t: t.to(DEVICE), inputs())))
        for one, two in zip(expected, found, strict=True):
            if isinstance(one, Tensor):
                assert str(two.device) == DEVICE
                assert torch.equal(one, two.detach().cpu())
            else:
                assert one == two


@pytest.mark.parametrize("name", ["adversarial", "contrast", "infonce", "align", "matching", "spread", "infiltration"])
def test_gradients_too(name: str) -> None:
    def gradients(device: str) -> list[Tensor]:
        x = {k: v.to(device) for k, v in inputs().items()}
        leaves = [x[k].requires_grad_() for k in ("z", "y", "logits")]
        total = sum(t.sum() for t in tree_leaves(CASES[name](x)) if isinstance(t, Tensor) and t.requires_grad)
        if isinstance(total, Tensor):
            total.backward()
        return [t.grad.cpu() for t in leaves if t.grad is not None]

    expected = gradients("cpu")
    with pretended():
        for one, two in zip(expected, gradients(DEVICE), strict=True):
            assert torch.equal(one, two)
