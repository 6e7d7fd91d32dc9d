"""What goes wrong with a client's data, as in FedMultimodal: missing modalities, missing labels, wrong labels.

    samples --corrupt--> Corrupted: fewer samples, some without one of their modalities, some under another label

FedMultimodal (Feng et al. 2023) says: each modality is missing with one rate, drawn by itself; samples without a label
leave training; a wrong label comes from a transition matrix of the client's own, in which a share of the other classes
(its sparsity, 0.4) cannot be the wrong one and the rest are equally likely. Its public code draws a missing modality
once a client, for all of its samples; here it is drawn for every sample, as a rate of samples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedloom.config.corruption import Corruption
from fedloom.data.containers import ClientData, ImageSet, Labels
from fedloom.data.joint import MultimodalSamples
from fedloom.data.pairs import ImageTextPairs
from fedloom.errors import BadInput
from fedloom.tasks import Modality

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Corrupted:
    """What is left.

    missing: modalities removed, up to 2 N of N multimodal samples; unlabelled: samples dropped for want of a label,
    whatever else they lacked; wrong: remaining samples with another label than their own.
    """

    samples: ClientData
    missing: int
    unlabelled: int
    wrong: int


def corrupt(samples: ClientData, corruption: Corruption, classes: int, rng: np.random.Generator) -> Corrupted:
    """Corrupt a client's data.

    A multimodal sample loses each modality independently and is dropped if none is left. A picture, text or captioned
    picture that misses anything is dropped. Pairs have no labels to corrupt. Where nothing would be left, one random
    sample stays as it was.

    The number of draws depends on N, C and the modalities alone: with an equal generator, what one rate breaks is the
    same whatever the others are, and a higher rate breaks what a lower one does and more.

    Args:
        samples: N of them; not changed.
        classes: C, of its labels; ignored for pairs.
        rng: the client's own stream.

    Raises:
        BadInput: a label that is not one of the classes.
    """
    N = len(samples)
    if not N:
        return Corrupted(samples, 0, 0, 0)
    had = list(_had(samples).values())
    missing = [mask & (rng.random(N) < corruption.missing_modality) for mask in had]
    left = [mask & ~gone for mask, gone in zip(had, missing)]
    usable = np.all(left, axis=0) if isinstance(samples, ImageTextPairs) else np.any(left, axis=0)
    unlabelled: Mask = np.zeros(N, dtype=np.bool_)
    labels: Labels = np.zeros(N, dtype=np.int64)
    if not isinstance(samples, ImageTextPairs):
        unlabelled = rng.random(N) < corruption.missing_label
        labels = relabel(samples.labels, corruption, classes, rng)
    kept = np.flatnonzero(usable & ~unlabelled)
    if not kept.size:
        kept = rng.integers(N, size=1)
        for mask in (*missing, unlabelled):
            mask[kept] = False
        labels[kept] = 0 if isinstance(samples, ImageTextPairs) else samples.labels[kept]
    lost = sum(int(gone.sum()) for gone in missing)
    if isinstance(samples, ImageTextPairs):
        return Corrupted(samples.subset(kept), lost, 0, 0)
    wrong = int((labels[kept] != samples.labels[kept]).sum())
    fewer = replace(samples.subset(kept), labels=labels[kept])
    if isinstance(fewer, MultimodalSamples):
        fewer = fewer.lacking({m: gone[kept] for m, gone in zip(fewer.modalities, missing)})
    return Corrupted(fewer, lost, int(unlabelled.sum()), wrong)


def transition(classes: int, corruption: Corruption, rng: np.random.Generator) -> NDArray[np.float64]:
    """The probability of each label (column) for a sample of each class (row). float (C, C), rows add up to 1."""
    others = _mistaken(classes, corruption.wrong_spread, rng)
    P = np.eye(classes)
    if others.size:
        P *= 1 - corruption.wrong_label
        np.put_along_axis(P, others, corruption.wrong_label / others.shape[1], axis=1)
    return P


def relabel(labels: Labels, corruption: Corruption, classes: int, rng: np.random.Generator) -> Labels:
    """Labels drawn from the transition matrix that `transition` gives for an equal generator. int64 (N,)."""
    if len(labels) and labels.max() >= classes:
        raise BadInput(f"label {int(labels.max())} is out of range, allowed 0..{classes - 1}")
    others = _mistaken(classes, corruption.wrong_spread, rng)
    hit, place = rng.random(len(labels)) < corruption.wrong_label, rng.random(len(labels))
    if not others.size:
        return labels.copy()
    taken_for = others[labels, (place * others.shape[1]).astype(np.int64)]
    return np.where(hit, taken_for, labels)


def _mistaken(classes: int, spread: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Which classes each class is taken for, int64 (C, m): the first m of the others in random order."""
    order = rng.random((classes, classes))
    np.fill_diagonal(order, 2.0)  # last: a class is not taken for itself
    m = min(classes - 1, max(1, round(spread * (classes - 1))))
    return np.argsort(order, axis=1)[:, :m]


def _had(samples: ClientData) -> dict[Modality, Mask]:
    """Of each modality whether a sample has it before anything goes missing, bool (N,)."""
    if isinstance(samples, MultimodalSamples):
        return dict(samples.present)
    there = np.ones(len(samples), dtype=np.bool_)
    if isinstance(samples, ImageTextPairs):
        return {Modality.IMAGE: there, Modality.TEXT: there}
    return {Modality.IMAGE if isinstance(samples, ImageSet) else Modality.TEXT: there}
