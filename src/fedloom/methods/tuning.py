"""Tuning of the server's generator on a pool of labelled samples: shared by FedMMKT and all that tune without it."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedloom.errors import BadInput
from fedloom.functional.diagnostics import gradient_norm
from fedloom.functional.omission import omit
from fedloom.methods.base import ServerContext
from fedloom.methods.shared_messages import TuningSettings
from fedloom.methods.state import Kept, Stateful
from fedloom.models.fit import cosine, fit, index_batches
from fedloom.models.pictures import to_float
from fedloom.seeding import global_torch_stream

READ_AHEAD = 8  # texts that are encoded in a batch in the time of one alone


PLACE = "place"  # of a pool's samples: which of their round's they are


class ReplayPool(Stateful):
    """The samples of the last `rounds` rounds: equal keys, one tensor each, first axis samples."""

    parts: Kept[deque[dict[str, Tensor]]]
    rounds: Kept[deque[int]]  # that the parts are of

    def __init__(self, rounds: int) -> None:
        self.parts, self.rounds = deque(maxlen=rounds), deque(maxlen=rounds)

    def add(self, part: Mapping[str, Tensor], at: int = 0) -> None:
        """Add the samples of round `at` (a round that kept none still pushes the oldest out)."""
        self.parts.append(dict(part))
        self.rounds.append(at)

    def revise(self, at: int, values: Mapping[str, Tensor]) -> None:
        """Values of all samples of round `at`, in place of what is here of those whose PLACE in the round is here.

        Raises ValueError where there are too few.
        """
        for number, part in zip(self.rounds, self.parts):
            if number != at or PLACE not in part:
                continue
            for key, value in values.items():
                if len(part[PLACE]) and len(value) <= int(part[PLACE].max()):
                    raise ValueError(f"{key} of {len(value)} samples of round {at}, of which there are more")
                part[key] = value[part[PLACE]]

    def samples(self) -> dict[str, Tensor]:
        """All of them, key by key; empty when there are none. A key that some round lacks is left out."""
        full = [p for p in self.parts if len(next(iter(p.values())))]
        if not full:
            return {}
        return {key: torch.cat([p[key] for p in full]) for key in full[0] if all(key in p for p in full)}


class Tuner(Stateful):
    """The generator, its optimiser and its pool. Eqs. 11 and 12 of FedMMKT; without R plain text-only tuning."""

    trained: Kept[_Trained]
    optimizer: Kept[torch.optim.Optimizer]
    pool: Kept[ReplayPool]
    captions: Kept[deque[tuple[str, ...]]]  # of the pool's samples, where there are any

    def __init__(self, context: ServerContext, settings: TuningSettings, *, watch: bool = False) -> None:
        self.context, self.settings, self.watch = context, settings, watch
        self.norms: list[float] = []  # of the gradient at each step of the last round, if watched
        self.also: Callable[[int, np.random.Generator, torch.Generator], Tensor] | None = None  # a step's further loss
        self.generator, self.trained = context.generator, _Trained(context.generator)
        self.generator.condition = settings.condition
        if settings.lora_rank:
            self.generator.only_lora(settings.lora_rank, context.seed)
        # Adam as the paper says: AdamW without decay
        *unet, bridge = self.generator.trainable()
        groups = [{"params": unet}, {"params": [bridge], "lr": settings.bridge_rate * settings.tune_rate}]
        self.optimizer = torch.optim.AdamW(groups, settings.tune_rate, weight_decay=0.0, fused=True)
        self.origin = [p.detach().clone() for p in unet] if settings.keeps_origin else []
        self.source = self.generator.origin
        share = settings.public_share
        there = context.public is not None and len(context.public)
        if share and not there:
            raise BadInput(f"settings.public_share = {share}: the data has no public part, allowed: 0")
        share = (0.5 if there else 0.0) if share is None else share
        self.public_batch = round(share * settings.tune_batch)  # public pictures in a batch
        if self.public_batch == settings.tune_batch:
            raise BadInput(
                f"settings.public_share = {share} of settings.tune_batch = {settings.tune_batch} leaves no synthetic "
                f"sample in a batch, allowed: below {1 - 0.5 / settings.tune_batch:g}"
            )
        self.pool, self.captions = ReplayPool(settings.replay_rounds), deque(maxlen=settings.replay_rounds)

    def draw(self, prompts: Sequence[str], draws: torch.Generator) -> NDArray[np.uint8]:
        """The round's synthetic pictures, uint8 (N, H, W, 3), one a prompt (eq. 2)."""
        steps = self.settings.draw_steps or self.generator.steps_to_learn_from
        with self.untouched() if self.settings.drawn_by == "untouched" else nullcontext():
            return self.generator.synthesize(prompts, draws, steps=steps)  # type: ignore[no-any-return]

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """The generator as it was before round 1; what it draws is found in the cache once it has been drawn."""
        self._exchange()
        tuned, self.generator.origin = self.generator.origin, self.source
        try:
            yield
        finally:
            self._exchange()
            self.generator.origin = tuned

    def _exchange(self) -> None:
        """The UNet's weights for those it began with, and back; W_r says nothing where there is no R."""
        for p, origin in zip(self.generator.trainable(), self.origin):
            p.data, origin.data = origin.data, p.data

    def add(
        self,
        images: NDArray[np.uint8],
        labels: Tensor,
        captions: Sequence[str],
        fused: Tensor | None,
        shares: Tensor | None = None,
        place: Tensor | None = None,
        at: int = 0,
    ) -> None:
        """Add a round's samples: uint8 (M, H, W, 3), labels (M,), M captions or none, R (M, D) or None.

        shares: (M, C), probabilities of the classes, of which each step draws one, in place of the labels; place: (M,),
        which of the samples of round `at` they are.
        """
        part = {"images": torch.from_numpy(images), "labels": labels}
        if place is not None:
            part[PLACE] = place
        if fused is not None:
            part["fused"] = fused
        if shares is not None:
            part["shares"] = shares.double().cumsum(1)
        self.pool.add(part, at)
        self.captions.append(tuple(captions))

    def revise(self, at: int, probable: Tensor) -> None:
        """What the samples of round `at` are now taken for, (S, C), in place of what was added."""
        found = {"labels": probable.argmax(1), "shares": probable.double().cumsum(1)}
        shared = any("shares" in part for part in self.pool.parts)
        self.pool.revise(at, found if shared else {"labels": found["labels"]})

    def tune(self, t: int) -> float | None:
        """The steps of round t; mean loss."""
        self.norms = []
        s, context, pool = self.settings, self.context, self.pool.samples()
        if not pool or not s.tune_steps:
            return None
        rng, draws = context.rng(t, "tuning"), context.draws(t, "tuning")
        pixels, labels = to_float(pool["images"].numpy()), pool["labels"]
        say = self._words(pool, rng)
        fused = pool.get("fused") if s.omit < 1 else None
        if fused is not None and s.heard == "within-class":
            fused = fused - class_means(fused, labels)

        def objective(index: NDArray[np.int64]) -> Tensor:
            i = torch.from_numpy(index)
            leave_out = omit(len(index), s.omit, draws)  # eq. 12: drawn also where unused, so that streams agree
            r = None if fused is None else fused[i]
            pictures, texts = pixels[i], [say(int(n)) for n in index]
            if self.public_batch:
                known, words = self._public(rng, len(index))
                pictures, texts = torch.cat([pictures, known]), texts + words
                leave_out = torch.cat([leave_out, leave_out.new_ones(len(known))])
                r = None if r is None else torch.cat([r, r.new_zeros(len(known), r.shape[1])])
            loss: Tensor = self.generator.loss(pictures, texts, draws, r, leave_out)
            return loss if self.also is None else loss + self.also(len(index), rng, draws)

        self._read_public()
        self.generator.touched()
        self.generator.train()
        self.generator.text_encoder.eval()
        anneal, done = cosine(s.tune_steps * context.rounds), s.tune_steps * (t - 1)
        steps = s.steps_on(len(labels), s.tune_steps, s.tune_batch)
        batches = index_batches(len(labels), s.tune_batch - self.public_batch, steps, rng)
        with global_torch_stream(context.seed, "server", t, "dropout"):  # GLIDE has it
            loss = fit(
                self.optimizer,
                batches,
                objective,
                schedule=lambda n: anneal(done + n),
                name=f"generator, round {t}",
                accumulate=s.tune_accumulate,
                adjust=self._adjust if s.pull or self.watch else None,
            )
        self.generator.eval()
        return loss

    def _words(self, pool: Mapping[str, Tensor], rng: np.random.Generator) -> Callable[[int], str]:
        """What is said of the pool's i-th sample in a step: its prompt, its caption, or nothing."""
        s, prompts, captions = self.settings, self.context.prompts, list(itertools.chain(*self.captions))
        labels, shares = pool["labels"], pool.get("shares")

        def label(i: int) -> int:
            return int(labels[i]) if shares is None else min(int((shares[i] < rng.random()).sum()), len(prompts) - 1)

        def say(i: int) -> str:
            caption = s.train_text == "caption" or (s.train_text == "both" and rng.random() < 0.5)
            return "" if rng.random() < s.drop_text else captions[i] if caption else prompts[label(i)]

        return say

    def _read_public(self) -> None:
        """Encode the public captions ahead, many at a time, where that is fewer encodings than the steps will ask for.

        All of them in one order, and only where none is forgotten again: a run that was resumed has the same bits.
        """
        generator, public, s = self.generator, self.context.public, self.settings
        if not self.public_batch or not math.isinf(generator.keep_texts):
            return
        asked = self.context.rounds * s.tune_steps * self.public_batch
        if READ_AHEAD * asked >= len(public):
            generator.read(public.captions)

    def _public(self, rng: np.random.Generator, own: int) -> tuple[Tensor, list[str]]:
        """Public pictures (B, 3, H, W) for a batch's `own` synthetic ones, or for a part's, under their captions: their
        names are not to be relied on."""
        public, s = self.context.public, self.settings
        n = round(own * self.public_batch / (s.tune_batch - self.public_batch))
        index = rng.integers(0, len(public), n)
        words = ["" if rng.random() < s.drop_text else public.captions[i] for i in index]
        return to_float(public.images[index]), words

    def _adjust(self) -> None:
        """Between a step's gradients and the step: their norm where it is watched, and the pull."""
        if self.watch:
            self.norms.append(gradient_norm(p for group in self.optimizer.param_groups for p in group["params"]))
        if self.settings.pull:
            self._pull()

    @torch.no_grad()
    def _pull(self) -> None:
        """Weights a little back to where they began (L2-SP, Li et al. 2018, decoupled from the gradient)."""
        group = self.optimizer.param_groups[0]
        for p, origin in zip(group["params"], self.origin):
            p.lerp_(origin, min(1.0, group["lr"] * self.settings.pull))


def class_means(z: Tensor, labels: Tensor) -> Tensor:
    """Of each row the mean of its class: z (N, D), labels (N,) -> (N, D)."""
    C = int(labels.max()) + 1
    sums = z.new_zeros(C, z.shape[1]).index_add_(0, labels, z)
    return (sums / torch.bincount(labels, minlength=C).clamp(min=1)[:, None])[labels]


class _Trained:
    """What is trained of a generator, as a state_dict."""

    def __init__(self, generator: Any) -> None:
        self.generator = generator

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors by name."""
        return self.generator.learned()  # type: ignore[no-any-return]

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up `state_dict()` again."""
        self.generator.load_learned(tensors)
