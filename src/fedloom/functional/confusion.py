"""Who takes which class for which: a vote in which voters' habits are learned from their votes alone.

Dawid, A. P. and Skene, A. M.: Maximum likelihood estimation of observer error-rates using the EM algorithm.
Applied Statistics 28 (1979), 20-28.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fedloom.errors import BadInput


def confusion_vote(predicted: Tensor, start: Tensor, *, smoothing: float = 1.0, iterations: int = 50) -> Tensor:
    """The probability of each class, given what each voter takes for what: both by expectation maximisation.

    A voter that answers at random ends with the same answers for every class, and counts for nothing; one that always
    names the wrong class counts for the right one. What makes it find the truth rather than a renaming of it is where
    it starts. Of a voter's C x C matrix only rows of labels that it gave are made: time and memory are O(S C) a voter.

    Args:
        predicted: (V, S) integer, the label by each voter, -1 where it is absent.
        start: (S, C), not negative, each sample's classes in proportion to what is believed of them before; a row of
            zeros: nothing is.
        smoothing: answers, spread evenly over the classes, that each voter is supposed to have given of each class.
        iterations: of expectation maximisation.

    Returns:
        (S, C) float64, rows of sum 1.

    Raises:
        ValueError: shapes disagree.
        BadInput: a label is neither -1 nor below C, `start` is negative or not finite, or smoothing is not above 0.
    """
    if predicted.ndim != 2 or start.ndim != 2 or predicted.shape[1] != len(start):
        raise ValueError(f"predicted {tuple(predicted.shape)} must be (V, S), and start {tuple(start.shape)} (S, C)")
    classes = start.shape[1]
    if (wrong := predicted[(predicted < -1) | (predicted >= classes)]).numel():
        raise BadInput(f"a label is {int(wrong[0])}; allowed: 0 to {classes - 1}, or -1")
    if not (torch.isfinite(start) & (start >= 0)).all():
        raise BadInput("what is believed of classes before the vote must be finite and not negative")
    if not smoothing > 0:
        raise BadInput(f"smoothing is {smoothing}; it must be above 0")

    q = start.double()
    q = torch.where(q.any(1, keepdim=True), q, 1.0)
    q = q / q.sum(1, keepdim=True)
    voters = []  # the samples (s,) that each has a label of, and which of its labels U that is (s,)
    for labels in predicted:
        here = torch.where(labels >= 0)[0]
        voters.append((here, torch.unique(labels[here], return_inverse=True)[1]))
    for _ in range(iterations):
        log_p = ((q.sum(0) + 1) / (len(q) + classes)).log().expand_as(q).clone()
        for here, said in voters:
            own = q[here]
            counts = q.new_zeros(len(here), classes).index_add_(0, said, own)  # (U, C), and rows that are not looked at
            shares = (counts + smoothing / classes) / (own.sum(0) + smoothing)  # P(the voter says this | class)
            log_p.index_add_(0, here, shares.log()[said])
        q = log_p.softmax(1)
    return q


class Learned(NamedTuple):
    """As `Vote`, and the probability of each class, (S, C) float64."""

    labels: Tensor
    counts: Tensor
    probable: Tensor


def learned_vote(predicted: Tensor, start: Tensor, drawn: Tensor) -> Learned:
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
    probable = confusion_vote(torch.cat([predicted.long(), prompt[None]]), start)
    voted = (predicted >= 0).any(0)
    labels = probable.argmax(1).masked_fill(~voted, -1)
    return Learned(labels, ((predicted == labels) & voted).sum(0), probable)
