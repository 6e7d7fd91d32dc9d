"""The annotators of fedloom's samples, over all rounds: what is known of each, and what a round's answers come to.

Clients and the prompt are annotators, and where codes are sent, so is what looks alike (`functional.annotators`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fedloom.functional.annotators import Annotation, annotate, reliability
from fedloom.methods.replies import Ballots, Rejudged
from fedloom.methods.state import Kept, Stateful

PROMPT, LOOKS = " prompt", " looks"  # annotators that are no clients: no client's name begins with a blank


class Annotators(Stateful):
    """Expectation maximisation over a round's answers, or over those of the pool's rounds.

    Args:
        settings: with `memory`, `rejudge`, `evidence` and `replay_rounds`.
    """

    known: Kept[dict[str, Tensor]]  # annotator -> (C, C), how often it gave each answer of each class, fading
    need: Kept[Tensor | None]  # (C,), how unreliable clients are about each class
    past: Kept[Rejudged]

    def __init__(self, settings: Any) -> None:
        self.settings, self.known, self.need = settings, {}, None
        self.past = Rejudged(settings.replay_rounds, absent=0)

    def __call__(self, now: Ballots) -> tuple[Annotation, dict[int, Tensor]]:
        """The posterior and counts of the round, by its annotators and what is known of them; where `rejudge` is set,
        earlier rounds' posteriors by the answers of all."""
        judged = self.past.together(now) if self.settings.rejudge else now
        new = judged.answers.new_zeros(judged.answers.shape[2], judged.answers.shape[2])
        known = torch.stack([self.known.get(name, new) for name in judged.voters])
        found = annotate(judged.answers, judged.start, known, weight=self.settings.evidence)
        if judged is now:
            return found, {}
        rounds = self.past.by_round(found.posterior)
        counts = found.counts[[judged.voters.index(name) for name in now.voters]]
        return Annotation(rounds.pop(now.round), counts), rounds

    def settle(self, now: Ballots, found: Annotation) -> None:
        """Takes up what was found of the round."""
        known = {k: self.known.get(k, 0.0) + n for k, n in zip(now.voters, found.counts)}
        self.known |= {k: self.settings.memory * counts for k, counts in known.items()}
        clients = [counts for name, counts in known.items() if name not in (PROMPT, LOOKS)]
        if clients:
            self.need = 1 - reliability(torch.stack(clients)).mean(0)
