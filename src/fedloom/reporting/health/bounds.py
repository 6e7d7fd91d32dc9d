"""How sure a share of so many samples is: an exact binomial test against chance, and an interval's half-width."""

from __future__ import annotations

import math
from statistics import NormalDist

# A run asks this of each client and model, a dozen times: at 1 % each, a run at chance seldom passes by luck.
SIGNIFICANCE = 0.01
CONFIDENCE = 0.95


def beats_chance(share: float, samples: int, chance: float) -> bool:
    """Whether so large a share of right answers has a probability below `SIGNIFICANCE` by chance alone.

    Exact, one-sided: P(X >= share * samples) for X binomial (samples, chance).

    Args:
        share: of right answers, 0 to 1.
        samples: answers.
        chance: what guessing gives, 0 to 1.
    """
    from scipy.special import bdtrc

    hits = math.floor(min(share, 1.0) * samples + 1e-6)  # the mean of two recalls need not be a whole number
    if hits < 1 or chance >= 1:
        return False
    return bool(bdtrc(hits - 1, samples, max(chance, 0.0)) < SIGNIFICANCE)


def half_width(share: float, samples: int) -> float:
    """Half the width of Wilson's 95 % interval of a share, which also holds near 0 and 1 and for few samples."""
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    p, n = min(max(share, 0.0), 1.0), samples
    return z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))


def error_of_change(before: float, after: float, samples: int) -> float:
    """Standard error of the difference of two shares, as if each had samples of its own."""
    return math.sqrt(sum(p * (1 - p) for p in (min(max(before, 0.0), 1.0), min(max(after, 0.0), 1.0))) / samples)
