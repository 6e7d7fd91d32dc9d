"""Annotators of unknown reliability whose answers are probabilities, and who are known from earlier rounds.

Dawid, A. P. and Skene, A. M.: Maximum likelihood estimation of observer error-rates using the EM algorithm.
Applied Statistics 28 (1979), 20-28. Ours: an answer of several classes counts for each by its share, and what was
learned of an annotator before is a Dirichlet prior of its confusion matrix (as in Kim and Ghahramani, AISTATS 2012).
`confusion` has the same for labels alone, in less memory.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fedloom.errors import BadInput


class Annotation(NamedTuple):
    """posterior: (S, C) float64, rows of sum 1; counts: (V, C, C) float64, how often, of each class (row), each
    annotator gave each answer (column), as far as the posterior knows."""

    posterior: Tensor
    counts: Tensor


def annotate(
    answers: Tensor,
    start: Tensor,
    known: Tensor | None = None,
    *,
    smoothing: float = 1.0,
    weight: float = 1.0,
    iterations: int = 50,
) -> Annotation:
    """The probability of each class, given what each annotator takes for what: both by expectation maximisation.

    Args:
        answers: (V, S, C), not negative: shares of each annotator's answer, rows of sum 1, or of zeros where it has
            none.
        start: (S, C), not negative: what is believed of each sample before, in proportion; a row of zeros: nothing.
        known: (V, C, C), not negative: counts of earlier rounds, which are added to those of this one.
        smoothing: answers, spread evenly over the classes, that each annotator is supposed to have given of each class.
        weight: of the annotators' evidence, at most 1: less where they are wrong together, having learned from the
            same samples.
        iterations: of expectation maximisation; with 1 and `known` it is the posterior under what is known.

    Raises:
        ValueError: shapes disagree.
        BadInput: a value is negative or not finite, or a number is out of range.
    """
    voters, samples, classes = answers.shape
    if start.shape != (samples, classes) or (known is not None and known.shape != (voters, classes, classes)):
        raise ValueError(f"answers {tuple(answers.shape)} are (V, S, C); start {tuple(start.shape)}, known ...")
    for name, values in (("answers", answers), ("start", start), ("known", known)):
        if values is not None and not (torch.isfinite(values) & (values >= 0)).all():
            raise BadInput(f"{name} of annotators must be finite and not negative")
    if not smoothing > 0 or not 0 < weight <= 1:
        raise BadInput(f"smoothing is {smoothing}, allowed: above 0; weight is {weight}, allowed: above 0, at most 1")
    said, q = answers.double(), start.double()
    q = torch.where(q.any(1, keepdim=True), q, 1.0)
    q = q / q.sum(1, keepdim=True)
    there = said.sum(2)  # (V, S): 1 where there is an answer
    before = said.new_zeros(voters, classes, classes) if known is None else known.double()
    counts = before
    for _ in range(iterations):
        counts = torch.einsum("sc,vsu->vcu", q, said)
        seen = torch.einsum("sc,vs->vc", q, there) + before.sum(2)
        shares = (counts + before + smoothing / classes) / (seen + smoothing)[:, :, None]  # P(answer | class)
        evidence = torch.einsum("vsu,vcu->sc", said, shares.log())
        q = (((q.sum(0) + 1) / (samples + classes)).log() + weight * evidence).softmax(1)
    return Annotation(q, counts)


def reliability(counts: Tensor, smoothing: float = 1.0) -> Tensor:
    """How often each annotator is right about each class, (V, C), of counts (V, C, C); 1 / C where it said nothing."""
    classes = counts.shape[-1]
    return (counts.diagonal(dim1=1, dim2=2) + smoothing / classes) / (counts.sum(2) + smoothing)


def neighbours(
    codes: Tensor, present: Tensor, belief: Tensor, *, sure: float = 0.9, temperature: float = 0.1
) -> Tensor:
    """What the sure samples that look alike are believed to be: one more annotator's answers, (S, C).

    Alike is what clients find alike, each in its own space: the mean over clients of the cosine of two samples.

    Args:
        codes: (K, S, m), representations of each client, however short. present: bool (K, S).
        belief: (S, C), rows of sum 1; sure: the least probability of a sample that others look at.
        temperature: of the softmax over those.

    Returns:
        (S, C), zeros where a client's codes, or sure samples, are missing.
    """
    z = torch.nn.functional.normalize(codes.double(), dim=-1) * present[:, :, None]
    both = (present[:, :, None] & present[:, None, :]).sum(0)  # (S, S)
    alike = torch.einsum("ksm,ktm->st", z, z) / both.clamp(min=1)
    reach = (both > 0) & (belief.amax(1) >= sure)[None, :]
    reach &= ~torch.eye(len(belief), dtype=torch.bool)
    weights = (alike / temperature).masked_fill(~reach, -torch.inf)
    weights = torch.where(reach.any(1, keepdim=True), weights, 0.0).softmax(1) * reach.any(1, keepdim=True)
    return weights @ belief.double()
