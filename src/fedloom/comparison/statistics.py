"""Means over seeds, and differences that are paired by seed: tests, corrections, effect sizes, predictions.

The tests are two-sided. `paired` makes them one at a time; `corrected` corrects those of one table for their number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONFIDENCE = 0.95
LEVEL = 0.05  # of a corrected p
ABOVE, BELOW, NOT_SHOWN = "above", "below", "not shown"
_EXACT = 16  # pairs up to which all sign flips are counted
_DRAWS = 2**16 - 1  # of sign flips beyond that
_GRID = 2**14  # quantiles of chi2 that the noncentral t distribution is averaged over
_TESTED = ("low", "high", "p", "p_flip", "effect", "effect_low", "effect_high")


def spread(values: Mapping[int, float]) -> dict[str, Any]:
    """n, mean and standard deviation (n - 1) over seeds; None where there are too few.

    Args:
        values: by seed.
    """
    found = list(values.values())
    return {
        "n": len(found),
        "mean": mean(found) if found else None,
        "sd": stdev(found) if len(found) > 1 else None,
    }


def paired(
    values: Mapping[int, float], reference: Mapping[int, float], confidence: float = CONFIDENCE
) -> dict[str, Any]:
    """The difference to the reference over the seeds that both have, each seed against the same seed.

    Args:
        values, reference: by seed.
        confidence: of the intervals.

    Returns:
        n, mean; `low` and `high` of the t-interval of the mean difference; two-sided p of the paired t-test (`p`) and
        of the sign-flip permutation test (`p_flip`); `effect`, mean over standard deviation of the differences (d_z)
        with Hedges' correction, and its interval `effect_low`, `effect_high`. None with one seed; `p` and `effect`
        also where all differences are equal, the effect also with two seeds. No p is corrected: see `corrected`.
    """
    both = [seed for seed in values if seed in reference]
    differences = [values[s] - reference[s] for s in both]
    n, found = len(both), spread(dict(zip(both, differences)))
    out: dict[str, Any] = {"n": n, "mean": found["mean"], **dict.fromkeys(_TESTED)}
    if n < 2:
        return out
    from scipy.stats import t as student

    level, sd = found["mean"], found["sd"]
    if sd <= 1e-9 * max(abs(x) for x in (*values.values(), *reference.values())):  # equal but for rounding
        sd = 0.0
    error = sd / math.sqrt(n)
    reach = float(student.ppf(0.5 + confidence / 2, n - 1)) * error
    out |= {"low": level - reach, "high": level + reach, "p_flip": sign_flip(differences)}
    if error > 0:
        out["p"] = 2 * float(student.sf(abs(level) / error, n - 1))
        out |= dict(zip(("effect", "effect_low", "effect_high"), effect_size(level / sd, n, confidence)))
    return out


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided p of the sign-flip permutation test of a mean of 0: no assumption but symmetry.

    Exact up to 16 differences; beyond that of 65 535 random flips (the same each time) and the one observed. Its
    smallest value is 2 / 2^n.
    """
    import numpy as np

    d = np.asarray(differences, float)
    if len(d) <= _EXACT:
        signs = 1 - 2 * ((np.arange(2 ** len(d))[:, None] >> np.arange(len(d))) & 1)
        sums, more = signs @ d, 0
    else:
        signs = 1 - 2 * np.random.default_rng(0).integers(0, 2, (_DRAWS, len(d)))
        sums, more = signs @ d, 1
    reached = int((np.abs(sums) >= abs(d.sum()) - 1e-9 * np.abs(d).sum()).sum())
    return (reached + more) / (len(sums) + more)


