"""How well scores tell a client's training samples from others: ROC curves, and the scores of two attacks.

    loss              s = -loss of the sample                                   Yeom et al. 2018, arXiv 1709.01604
    likelihood ratio  s = log N(phi; mu_in, sigma_in) - log N(phi; mu_out, sigma_out)   Carlini et al. 2022, 2112.03570

phi is the logit of the probability of the sample's label; mu_in and mu_out are its means over shadow models that were,
and were not, trained on that sample. Sigma is one for all samples, as the paper has it for few shadows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import norm, rankdata

from fedloom.errors import BadInput

Floats = NDArray[np.float64]
RATES = {"tpr_1": 0.01, "tpr_01": 0.001}  # false positives at which true ones are told
RESAMPLES = 1000
SPREAD = 1e-3  # least standard deviation of phi


def logit_confidence(logits: Floats, labels: NDArray[np.int64]) -> Floats:
    """phi (N,) = log(p_y / (1 - p_y)) of logits (N, C) and labels (N,); both likelihoods in logs, so it never
    overflows."""
    rows = np.arange(len(labels))
    others = np.array(logits, dtype=np.float64)
    own = others[rows, labels]
    others[rows, labels] = -np.inf
    return np.asarray(own - logsumexp(others, axis=1), dtype=np.float64)


def likelihood_ratio(phi: Floats, shadows: Floats, inside: NDArray[np.bool_]) -> Floats:
    """Scores (N,) of phi (N,), from that of S shadow models (S, N), of which `inside` (S, N) saw which sample.

    Raises:
        BadInput: a sample that all shadows saw, or none.
    """
    seen = inside.sum(0)
    if not ((seen > 0) & (seen < len(inside))).all():
        raise BadInput(f"each sample must be in some of the {len(inside)} shadows, and not in all")

    def fitted(mask: NDArray[np.bool_]) -> tuple[Floats, float]:
        mean = np.where(mask, shadows, 0).sum(0) / mask.sum(0)
        left = np.where(mask, shadows - mean, 0)
        freedom = max(1, int(mask.sum()) - mask.shape[1])
        return mean, max(SPREAD, float(np.sqrt((left**2).sum() / freedom)))

    (mu_in, sigma_in), (mu_out, sigma_out) = fitted(inside), fitted(~inside)
    return np.asarray(norm.logpdf(phi, mu_in, sigma_in) - norm.logpdf(phi, mu_out, sigma_out), dtype=np.float64)


def auc(members: Floats, others: Floats) -> float:
    """The probability that a member's score is above another sample's; ties count half."""
    n, m = len(members), len(others)
    ranks = rankdata(np.concatenate([members, others]))
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def advantage(members: Floats, others: Floats) -> float:
    """True minus false positives where what is above the median of all is taken for a member: of a guess 0.

    No threshold is fitted to the truth, so it is 0 on average where there is nothing to be seen.
    """
    middle = np.median(np.concatenate([members, others]))

    def above(s: Floats) -> float:
        return float((s > middle).mean() + (s == middle).mean() / 2)

    return above(members) - above(others)


def true_positives(members: Floats, others: Floats, rate: float) -> float:
    """Share of members above a threshold that at most a share `rate` of the others is above."""
    threshold = np.sort(others)[::-1][int(rate * len(others))]
    return float((members > threshold).mean())


def roc(members: Floats, others: Floats, points: int = 101) -> list[tuple[float, float]]:
    """(false positives, true positives) at false positives of 0 to 1, evenly spaced."""
    rates = np.linspace(0, 1, points)
    return [(float(r), true_positives(members, others, min(r, 1 - 1e-9)) if r < 1 else 1.0) for r in rates]


@dataclass(frozen=True)
class Told:
    """Figures of an attack, each as (value, low, high): a bootstrap interval of 95 %."""

    members: int
    others: int
    figures: dict[str, tuple[float, float, float]]
    curve: list[tuple[float, float]]

    def tree(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "members": self.members,
            "others": self.others,
            **{k: list(v) for k, v in self.figures.items()},
            "roc": [list(point) for point in self.curve],
        }


def told_by(scores: Floats, inside: NDArray[np.bool_], rng: np.random.Generator) -> Told:
    """AUC, advantage and true positives at few false ones, of scores (N,) and the truth (N,), with intervals.

    Raises:
        BadInput: there are no members, or nobody else.
    """
    members, others = scores[inside], scores[~inside]
    if not len(members) or not len(others):
        raise BadInput(f"{len(members)} members and {len(others)} other samples: at least one of each is needed")

    def figures(a: Floats, b: Floats) -> dict[str, float]:
        few = {name: true_positives(a, b, rate) for name, rate in RATES.items()}
        return {"auc": auc(a, b), "advantage": advantage(a, b), **few}

    values = figures(members, others)
    drawn = [figures(rng.choice(members, len(members)), rng.choice(others, len(others))) for _ in range(RESAMPLES)]
    ends = {name: np.quantile([d[name] for d in drawn], (0.025, 0.975)) for name in values}
    found = {name: (value, float(ends[name][0]), float(ends[name][1])) for name, value in values.items()}
    return Told(len(members), len(others), found, roc(members, others))
