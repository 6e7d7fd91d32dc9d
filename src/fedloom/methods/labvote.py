"""LabVote of FedMMKT (eqs. 3-5, 28-31): labels of synthetic samples by the clients' vote, and what guards it.

Ours beyond the paper: eq. 4 as a first guess, which who takes which class for which then corrects (`vote`). Against
clients that lie, off by default: no client has more than a share of a vote (`vote_cap`), and each has as much say as
it has agreed with the others before (`history`). Entropies are what clients claim, down to a floor; where logits come
(l-FedMMKT) a guarded vote is by the entropies that the server works out itself, not by fused logits, whose scale
clients choose.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from fedloom.config.models import Frozen
from fedloom.functional.confidence import confidence, entropy
from fedloom.functional.confusion import learned_vote
from fedloom.functional.fusion import fuse_logits
from fedloom.functional.suspects import label_agreement
from fedloom.functional.voting import capped, label_vote, vote_sums
from fedloom.methods.replies import Ballots, ClientOutputs, Rejudged
from fedloom.methods.state import Kept, Stateful


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
    rejudge: bool | None = Field(
        None,
        exclude_if=lambda rejudge: rejudge is None,
        description="learn habits (`vote: confusion`) from the votes of all rounds of the pool together, and correct "
        "earlier rounds' labels; null: where `participation` is set",
    )


class Judged(NamedTuple):
    """As `Vote`; of earlier rounds what their samples are now taken for, (S, C)."""

    labels: Tensor
    counts: Tensor
    revised: Mapping[int, Tensor] = MappingProxyType({})


class LabVote(Stateful):
    """The vote, and how often each client has agreed with the others.

    Args:
        settings: with `variant`, of which `l` says that clients send logits, and `replay_rounds`.
        classes: C.
        fusing: options of `fuse_logits`.
    """

    past: Kept[Rejudged]
    agreed: Kept[dict[str, float]]  # client -> share of its labels that most others gave too, a mean over the rounds

    def __init__(self, settings: Any, classes: int, fusing: dict[str, Any]) -> None:
        self.settings, self.classes, self.fusing = settings, classes, fusing
        self.of_logits = settings.variant == "l"
        self.agreed, self.past = {}, Rejudged(settings.replay_rounds, absent=-1)

    def __call__(self, o: ClientOutputs, drawn: Tensor, t: int = 1) -> Judged:
        """Of round t, for samples drawn as `drawn` (S,): labels (S,), -1 where nobody voted, and raw votes (S,)."""
        s, classes = self.settings, self.classes
        if not s.labvote:
            return Judged(drawn, (o.labels == drawn).sum(0))
        if self.of_logits and s.vote_cap is None and s.history is None:
            logits = fuse_logits(o.logits, o.modalities, present=o.present, **self.fusing)
            start, labels = logits.softmax(1), logits.argmax(1).masked_fill(~o.present.any(0), -1)
        else:
            spread = entropy(o.logits) if self.of_logits else o.entropies
            weights = confidence(spread, mode=s.confidence, floor=s.entropy_floor, classes=classes)
            weights = self._guarded(o, weights)
            start, labels = vote_sums(o.labels, weights, classes), label_vote(o.labels, weights, classes, drawn).labels
        found = self._learned(o, start, drawn, t) if s.vote == "confusion" else None
        return found or Judged(labels, ((o.labels == labels) & o.present).sum(0))

    def _learned(self, o: ClientOutputs, start: Tensor, drawn: Tensor, t: int) -> Judged | None:
        """By habits, of this round or of the pool's; None with two voters, of whom none can say which is wrong."""
        now = Ballots(t, tuple(r.client for r in o.replies), o.labels, start, drawn)
        judged = self.past.together(now) if self.settings.rejudge else now
        if len(judged.answers) < 3:
            return None
        found = learned_vote(judged.answers, judged.start, judged.drawn)
        if judged is now:
            return Judged(found.labels, found.counts)
        labels, probable = self.past.by_round(found.labels)[t], self.past.by_round(found.probable)
        votes = ((o.labels == labels) & o.present).sum(0)
        return Judged(labels, votes, {at: q for at, q in probable.items() if at < t})

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
