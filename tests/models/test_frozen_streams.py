"""Multimodal clients on frozen towers of a library: looked at once, never exchanged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

import given_models
from fedloom.config.models import ModelSettings
from fedloom.data.joint import MultimodalSamples
from fedloom.methods.base import load_method
from fedloom.methods.multimodal_context import MultimodalContext
from fedloom.models.clients.build import build_client_model
from fedloom.tasks import ClientTask, Modality

N = 6


@pytest.fixture
def samples() -> MultimodalSamples:
    """Clips of two frames and texts of different lengths; the last sample lacks its text."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (N, 2, 32, 32, 3), dtype=np.uint8)
    texts = tuple("red " * (n + 1) for n in range(N))
    both = MultimodalSamples({Modality.IMAGE: frames, Modality.TEXT: texts}, np.arange(N) % 3)
    return both.lacking({Modality.TEXT: np.arange(N) == N - 1})


@pytest.fixture
def context(tmp_path: Path, samples: MultimodalSamples):
    folders = (given_models.resnet(tmp_path / "resnet"), given_models.bert(tmp_path / "bert"))
    words = AutoTokenizer.from_pretrained(folders[1])
    words.model_max_length = 12

    def made(samples: MultimodalSamples = samples, **more: object) -> MultimodalContext:
        torch.manual_seed(0)
        settings = ModelSettings(arch="resnet+bert", pretrained="+".join(map(str, folders)), tune="head", width=8)
        streams = (Modality.IMAGE, Modality.TEXT)
        model = build_client_model(settings, classes=3, image_size=32, tokenizer=words, streams=streams)
        task = ClientTask.MULTIMODAL_CLASSIFICATION
        given = {
            "name": "joint-0",
            "modality": task,
            "tokenizer": words,
            "private": samples,
            "test": samples,
            "seed": 0,
        }
        return MultimodalContext(model=model, **given, **more)

    return made


def test_they_are_looked_at_once_and_say_the_same(context) -> None:
    looked, raw = context(augment=False), context(augment=True)
    assert looked.private["image_features"].shape[:2] == (N, 2)
    assert looked.private.keys() == {"present", "image_features", "text_features"}
    assert raw.private.keys() == {"present", "frames", "input_ids", "attention_mask"}
    for own in (looked, raw):
        own.model.eval()
    with torch.no_grad():
        one, two = (own.model(**own.ready(own.test)) for own in (looked, raw))
    assert torch.allclose(one, two, atol=1e-5)
    features = looked.stream_features(looked.test)
    assert not features[Modality.TEXT][N - 1].any()


def test_a_site_without_samples(context, samples: MultimodalSamples) -> None:
    """As the server is."""
    none = MultimodalSamples({k: v[:0] for k, v in samples.parts.items()}, samples.labels[:0])
    empty = context(augment=False, samples=none)
    assert empty.private["image_features"].shape[:2] == (0, 2)
    assert len(empty.private["text_features"]) == 0


@pytest.mark.parametrize("name", ["fedavg", "fedcmi", "scaffold"])
def test_they_are_trained_around_and_not_exchanged(context, name: str) -> None:
    method, _ = load_method(name)
    settings = method.settings(private_steps=2, extra_steps=0)
    own = context(augment=False, optimizer="sgd", momentum=0.0)
    own.attach(lambda model: method.wrap_model(model, settings))
    client = method.client(own, settings)
    before = {k: v.clone() for k, v in own.model.state_dict().items()}
    sent = client.parameters()
    assert sent
    assert not [k for k in sent if ".backbone." in k]
    assert [k for k in sent if "projector" in k]
    client.steps(own.task_loss if name != "fedcmi" else client.objective(), 1)
    moved = {k for k, v in own.model.state_dict().items() if not torch.equal(v, before[k])}
    assert moved
    assert not [k for k in moved if ".backbone." in k]
