"""Batch norms that train on one value: layers, every model that has some, and clients with a single sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedloom.config.models import JudgeSettings, ModelSettings
from fedloom.data.containers import ImageSet
from fedloom.data.joint import MultimodalSamples
from fedloom.data.pairs import ImageTextPairs
from fedloom.experiment.client_builder import context_class, new_client
from fedloom.federation.messages import Empty
from fedloom.methods.base import load_method
from fedloom.methods.catalogue import CATALOGUE
from fedloom.models.clients.batch_norms import also_of_one
from fedloom.models.clients.build import build_client_model
from fedloom.models.clients.text import train_tokenizer
from fedloom.models.evaluators.judge import train_judge

SIDE, CLASSES = 12, 3


def test_a_layer() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.BatchNorm1d(4))
    names = list(plain.state_dict())
    one, many = torch.randn(1, 3, 3, 3), torch.randn(5, 3, 3, 3)
    with pytest.raises(ValueError, match="more than 1 value"):
        plain(one)
    wanted, running = plain(many), plain[1].running_mean.clone()  # type: ignore[union-attr, operator]
    assert list(also_of_one(plain).state_dict()) == names
    assert torch.equal(plain(many), wanted)
    assert not torch.equal(plain[1].running_mean, running)  # type: ignore[arg-type]
    trained, before = plain(one), {k: v.clone() for k, v in plain.state_dict().items()}
    assert torch.equal(trained, plain.eval()(one))
    assert all(torch.equal(v, before[k]) for k, v in plain.state_dict().items())


def test_a_judge_of_one_picture() -> None:
    real = ImageSet(np.full((1, 8, 8, 3), 7, np.uint8), np.zeros(1, np.int64))
    judge = train_judge(JudgeSettings(channels=(4, 4, 4), steps=2, batch=2), real, 2, 0)
    assert torch.isfinite(judge(torch.zeros(1, 3, 8, 8))).all()


def one_client(method: str, arch: str, n: int = 1, batch: int = 8) -> Any:
    """A client of a real architecture with n private samples."""
    modality = "joint" if arch.startswith("audio") else "pair" if "+" in arch else "image"
    settings = ModelSettings(arch=arch, hidden=8, width=8, unit=method == "fedafd" and modality == "image")
    words = train_tokenizer(["a red picture", "a blue picture"] * 2, 60, 8)
    streams = ("audio", "image") if modality == "joint" else ()
    torch.manual_seed(0)
    learner = build_client_model(settings, classes=CLASSES, image_size=SIDE, tokenizer=words, streams=streams)

    def held(count: int) -> Any:
        rng = np.random.default_rng(count)
        images = rng.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
        labels = np.arange(count, dtype=np.int64) % CLASSES
        if modality == "image":
            return ImageSet(images, labels)
        if modality == "pair":
            return ImageTextPairs(images, ("a red picture",) * count, np.arange(count))
        sounds = rng.normal(size=(count, 4, 4)).astype(np.float32)
        return MultimodalSamples({"audio": sounds, "image": images[:, None]}, labels)

    kind, _ = load_method(method)
    return new_client(
        method,
        kind.settings(**{"gff": False} if "gff" in kind.settings.model_fields else {}).model_dump(),
        lambda site: site.train_private(2, 0, "warm"),
        context_class(modality)(
            name="it",
            modality=modality,
            model=learner,
            tokenizer=words,
            private=held(n),
            test=held(5),
            seed=0,
            batch=batch,
            optimizer=kind.optimizers[0],
        ),
    )


CASES = [
    *((m, "resnet") for m in CATALOGUE if load_method(m)[0].tasks & {"image", "text"}),
    *((m, "resnet+gru") for m in ("standalone", "fedavg", "fedafd")),
    *((m, "audio-resnet+resnet") for m in CATALOGUE if load_method(m)[0].tasks & {"joint"}),
]


@pytest.mark.parametrize(("method", "arch"), [c for c in CASES if c[0] not in ("lora-fl", "bias-fl", "feddat")])
def test_a_client_with_one_sample_trains_and_is_scored(method: str, arch: str) -> None:
    from fedloom.methods.base import TrainOrder

    half = one_client(method, arch)
    done = half.train(TrainOrder(2), round=1)
    scores = half.evaluate(Empty(), round=1)
    assert np.isfinite(done.loss)
    assert 0 <= scores.accuracy <= 1
    assert all(np.isfinite(v.numpy()).all() for v in half.context.model.state_dict().values())
    z = half.represent(half.context.test)
    assert torch.isfinite(z).all()
    assert z.abs().max() < 100  # scored by what it was trained with, not by a variance of 0


@pytest.mark.parametrize("arch", ["resnet", "resnet+gru", "audio-resnet+resnet"])
def test_batches_of_one(arch: str) -> None:
    half = one_client("standalone", arch, n=9, batch=1)
    assert np.isfinite(half.evaluate(Empty(), round=1).accuracy)
