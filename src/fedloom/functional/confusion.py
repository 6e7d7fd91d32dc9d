"""Who takes which class for which: a vote in which voters' habits are learned from their votes alone.

Dawid, A. P. and Skene, A. M.: Maximum likelihood estimation of observer error-rates using the EM algorithm.
Applied Statistics 28 (1979), 20-28.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedloom.errors import BadInput
from fedloom.functional.voting import Vote


def confusion_vote(
    predicted: Tensor, start: Tensor, *, smoothing: float = 1.0, iterations: int = 50
) -> tuple[Tensor, Tensor]:
    """The probability of each class, and each voter's confusion matrix, by expectation maximisation.

    A voter that answers at random ends with equal rows, and counts for nothing; one that always names the wrong class
    counts for the right one. What makes it find the truth rather than a renaming of it is where it starts.

    Args:
        predicted: (V, S) integer, the label by each voter, -1 where it is absent.
        start: (S, C), not negative, each sample's classes in proportion to what is believed of them before; a row of
            zeros: nothing is.
        smoothing: answers, spread evenly over the classes, that each voter is supposed to have given of each class.
        iterations: of expectation maximisation.

    Returns:
        Probabilities (S, C) and matrices (V, C, C), [v, c, l] = P(v says l | the class is c); float64.

    Raises:
        ValueError: shapes disagree.
        BadInput: a label is neither -1 nor below C; smoothing is not above 0.
    """
    if predicted.ndim != 2 or start.ndim != 2 or predicted.shape[1] != len(start):
        raise ValueError(f"predicted {tuple(predicted.shape)} must be (V, S), and start {tuple(start.shape)} (S, C)")
    classes = start.shape[1]
    if ((predicted < -1) | (predicted >= classes)).any():
        raise BadInput(f"a label is {int(predicted.max())}; allowed: 0 to {classes - 1}, or -1")
    if not smoothing > 0:
        raise BadInput(f"smoothing is {smoothing}; it must be above 0")
    present = predicted >= 0  # (V, S)
    said = predicted.clamp(min=0).long()
    q = start.double() / start.double().sum(1, keepdim=True).clamp(min=1e-300)
    q[~start.any(1)] = 1 / classes

    def matrices(q: Tensor) -> Tensor:
        """(V, l, c), from the classes that samples are believed to have."""
        found = [
            torch.zeros(classes, classes, dtype=torch.float64, device=q.device).index_add_(0, labels[here], q[here])
            for labels, here in zip(said, present)
        ]
        counts = torch.stack(found) if found else q.new_zeros(0, classes, classes)
        counts = counts + smoothing / classes
        return counts / counts.sum(1, keepdim=True)

    for _ in range(iterations):
        share = (q.sum(0) + 1) / (len(q) + classes)
        of_votes = matrices(q).log()  # (V, l, c)
        seen = torch.stack([m[labels] * here[:, None] for m, labels, here in zip(of_votes, said, present)] or [0 * q])
        q = (share.log() + seen.sum(0)).softmax(1)
    return q, matrices(q).transpose(1, 2)


def learned_vote(predicted: Tensor, start: Tensor, drawn: Tensor) -> Vote:
    """Labels by `confusion_vote`, in which the prompt is a voter as any other: what it is wrong about, it is wrong
    about each time, and that says something too.

    Args:
        predicted: (K, S) integer, each client's label, -1 where it is absent.
        start: (S, C), as for `confusion_vote`.
        drawn: (S,) integer, the class each sample was drawn for; outside 0..C-1 where there is none.

    Returns:
        The most probable labels, -1 where no client voted, and how many clients voted for them.
    """
    classes = start.shape[1]
    prompt = drawn.long().masked_fill((drawn < 0) | (drawn >= classes), -1)
    probable, _ = confusion_vote(torch.cat([predicted.long(), prompt[None]]), start)
    voted = (predicted >= 0).any(0)
    labels = probable.argmax(1).masked_fill(~voted, -1)
    return Vote(labels, ((predicted == labels) & (predicted >= 0)).sum(0))
