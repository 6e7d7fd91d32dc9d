"""What a private step costs: processor seconds of a step of DP-SGD beside a plain one, on made-up samples.

python benchmarks/private_step.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fedloom.config.models import ModelSettings
from fedloom.config.privacy import PrivacyPlan
from fedloom.data.containers import ImageSet, TextSet
from fedloom.methods.context import ClientContext
from fedloom.methods.private_context import PrivateClientContext
from fedloom.models.clients.build import build_client_model
from fedloom.models.clients.text import train_tokenizer
from fedloom.processes import settle_process

N, CLASSES, SIDE, BATCH, STEPS = 256, 10, 24, 32, 5
LINE = "a photograph of a red flower with five round petals"
MODELS = (("vit", "all"), ("beit", "all"), ("vit", "head"), ("bert", "all"), ("distilbert", "all"), ("bert", "lora"))


def seconds(work: Callable[[], Any]) -> float:
    """Processor seconds of a step, after a first one that is not counted."""
    work()
    start = time.process_time()
    for _ in range(STEPS):
        work()
    return (time.process_time() - start) / STEPS


def main() -> None:
    """A line a model."""
    settle_process(1)
    rng, words = np.random.default_rng(0), train_tokenizer([LINE] * 3, vocabulary=80, length=24)
    labels = rng.integers(0, CLASSES, N)
    pictures = ImageSet(rng.integers(0, 256, (N, SIDE, SIDE, 3), dtype=np.uint8), labels)
    texts = TextSet((LINE,) * N, labels)
    print(f"{'model':<16}{'plain, ms':>12}{'private, ms':>12}{'ratio':>8}")
    for arch, tune in MODELS:
        took = []
        for kind in (ClientContext, PrivateClientContext):
            settings = ModelSettings(arch=arch, tune=tune, patch=6, hidden=64, layers=2, heads=4, width=64)
            held: Any = texts if "bert" in arch else pictures
            model = build_client_model(settings, classes=CLASSES, image_size=SIDE, tokenizer=words)
            more = {"privacy": PrivacyPlan(epsilon=8.0, steps=100)} if kind is PrivateClientContext else {}
            context: Any = kind(
                name="client", modality="text" if "bert" in arch else "image", model=model, tokenizer=words,
                private=held, test=held.subset(np.arange(2)), seed=0, batch=BATCH, **more,
            )  # fmt: skip
            took.append(seconds(lambda context=context: context.train_private(1, "step")))
        plain, private = (1000 * value for value in took)
        print(f"{arch + ', ' + tune:<16}{plain:>12.1f}{private:>12.1f}{private / plain:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
