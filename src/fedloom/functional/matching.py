"""Which picture belongs to which text, and how far classes lie apart: CreamFL's and FedAFD's task losses
(arXiv 2302.08888, 2603.04890).

The matching loss is PCME's soft contrastive one (arXiv 2101.05068) with one sample an item, as CreamFL's code has it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_UNDER_ROOT = 1e-6  # keeps the root's slope finite where a pair coincides; PCME's


def match_logits(x: Tensor, y: Tensor, scale: Tensor | float, shift: Tensor | float) -> Tensor:
    """l_ij = b - a |x_i - y_j|, whose sign says whether i and j match (PCME).

    Args:
        x: (N, D), as they are: nothing is normalised here.
        y: (M, D).
        scale: a.
        shift: b.

    Returns:
        (N, M). No (N, M, D) is held, with or without gradient.

    Raises:
        ValueError: widths disagree.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"pairs of {tuple(x.shape)} and {tuple(y.shape)}, expected (N, D) and (M, D)")
    # By differences: |x|^2 + |y|^2 - 2 x y loses what is left where a pair nearly coincides.
    apart = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
    return shift - scale * (apart.square() + _UNDER_ROOT).sqrt()


def match_probability(x: Tensor, y: Tensor, scale: Tensor | float, shift: Tensor | float) -> Tensor:
    """e^l / (e^l + e^-l) = sigmoid(2 l) for l of `match_logits`: (N, D), (M, D) -> (N, M) (PCME)."""
    return (2 * match_logits(x, y, scale, shift)).sigmoid()


def matching_loss(x: Tensor, y: Tensor, scale: Tensor | float, shift: Tensor | float) -> Tensor:
    """Soft pairwise matching, both ways, in nats: row i of x belongs to row i of y and to no other (PCME).

        -2 sum over i, j of log sigmoid(+-2 l_ij)        + where i = j

    The factor 2 is the two directions: with one sample an item they are the same number. A sum, as in PCME's code: it
    grows with B^2.

    Args:
        x: (B, D), with gradient.
        y: (B, D), with gradient.
        scale: a, with gradient where it is a parameter (`PairMatching`).
        shift: b, likewise.

    Returns:
        Scalar; 0 for an empty batch.

    Raises:
        ValueError: shapes disagree.
    """
    if x.shape != y.shape:
        raise ValueError(f"pictures {tuple(x.shape)} and texts {tuple(y.shape)} must both be (B, D)")
    logits = match_logits(x, y, scale, shift)  # (B, B)
    sign = 2 * torch.eye(len(x), dtype=logits.dtype, device=logits.device) - 1
    return -2 * F.logsigmoid(2 * sign * logits).sum()


class PairMatching(nn.Module):
    """`matching_loss` with its two learnable numbers: `scale` a and `shift` b, both 15 at first (PCME's code)."""

    def __init__(self, scale: float = 15.0, shift: float = 15.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))
        self.shift = nn.Parameter(torch.tensor(shift))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Loss of paired rows (B, D): a scalar."""
        return matching_loss(x, y, self.scale, self.shift)


def margin_cross_entropy(logits: Tensor, labels: Tensor, margin: float) -> Tensor:
    """CE(logits - margin at the true class, labels), in nats: right by more than the margin, or it costs (CreamFL).

    Args:
        logits: (B, C), with gradient.
        labels: (B,).
        margin: what the true class's logit is lowered by in training; CreamFL's code has 4. 0: plain cross-entropy.

    Returns:
        Scalar, mean over the batch.
    """
    true = labels[:, None] == torch.arange(logits.shape[1])  # one_hot looks at the labels, and of one sample it cannot
    return F.cross_entropy(logits - margin * true, labels)


def class_spread(class_weights: Tensor, coefficient: float = 0.5) -> Tensor:
    """What spreads the classes' weights apart: coefficient * CE(V V^T, [0..C-1]), V = relu(W), in nats.

    Each class should be likest to itself. From CreamFL's code, kept by FedAFD's. Negative weights have no part and
    no gradient; a head whose weights are all negative stays at coefficient * log C.

    Args:
        class_weights: (C, D), W, with gradient; a linear head's `weight`.
        coefficient: what the cross-entropy is multiplied with.

    Returns:
        Scalar; 0 for one class.

    Raises:
        ValueError: not (C, D) with a class.
    """
    if class_weights.ndim != 2 or not len(class_weights):
        raise ValueError(f"class weights {tuple(class_weights.shape)}, expected (C, D) with C >= 1")
    spread = class_weights.relu()
    own = torch.arange(len(spread), device=spread.device)
    return coefficient * F.cross_entropy(spread @ spread.T, own)
