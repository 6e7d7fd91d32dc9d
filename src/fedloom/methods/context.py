"""What a client half finds at its site: its model, its data, its optimiser, its training, its random streams."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from fedloom.config.base import Precision
from fedloom.data.containers import Attribute, ImageSet, Samples
from fedloom.functional.augment import drop_tokens, shift_flip
from fedloom.methods.state import Kept, Stateful
from fedloom.models.clients.client_model import towers
from fedloom.models.clients.text import tokenize
from fedloom.models.device import device_of
from fedloom.models.fit import adamw, fit, index_batches
from fedloom.models.pictures import as_stored, ready, soften, to_float
from fedloom.seeding import global_torch_stream, numpy_stream, torch_stream
from fedloom.tasks import ClientTask

Inputs = dict[str, Tensor]


class ClientContext(Stateful):
    """What a client half finds at its site: a model, private data, an optimiser, and named random streams."""

    model: Kept[nn.Module]
    optimizer: Kept[torch.optim.Optimizer]
    scaler: Kept[torch.amp.GradScaler | None]

    def __init__(
        self,
        *,
        name: str,
        modality: ClientTask,
        model: nn.Module,
        tokenizer: Any,
        private: Samples,
        test: Samples,
        seed: int,
        batch: int = 32,
        rate: float = 2e-3,
        decay: float = 0.01,
        augment: bool = True,
        optimizer: Literal["adamw", "sgd"] = "adamw",
        momentum: float = 0.9,
        clip: float | None = 1.0,
        device: str = "cpu",
        precision: Precision = "fp32",
        accumulate: int = 1,
        checkpointing: bool = False,
        features: Callable[[Any, Inputs], Tensor] | None = None,
        shared: Callable[[Any, Inputs], Tensor] | None = None,
        server: Callable[[ClientTask], ClientContext] | None = None,
        groups: Attribute | None = None,
        book: Path | None = None,
    ) -> None:
        self.name, self.modality, self.seed, self.batch = name, modality, seed, batch
        self.model, self.tokenizer, self.augment, self.clip = model, tokenizer, augment, clip
        self.export: Callable[[Path], None] | None = None  # writes the model as a folder of its library
        self.features = features  # gives what a frozen trunk makes of samples that are the same in every run
        self.shared = shared  # the same of samples that other clients get, too
        self.groups = groups  # of the test samples: their styles, or languages
        self.book = book  # file in which a real silo keeps what it has spent of its privacy; None: not at one
        self.server = server  # a model like the server's of that modality, with weights that are yet to come
        self.side = int(private.images.shape[2]) if hasattr(private, "images") else 0  # of pictures, in pixels
        self.accumulate, self.device = accumulate, device_of(device)
        for tower in towers(model):
            settle: Any = getattr(tower, "settle", None)  # whoever computes little has none
            if settle is not None:
                settle(self.device, precision, checkpointing)
        # gradients in fp16 would vanish
        self.scaler = torch.amp.GradScaler(self.device.type) if precision == "fp16" else None
        self.take(private, test)
        trained = [p for p in model.parameters() if p.requires_grad]
        if optimizer == "sgd":
            self.optimizer = torch.optim.SGD(trained, lr=rate, momentum=momentum, weight_decay=decay)
        else:
            self.optimizer = adamw(trained, rate, decay)

    def take(self, private: Any, test: Any) -> None:
        """The site's own samples, and those it is scored on."""
        self.samples: Any = {"private": private, "test": test}
        self.private, self.test = self.stored(private), self.stored(test)
        self.private_labels = torch.from_numpy(private.labels.copy())
        self.test_labels = torch.from_numpy(test.labels.copy())

    def hold(self, private: Any) -> None:
        """Other samples in place of the site's own, such as more of them."""
        self.samples["private"], self.private = private, self.stored(private)
        self.private_labels = torch.from_numpy(private.labels.copy())

    def stored(self, samples: Any) -> Inputs:
        """What is kept for long, as `inputs` gives it, but pictures as uint8 (N, 3, H, W), a quarter of the memory."""
        images = getattr(samples, "images", samples)
        if not isinstance(images, np.ndarray):
            return self._seen(self.raw(samples), self.features)
        return self._seen({"pixel_values": as_stored(images)}, self.features)

    def inputs(self, samples: Samples | NDArray[np.uint8] | Sequence[str]) -> Inputs:
        """Pictures uint8 (N, H, W, 3) or N texts as the model's inputs."""
        return self._seen(self.raw(samples), self.shared)

    def _seen(self, raw: Inputs, features: Callable[[Any, Inputs], Tensor] | None = None) -> Inputs:
        """A model on frozen features looks at each sample once, unless samples are augmented.

        features: gives what `model.frozen_features` does, from model and inputs: where it is known already.
        """
        tower = self._tower(raw)
        if self.augment or not hasattr(tower, "frozen_features"):
            return raw
        return {"features": features(tower, raw) if features else tower.frozen_features(**raw)}

    def _tower(self, raw: Inputs) -> Any:
        """What looks at these inputs."""
        return self.model

    def raw(self, samples: Samples | NDArray[np.uint8] | Sequence[str]) -> Inputs:
        """Pictures or texts as inputs that can be augmented."""
        if isinstance(samples, ImageSet | np.ndarray):
            images = samples.images if isinstance(samples, ImageSet) else samples
            return {"pixel_values": to_float(np.asarray(images))}
        texts: Any = getattr(samples, "texts", samples)
        return tokenize(self.tokenizer, texts)

    def ready(self, inputs: Inputs) -> Inputs:
        """What is stored as the model takes it: pictures in [-1, 1], on its device. What is ready stays as it is."""
        return ready(inputs, self.device)

    def rng(self, *names: object) -> np.random.Generator:
        """This client's NumPy stream called `names`."""
        return numpy_stream(self.seed, self.name, *names)

    def draws(self, *names: object) -> torch.Generator:
        """This client's torch stream called `names`."""
        return torch_stream(self.seed, self.name, *names)

    def noise_stream(self, *names: object) -> np.random.Generator:
        """For noise that hides something: secret at a real silo, elsewhere the stream called `names`."""
        return self.rng(*names) if self.book is None else np.random.default_rng(secrets.randbits(128))

    @torch.no_grad()
    def look(self, inputs: Inputs, batch: int = 256) -> tuple[Tensor, Tensor]:
        """Representations (N, D) and logits (N, C), without gradient and in evaluation mode."""
        z = self.encode(inputs, batch)
        return z, self.model.classify(z)  # type: ignore[operator]

    @torch.no_grad()
    def encode(self, inputs: Inputs, batch: int = 256) -> Tensor:
        """Representations (N, D) of pictures or of texts, without gradient and in evaluation mode."""
        self.model.eval()
        n = len(next(iter(inputs.values())))
        parts = (self.ready(rows(inputs, slice(i, i + batch))) for i in range(0, n, batch))
        return torch.cat([self.model.encode(**part) for part in parts])  # type: ignore[operator]

    def score(self, z: Tensor) -> dict[str, Any]:
        """What `Scores` holds, of representations z (N, D) of the test samples: accuracy, in all and by group."""
        with torch.no_grad():
            right = (self.model.classify(z).argmax(1) == self.test_labels).float()  # type: ignore[operator]
        found = {"accuracy": right.mean().item(), "samples": len(self.test_labels)}
        if self.groups is None:
            return found
        each = [right.numpy()[self.groups.labels == g] for g in range(len(self.groups.values))]
        return found | {"groups": np.array([part.mean() if len(part) else np.nan for part in each], np.float64)}

    def views(self, inputs: Inputs, draws: torch.Generator) -> Inputs:
        """A training view: pictures shifted, flipped and softened; one word in ten of a text hidden."""
        seen = self.ready(inputs)
        if not self.augment:
            return seen
        if "pixel_values" in seen:
            seen["pixel_values"] = soften(shift_flip(seen["pixel_values"], draws), draws)
        if "input_ids" in inputs:
            seen["input_ids"] = drop_tokens(
                inputs["input_ids"], inputs["attention_mask"], 0.1, draws, self.tokenizer.unk_token_id
            )
        return seen

    def fit(
        self,
        inputs: Inputs,
        steps: int,
        objective: Callable[[Inputs, Tensor], Tensor],
        *names: object,
        adjust: Callable[[], None] | None = None,
    ) -> float | None:
        """`steps` optimiser steps; `objective` gets a training view of the batch and its indices (B,).

        adjust: called when a step's gradients are known, before they are clipped and applied: may change them.
        """
        rng, draws = self.rng(*names, "batches"), self.draws(*names, "views")
        n = len(next(iter(inputs.values())))

        def loss(index: NDArray[np.int64]) -> Tensor:
            i = torch.from_numpy(index)
            return objective(self.views(rows(inputs, i), draws), i)

        with global_torch_stream(self.seed, self.name, *names, "dropout"):
            self.model.train()
            what = f"client {self.name}, {' '.join(map(str, names))}"
            batches = index_batches(n, self.batch, steps, rng)
            how: dict[str, Any] = {"accumulate": self.accumulate, "scaler": self.scaler}
            return fit(self.optimizer, batches, loss, clip=self.clip, name=what, adjust=adjust, **how)

    def task_loss(self, inputs: Inputs, index: Tensor) -> Tensor:
        """The loss of the client's own task on private samples `index` (B,), seen as `inputs`: cross-entropy."""
        return F.cross_entropy(self.model(**self.ready(inputs)), self.private_labels[index])

    def train_private(self, steps: int, *names: object) -> float | None:
        """`steps` steps of the private objective (FedMMKT, eq. 1): the own task on the site's own data."""
        return self.fit(self.private, steps, self.task_loss, *names, "private")

    def beside(self, objective: Callable[[Inputs, Tensor], Tensor]) -> bool:
        """Whether this site adds the private term of a step on shared samples by itself, as a private one does."""
        return False

    def weight(self) -> int:
        """Of this site in an average: its number of private samples."""
        return len(self.private_labels)

    def told(self, loss: float | None) -> float:
        """What may be told of a mean loss on shared samples, 0 for None."""
        return loss or 0.0

    def release(self, answer: Any, classes: int) -> Any:
        """What leaves of an answer about shared samples with C classes: here all of it."""
        return answer

    def attach(self, wrap_model: Callable[[nn.Module], nn.Module]) -> None:
        """Put a method's own parts on the model. New parameters join the optimiser; frozen ones stay out of it.

        Random weights come from this site's own stream, so that they do not depend on what was drawn before.
        """
        with global_torch_stream(self.seed, self.name, "parts"):
            self.model = wrap_model(self.model)
        known = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        if new := [p for p in self.model.parameters() if p.requires_grad and id(p) not in known]:
            self.optimizer.add_param_group({"params": new})


def rows(inputs: Inputs, index: Any) -> Inputs:
    """The same rows of every input."""
    return {key: value[index] for key, value in inputs.items()}
