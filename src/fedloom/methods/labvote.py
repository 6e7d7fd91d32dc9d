"""LabVote of FedMMKT (eqs. 3-5, 28-31): labels of synthetic samples by the clients' vote, and what guards it.

Ours beyond the paper: eq. 4 as a first guess, which who takes which class for which then corrects (`vote`). Against
clients that lie, off by default: no client has more than a share of a vote (`vote_cap`), and each has as much say as
it has agreed with the others before (`history`). Entropies are what clients claim, down to a floor; where logits come
(l-FedMMKT) a guarded vote is by the entropies that the server works out itself, not by fused logits, whose scale
clients choose.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedloom.config.models import Frozen
from fedloom.functional.confidence import confidence, entropy
from fedloom.functional.confusion import habits, learned_vote
from fedloom.functional.fusion import fuse_logits
from fedloom.functional.suspects import label_agreement
from fedloom.functional.voting import Vote, capped, label_vote, vote_sums
from fedloom.methods.replies import ClientOutputs
from fedloom.methods.state import Kept, Stateful

MEMORY = 0.9  # of voters' habits where clients come and go: those that are there today may be too few to tell
PROMPT = " prompt"  # a voter that is no client: no client's name begins with a blank


class LabVoteSettings(Frozen):
    """Who has how much say in a label, and which are kept."""

    labvote: bool = Field(True, description="off: keep the drawn labels and every sample (-LabVote)")
    vote: Literal["weighted", "confusion"] = Field(
        "confusion", description="weighted: eq. 4; confusion: what each client takes for what, learned from there"
    )
    confidence: Literal["inv", "exp", "lin"] = Field("inv", description="weight as a function of entropy, eq. 3")
    entropy_floor: float = Field(0.3, gt=0, description="H_min in nats: below it all are as sure")
    gamma: float = Field(0.25, ge=0, le=1, description="share of clients that must agree, eq. 5")
    quorum_of: Literal["all", "knowing"] = Field("all", description="gamma's clients: all, or who knows the class")
    own_voters: int = Field(0, ge=0, description="voters of a client's modality without whom it learns no sample")
    vote_cap: float | None = Field(
        None, gt=0, le=1, description="largest share of one client in the weight of a vote on a sample; null: any"
    )
    history: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="weigh clients also by how often they have agreed with the others in rounds before; this is the "
        "weight of the past in that mean; null: not",
    )
    memory: float | None = Field(
        None,
        ge=0,
        lt=1,
        exclude_if=lambda memory: memory is None,
        description="weight of what earlier rounds taught of each voter's habits, of `vote: confusion`; null: 0, or "
        f"{MEMORY} where `participation` is set",
    )


class LabVote(Stateful):
    """The vote, and how often each client has agreed with the others.

    Args:
        classes: C.
        of_logits: whether clients send logits (l-FedMMKT).
        fusing: options of `fuse_logits`.
    """

    known: Kept[dict[str, Tensor]]  # client or prompt -> (C, C), how often it gave each label of each class, fading
    agreed: Kept[dict[str, float]]  # client -> share of its labels that most others gave too, a mean over the rounds

    def __init__(self, settings: LabVoteSettings, classes: int, of_logits: bool, fusing: dict[str, Any]) -> None:
        self.settings, self.classes, self.of_logits, self.fusing = settings, classes, of_logits, fusing
        self.agreed, self.known = {}, {}

    def __call__(self, o: ClientOutputs, drawn: Tensor) -> Vote:
        """Labels (S,) with -1 where nobody voted, and raw votes for them (S,)."""
        s, classes = self.settings, self.classes
        if not s.labvote:
            return Vote(drawn, (o.labels == drawn).sum(0))
        # Of two of whom nothing is known, none can say which is wrong.
        learned = s.vote == "confusion" and (len(o.labels) > 2 or (len(o.labels) > 0 and bool(self.known)))
        if self.of_logits and s.vote_cap is None and s.history is None:
            logits = fuse_logits(o.logits, o.modalities, present=o.present, **self.fusing)
            if learned:
                return self._learned(o, logits.softmax(1), drawn)
            labels = logits.argmax(1).masked_fill(~o.present.any(0), -1)
            return Vote(labels, ((o.labels == labels) & o.present).sum(0))
        spread = entropy(o.logits) if self.of_logits else o.entropies
        weights = confidence(spread, mode=s.confidence, floor=s.entropy_floor, classes=classes)
        weights = self._guarded(o, weights)
        if learned:
            return self._learned(o, vote_sums(o.labels, weights, classes), drawn)
        return label_vote(o.labels, weights, classes, drawn)

    def _learned(self, o: ClientOutputs, start: Tensor, drawn: Tensor) -> Vote:
        """By habits, as they show in this round and were known before."""
        memory, known = self.settings.memory or 0.0, None
        names = [*(r.client for r in o.replies), PROMPT]
        if memory:
            nothing = torch.zeros(self.classes, self.classes, dtype=torch.float64)
            known = torch.stack([self.known.get(name, nothing) for name in names])
        found = learned_vote(o.labels, start, drawn, known)
        if memory:
            new = habits(torch.cat([o.labels, drawn[None]]), found.probable)
            self.known |= {k: memory * (self.known.get(k, 0.0) + n) for k, n in zip(names, new)}
        return Vote(found.labels, found.counts)

    def _guarded(self, o: ClientOutputs, weights: Tensor) -> Tensor:
        """Weights (K, S) by what is known of the clients, none above the cap; takes up how they agree this time."""
        s, names = self.settings, [r.client for r in o.replies]
        if s.history is not None:
            weights = weights * torch.tensor([self._trust(k) for k in names])[:, None]
            for name, share in zip(names, label_agreement(o.labels, self.classes)):
                if share is not None:
                    old = self.agreed.get(name, share)
                    self.agreed[name] = s.history * old + (1 - s.history) * share
        if s.vote_cap is not None:
            weights = capped(weights.masked_fill(o.labels < 0, 0.0), s.vote_cap)
        return weights

    def _trust(self, client: str) -> float:
        """From 0, of who agrees no more often than chance, to 1; 1 of who is new."""
        chance = 1 / self.classes
        if client not in self.agreed or self.classes < 2:
            return 1.0
        return max(0.0, (self.agreed[client] - chance) / (1 - chance))
