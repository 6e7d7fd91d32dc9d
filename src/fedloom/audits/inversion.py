"""Reconstruction: pictures from representations, by an inverter.

shared samples   client and server know the same picture, so pairs of representation and picture are known. The
                 inverter learns from some and draws others. What it draws is no private picture: what is measured
                 is how much of a picture its representation holds.
prototypes       the mean representation of a client's pictures of a class. The inverter learns from the public part
                 as the client's own encoder sees it, which the server does not have: no real server can do better.
                 What could come out is the mean picture of the class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from fedloom.audits.encoders import client_encoder
from fedloom.audits.observed import shared_answers
from fedloom.audits.subject import AuditedRun
from fedloom.data.containers import ImageSet
from fedloom.federation.kept import Exchange
from fedloom.models.fit import adamw, fit, index_batches
from fedloom.models.pictures import to_float
from fedloom.seeding import global_torch_stream, numpy_stream
from fedloom.tasks import ClientTask

SIDE = 32  # pixels of a picture that is drawn, at most
STEPS, BATCH, HIDDEN = 1500, 64, 256
PARTS = 15  # after each of which the inverter is looked at
LEAST = 20  # pairs
WINDOW = 11  # pixels that SSIM looks at together
Pictures = NDArray[np.uint8]


class Inverter(nn.Module):
    """Representations (N, D) to pictures (N, 3, H, W) in [0, 1]: the mean picture, and what two layers add to it."""

    middle: Tensor
    spread: Tensor
    mean: Tensor

    def __init__(self, z: Tensor, pictures: Tensor) -> None:
        super().__init__()
        self.register_buffer("middle", z.mean(0))
        self.register_buffer("spread", z.std(0).clamp_min(1e-6))
        self.register_buffer("mean", pictures.mean(0))
        last = nn.Linear(HIDDEN, pictures[0].numel())
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(nn.Linear(z.shape[1], HIDDEN), nn.GELU(), nn.Dropout(0.1), last)

    def forward(self, z: Tensor) -> Tensor:
        """z (N, D) to pictures (N, 3, H, W)."""
        drawn: Tensor = self.layers((z - self.middle) / self.spread)
        return (self.mean + drawn.view(-1, *self.mean.shape)).clamp(0, 1)


def train_inverter(z: Tensor, pictures: Tensor, seed: int, steps: int = STEPS) -> Inverter:
    """An inverter of z (N, D) and pictures (N, 3, H, W), as it drew a tenth that it did not learn from best.

    It begins with the mean picture, and stays there where representations say nothing.
    """
    held = max(1, len(z) // 10)
    rng = numpy_stream(seed, "inverter")
    order = torch.from_numpy(rng.permutation(len(z)))
    check, learn = order[:held], order[held:]
    with global_torch_stream(seed, "inverter"):
        inverter = Inverter(z[learn], pictures[learn])
        optimizer = adamw(list(inverter.parameters()), 1e-3, 0.05)

        def loss(index: NDArray[np.int64]) -> Tensor:
            i = learn[torch.from_numpy(index)]
            return F.mse_loss(inverter(z[i]), pictures[i])

        best, kept = float("inf"), inverter.state_dict()
        for _ in range(PARTS + 1):
            with torch.no_grad():
                error = float(F.mse_loss(inverter.eval()(z[check]), pictures[check]))
            if error < best:
                best, kept = error, {k: v.clone() for k, v in inverter.state_dict().items()}
            inverter.train()
            fit(optimizer, index_batches(len(learn), BATCH, steps // PARTS, rng), loss, name="inverter")
    inverter.load_state_dict(kept)
    return inverter.eval()


def psnr(drawn: Tensor, true: Tensor) -> float:
    """Peak signal-to-noise ratio of pictures (N, 3, H, W) in [0, 1], decibels, mean over them; 60 at most."""
    errors = (drawn - true).square().flatten(1).mean(1).clamp_min(1e-6)
    return float((-10 * errors.log10()).mean())


def ssim(drawn: Tensor, true: Tensor) -> float | None:
    """Structural similarity, mean; None without torchmetrics, and of pictures smaller than its window."""
    if min(true.shape[2:]) < WINDOW:
        return None
    try:
        from torchmetrics.functional.image import structural_similarity_index_measure
    except ImportError:
        return None
    return float(structural_similarity_index_measure(drawn, true, data_range=1.0))  # type: ignore[arg-type]


def compared(z_known: Tensor, known: Tensor, z: Tensor, true: Tensor, seed: int) -> dict[str, Any]:
    """PSNR (and SSIM) of what an inverter of the known pairs draws of z (N, D), beside the true pictures.

    Beside it, of the mean known picture, and of the known picture with the nearest representation.
    """
    inverter = train_inverter(z_known, known, seed)
    with torch.no_grad():
        drawn = inverter(z)
    others = {"mean": known.mean(0).expand_as(true), "nearest": known[torch.cdist(z, z_known).argmin(1)]}
    found: dict[str, Any] = {"pairs": len(known), "pictures": len(true), "psnr": psnr(drawn, true)}
    found |= {f"psnr_{name}": psnr(each, true) for name, each in others.items()}
    if (value := ssim(drawn, true)) is not None:
        found |= {"ssim": value, "ssim_mean": ssim(others["mean"], true)}
    return found


def small(pictures: Pictures) -> Tensor:
    """Pictures uint8 (N, H, W, 3) as floats (N, 3, h, w) in [0, 1], of `SIDE` pixels at most."""
    x = (to_float(pictures) + 1) / 2
    return x if max(x.shape[2:]) <= SIDE else F.interpolate(x, (SIDE, SIDE), mode="area")


def reconstruction(run: AuditedRun, client: str, seed: int) -> dict[str, Any]:
    """What an inverter draws of the representations that crossed; `skipped` says why none can."""
    if run.clients[client] != ClientTask.IMAGE_CLASSIFICATION:
        return {"skipped": "it has no pictures"}
    exchanges = [kept.read(run.contract) for kept in run.exchanges.get(client, ())]
    prototypes = [e.reply for e in exchanges if getattr(e.reply, "prototypes", None)]
    if prototypes:
        return _of_prototypes(run, client, prototypes[-1], seed)
    return _of_shared(exchanges, seed)


def _of_shared(exchanges: Sequence[Exchange], seed: int) -> dict[str, Any]:
    answers = shared_answers(exchanges)
    if answers is None or answers.representations is None or not isinstance(answers.shown, np.ndarray):
        return {"skipped": "no representations cross"}
    z, pictures = torch.from_numpy(answers.representations), small(answers.shown)
    unlike = np.unique(answers.shown.reshape(len(z), -1), axis=0, return_inverse=True)[1].reshape(-1)
    rng = numpy_stream(seed, "audit", "inversion")
    drawn = rng.permutation(int(unlike.max()) + 1 if len(unlike) else 0)
    asked = np.isin(unlike, drawn[: max(1, len(drawn) // 4)])  # the same picture is never on both sides
    if (~asked).sum() < LEAST:
        return {"skipped": f"{len(z)} shared samples were answered about: too few to learn from"}
    known = torch.from_numpy(~asked)
    found = compared(z[known], pictures[known], z[~known], pictures[~known], seed)
    return {"from": "representations of shared samples, which the server has: no private picture", **found}


def _of_prototypes(run: AuditedRun, client: str, reply: Any, seed: int) -> dict[str, Any]:
    public, kind = run.public(client), str(run.clients[client])
    if public is None or kind not in reply.prototypes:
        return {"skipped": "there is no public part to learn from"}
    encoder, held = client_encoder(run, client), run.truth(client).held
    assert isinstance(held, ImageSet)
    classes = [int(c) for c in reply.classes[kind] if (held.labels == c).any()]
    rows = [i for i, c in enumerate(reply.classes[kind]) if int(c) in classes]
    true = torch.stack([small(held.images[held.labels == c]).mean(0) for c in classes])
    z = torch.from_numpy(reply.prototypes[kind][rows].copy())
    found = compared(encoder(public), small(public), z, true, seed)
    return {"from": "prototypes, beside the mean picture of each class; by the client's own encoder", **found}