@lru_cache(4096)
def effect_size(
    d: float, n: int, confidence: float = CONFIDENCE
) -> tuple[float, float, float] | tuple[None, None, None]:
    """Cohen's d_z of n pairs with Hedges' correction, and its interval by the noncentral t distribution.

    Both are times J = G(f/2) / (sqrt(f/2) G((f - 1)/2)), f = n - 1 (Hedges 1981, eq. 6e). None below three pairs.
    """
    if n < 3:
        return None, None, None
    from scipy.optimize import brentq
    from scipy.special import ndtr

    f, t = n - 1, d * math.sqrt(n)
    correction = math.exp(math.lgamma(f / 2) - math.lgamma((f - 1) / 2)) / math.sqrt(f / 2)
    # P(T <= t) of noncentrality c is the mean of Phi(t sqrt(chi2 / f) - c); scipy's nct.cdf is NaN far from t.
    grid = t * _spread_of_chi(f)

    def bound(share: float) -> float:
        """The noncentrality with P(T <= t) = share."""
        return float(brentq(lambda c: float(ndtr(grid - c).mean()) - share, grid.min() - 10, grid.max() + 10))

    tail = (1 - confidence) / 2
    low, high = (bound(share) / math.sqrt(n) for share in (1 - tail, tail))
    return correction * d, correction * low, correction * high


@lru_cache
def _spread_of_chi(f: int) -> NDArray[np.float64]:
    """_GRID equally likely values of the square root of chi squared over its f degrees of freedom."""
    import numpy as np
    from scipy.stats import chi2

    return np.sqrt(chi2.ppf((np.arange(_GRID) + 0.5) / _GRID, f) / f)  # type: ignore[no-any-return]


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction of the p values of one table; None stands for no test and stays.

    All that are below a level afterwards hold together at that level, whatever depends on what (Holm 1979).
    """
    order = sorted((value, i) for i, value in enumerate(p) if value is not None)
    out: list[float | None] = [None] * len(p)
    least = 0.0
    for rank, (value, i) in enumerate(order):
        least = max(least, min(1.0, value * (len(order) - rank)))
        out[i] = least
    return out


def corrected(differences: Iterable[dict[str, Any]]) -> None:
    """Adds to each of `paired`'s differences of one table `p_holm` and its `verdict`: above, below or not shown."""
    table = list(differences)
    for found, p in zip(table, holm([d["p"] for d in table])):
        found["p_holm"] = p
        shown = p is not None and p < LEVEL
        found["verdict"] = (ABOVE if found["mean"] > 0 else BELOW) if shown else NOT_SHOWN


def p_text(p: float | None) -> str:
    """`p = 0.012`, `p < 0.001`; '' for none."""
    if p is None:
        return ""
    return "p < 0.001" if p < 0.0005 else f"p = {p:.3f}"


def verdict_text(difference: Mapping[str, Any]) -> str:
    """`above (p = 0.012)` of a difference that `corrected` has seen."""
    p = p_text(difference["p_holm"])
    return f"{difference['verdict']} ({p})" if p else str(difference["verdict"])


def prediction(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The interval for one new member of a normal sample: mean +- t_{n-1} s sqrt(1 + 1/n).

    Raises:
        ValueError: fewer than two values.
    """
    if len(values) < 2:
        raise ValueError(f"{len(values)} values: a prediction needs two")
    from scipy.stats import t as student

    n, middle = len(values), mean(values)
    reach = float(student.ppf(0.5 + confidence / 2, n - 1)) * stdev(values) * math.sqrt(1 + 1 / n)
    return middle - reach, middle + reach


def clear_best(rows: Mapping[str, Mapping[int, float]], lower: bool = False) -> str | None:
    """The row with the best mean, where it is better than every other beyond chance; else None.

    The two-sided paired t-tests of it against each other row are corrected for their number (Holm), and all of them
    must be below 0.05. So nobody is the best with one seed, or among equals.

    Args:
        rows: values by seed, by row.
        lower: low values are the better ones.
    """
    there = {name: values for name, values in rows.items() if values}
    if len(there) < 2:
        return None
    best = (min if lower else max)(there, key=lambda name: mean(there[name].values()))
    found = [paired(there[best], values) for name, values in there.items() if name != best]
    corrected(found)
    return best if all(d["verdict"] == (BELOW if lower else ABOVE) for d in found) else None
