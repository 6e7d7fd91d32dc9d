"""Means over seeds, and differences that are paired by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import mean, stdev
from typing import Any

CONFIDENCE = 0.95


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
    values: Mapping[int, float],
    reference: Mapping[int, float],
    lower: bool = False,
    confidence: float = CONFIDENCE,
) -> dict[str, Any]:
    """The difference to the reference over the seeds that both have, each seed against the same seed.

    Args:
        values, reference: by seed.
        lower: low values are the better ones.
        confidence: of the interval.

    Returns:
        n, mean, `low` and `high` of the t-interval (95 %) of the mean difference, and two one-sided p values of the
        paired t-test: `p_better` of the hypothesis that this row is better than the reference (small speaks for
        it), `p_worse` that it is worse. None with one seed; p None also where all differences are equal.
    """
    both = [seed for seed in values if seed in reference]
    differences = [values[s] - reference[s] for s in both]
    n, found = len(both), spread(dict(zip(both, differences)))
    out: dict[str, Any] = {"n": n, "mean": found["mean"]}
    out |= dict.fromkeys(("low", "high", "p_better", "p_worse"))
    if n < 2:
        return out
    from scipy.stats import t as student

    error = found["sd"] / math.sqrt(n)
    reach = float(student.ppf(0.5 + confidence / 2, n - 1)) * error
    out |= {"low": found["mean"] - reach, "high": found["mean"] + reach}
    if error > 0:
        above = float(student.sf(found["mean"] / error, n - 1))  # small when the differences are positive
        out["p_better"], out["p_worse"] = (1 - above, above) if lower else (above, 1 - above)
    return out


def clear_best(rows: Mapping[str, Mapping[int, float]], lower: bool = False) -> str | None:
    """The row with the best mean, where it is better than every other beyond chance; else None.

    Its paired difference to each other row must have an interval without 0 that is corrected for their number
    (Bonferroni: all of them hold together at 95 %). So nobody is the best with one seed, or among equals.

    Args:
        rows: values by seed, by row.
        lower: low values are the better ones.
    """
    there = {name: values for name, values in rows.items() if values}
    if len(there) < 2:
        return None
    best = (min if lower else max)(there, key=lambda name: mean(there[name].values()))
    confidence = 1 - (1 - CONFIDENCE) / (len(there) - 1)
    for name, values in there.items():
        if name == best:
            continue
        found = paired(there[best], values, lower, confidence)
        if found["low"] is None or not (found["high"] < 0 if lower else found["low"] > 0):
            return None
    return best
