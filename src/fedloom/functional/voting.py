"""LabVote: the clients' weighted vote on each sample's label, and the quorum (FedMMKT, eqs. 4-5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fedloom.errors import BadInput

TOLERANCE = 1e-9  # relative; weight sums closer than this are tied


class Vote(NamedTuple):
    """labels (S,) int64, -1 where nobody voted; counts (S,) int64, the raw votes for that label."""

    labels: Tensor
    counts: Tensor


def label_vote(predicted: Tensor, weights: Tensor, classes: int, drawn: Tensor | None = None) -> Vote:
    """The label with the largest sum of weights (FedMMKT, eq. 4).

    A tie goes to the label with more raw votes, then to the drawn label, then to the lowest index; so the result does
    not depend on the order of clients. Sums are taken in float64.

    Args:
        predicted: (K, S) integer, each client's label, -1 where it is absent.
        weights: (K, S), not negative; those of absent clients are not looked at.
        classes: C.
        drawn: (S,) integer, the label each sample was made for, if it is to break ties.

    Returns:
        The voted labels and how many clients voted for them.

    Raises:
        ValueError: shapes disagree.
        BadInput: a label is neither -1 nor below C, or a voter's weight is negative or not finite; names the client.
    """
    if predicted.shape != weights.shape or predicted.ndim != 2:
        raise ValueError(f"predicted {tuple(predicted.shape)} and weights {tuple(weights.shape)} must both be (K, S)")
    k, s = predicted.shape
    if drawn is not None and drawn.shape != (s,):
        raise ValueError(f"drawn {tuple(drawn.shape)} must be ({s},)")
    present = predicted >= 0  # (K, S)
    weights = torch.where(present, weights.double(), 0.0)
    _check(predicted, weights, classes)

    sums, counts = vote_sums(predicted, weights, classes), vote_sums(predicted, present.long(), classes)  # (S, C)

    best = sums.amax(1, keepdim=True) if k else sums
    tied = (sums >= best - TOLERANCE * best) & (counts > 0)
    tied &= counts == counts.masked_fill(~tied, 0).amax(1, keepdim=True)
    preference = tied.long() * 2
    if drawn is not None:
        # A drawn label outside 0..C-1 (none known) matches no class.
        preference += tied & (drawn[:, None] == torch.arange(classes, device=drawn.device))
    labels = preference.argmax(1)  # the first of equals, hence the lowest index
    votes = counts.gather(1, labels[:, None])[:, 0]
    return Vote(labels.masked_fill(votes == 0, -1), votes)


def vote_sums(predicted: Tensor, weights: Tensor, classes: int) -> Tensor:
    """The weight of the votes for each class, (S, C): of labels (K, S), -1 where absent, and their weights (K, S)."""
    index = predicted.clamp(min=0).long().T  # (S, K)
    votes = torch.where(predicted >= 0, weights, 0).T
    return weights.new_zeros(len(index), classes).scatter_add_(1, index, votes)


def capped(weights: Tensor, cap: float) -> Tensor:
    """Weights of which no client's is more than a share `cap` of all on a sample, and the others as they were.

    Where fewer than 1 / cap clients vote, all that do weigh the same.

    Args:
        weights: (K, S), not negative; 0: no vote.
        cap: in (0, 1].

    Returns:
        (K, S).

    Raises:
        BadInput: a cap outside (0, 1].
    """
    if not 0.0 < cap <= 1.0:
        raise BadInput(f"the cap on a client's share of a vote is {cap}; it lies in (0, 1]")
    if not len(weights):
        return weights
    ranked = weights.double().sort(0, descending=True).values
    rest = ranked.flip(0).cumsum(0).flip(0)  # (K, S): the j-th largest and all below it
    j = torch.arange(len(ranked), device=ranked.device)[:, None]
    # With the j largest cut to one height t: t = cap (j t + the rest), so t = cap rest / (1 - cap j).
    room = 1.0 - cap * j
    height = torch.where(room > 0, cap * rest / room.clamp(min=1e-12), 0.0)
    fits = (ranked <= height * (1 + TOLERANCE)) & (room > 0)  # the j-th is under the height that j cut ones leave
    first = fits.to(torch.int8).argmax(0, keepdim=True)
    most = height.gather(0, first)
    lowest = torch.where(weights > 0, weights.double(), torch.inf).amin(0, keepdim=True)
    most = torch.where(fits.any(0, keepdim=True) & (most > 0), most, lowest)
    return torch.minimum(weights.double(), most).to(weights.dtype)


def quorum_filter(counts: Tensor, clients: int | Tensor, gamma: float) -> Tensor:
    """Which samples enough clients agree on (FedMMKT, eq. 5): v_i >= ceil(gamma N), and at least one voter.

    Args:
        counts: (S,) raw votes for the winning label.
        clients: N, all clients of the federation, absent ones too; or (S,), how many of them could have cast this vote.
        gamma: the share of clients needed, in [0, 1]; 0 keeps every sample with a voter.

    Returns:
        bool (S,).

    Raises:
        BadInput: gamma outside [0, 1].
    """
    if not 0.0 <= gamma <= 1.0:
        raise BadInput(f"gamma is {gamma}; the share of clients that must agree lies in [0, 1]")
    # Less 1e-9, so that 0.3 * 10 = 3.0000000000000004 asks for 3 votes, not 4.
    return counts >= torch.as_tensor(gamma * clients - 1e-9, dtype=torch.float64).ceil().clamp(min=1)


def own_votes(predicted: Tensor, labels: Tensor, modalities: Sequence[str], least: int) -> dict[str, Tensor]:
    """Modality to bool (S,): the samples whose label at least so many of its clients have voted for. Ours.

    A caption may say nothing of what image clients see in the picture; text clients then learn a label from it that no
    text of that class would have.

    Args:
        predicted: (K, S) integer, each client's label, -1 where it is absent.
        labels: (S,) integer, -1 where there is none.
        modalities: of the K clients.
        least: 0 passes every sample.
    """
    votes = (predicted == labels) & (predicted >= 0)
    rows = {m: torch.tensor([k for k, own in enumerate(modalities) if own == m]) for m in modalities}
    return {m: votes[k].sum(0) >= least for m, k in rows.items()}


def knowing(labels: Tensor, known: Tensor) -> Tensor:
    """How many clients know the class of each label.

    Args:
        labels: (S,), -1 where there is none.
        known: bool (K, C), the classes that each client has samples of.

    Returns:
        int64 (S,); 0 where there is no label.
    """
    return known.sum(0)[labels.clamp(min=0)].masked_fill(labels < 0, 0)


def _check(predicted: Tensor, weights: Tensor, classes: int) -> None:
    """A reply from outside may hold anything: name the first client whose vote makes no sense."""
    wrong = (predicted < -1) | (predicted >= classes)
    if wrong.any():
        k, i = (int(n) for n in wrong.nonzero()[0])
        raise BadInput(
            f"client {k} voted for class {int(predicted[k, i])} on sample {i}; allowed: 0 to {classes - 1}, or -1"
        )
    wrong = ~torch.isfinite(weights) | (weights < 0)
    if wrong.any():
        k, i = (int(n) for n in wrong.nonzero()[0])
        raise BadInput(
            f"client {k} has weight {float(weights[k, i])} on sample {i}; weights are finite and not negative"
        )
