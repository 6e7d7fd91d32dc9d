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
    values: Mapping[int, float], reference: Mapping[int, float], lower: bool = False
) -> dict[str, Any]:
    """The difference to the reference over the seeds that both have, each seed against the same seed.

    Args:
        values, reference: by seed.
        lower: low values are the better ones.

    Returns:
        n, mean, `low` and `high` of the 95 % t-interval of the mean difference, and two one-sided p values of the
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
    reach = float(student.ppf(0.5 + CONFIDENCE / 2, n - 1)) * error
    out |= {"low": found["mean"] - reach, "high": found["mean"] + reach}
    if error > 0:
        above = float(student.sf(found["mean"] / error, n - 1))  # small when the differences are positive
        out["p_better"], out["p_worse"] = (1 - above, above) if lower else (above, 1 - above)
    return out
