"""What is spent, by opacus: the noise a budget needs, and the epsilon of what was done.

By its accountant for Renyi differential privacy. The one by privacy loss distributions asks for a tenth less noise, but
takes three times as long for a client, and divides by zero on the way where all samples are in every batch.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloom.errors import BadInput

History = Sequence[tuple[float, float, int]]  # noise multiplier, sampling rate, how many times
ACCOUNTANT = "rdp"
# What a client tells of its budgets, in this order; NaN: it has no such budget.
TERMS = ("epsilon", "delta", "budget", "steps", "refused", "answers", "answers_epsilon", "answers_delta")


def usual_delta(samples: int) -> float:
    """The largest power of ten up to 1 / n^1.1 of n samples: it is told, and n is to stay at the client."""
    return float(10.0 ** math.floor(-1.1 * math.log10(max(samples, 2))))


@functools.lru_cache(maxsize=256)
def noise_multiplier(epsilon: float, delta: float, rate: float, times: int) -> float:
    """Standard deviation over sensitivity, with which `times` steps stay within (epsilon, delta).

    Args:
        rate: probability with which each sample is in a step; 1: always.

    Raises:
        BadInput: no noise is enough.
    """
    from opacus.accountants.utils import get_noise_multiplier

    if not times:
        return 0.0
    how = {"accountant": ACCOUNTANT, "epsilon_tolerance": min(0.01, epsilon / 100)}
    try:
        with _quiet():
            found: float = get_noise_multiplier(
                target_epsilon=epsilon, target_delta=delta, sample_rate=rate, steps=times, **how
            )
    except ValueError:
        raise BadInput(f"epsilon = {epsilon} at delta = {delta:.2g}: no noise is enough for {times} steps") from None
    return found


def spent(history: History, delta: float) -> float:
    """The epsilon at `delta` of all that was done."""
    if not any(times for _, _, times in history):
        return 0.0
    return epsilon_of(sum(_once(sigma, rate) * times for sigma, rate, times in history), delta)


def orders() -> NDArray[np.float64]:
    """The orders (A,) at which Renyi divergences are added up."""
    from opacus.accountants.rdp import RDPAccountant

    return np.array(RDPAccountant.DEFAULT_ALPHAS)


def epsilon_of(rdp: Any, delta: float) -> float:
    """The epsilon at `delta` of Renyi divergences (A,) at `orders()`."""
    from opacus.accountants.analysis.rdp import get_privacy_spent

    with _quiet():
        return float(get_privacy_spent(orders=orders(), rdp=rdp, delta=delta)[0])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without opacus' advice to try more orders: what it finds holds, and is a little more than need be."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Optimal order is")
        yield


@functools.lru_cache(maxsize=256)
def _once(sigma: float, rate: float) -> Any:
    """Renyi divergence of one step at each order: what takes the accountant its time."""
    from opacus.accountants.analysis.rdp import compute_rdp

    return compute_rdp(q=rate, noise_multiplier=sigma, steps=1, orders=orders())


def check_installed(what: str) -> None:
    """Raises BadInput where there is no opacus for what is called `what`."""
    if importlib.util.find_spec("opacus") is None:
        raise BadInput(f"{what} needs opacus, which is not installed: pip install 'fedloom[privacy]'")


def affordable(history: History, sigma: float, rate: float, times: int, epsilon: float, delta: float) -> int:
    """How many of `times` more steps stay within (epsilon, delta)."""
    few, many = 0, times + 1  # `few` do, `many` do not
    while many - few > 1:
        middle = times if many > times else (few + many) // 2  # all of them, as a rule
        within = spent([*history, (sigma, rate, middle)], delta) <= epsilon
        few, many = (middle, many) if within else (few, middle)
    return few


def as_row(told: Sequence[float]) -> dict[str, float | int]:
    """What a client tells (`TERMS`) by name, without what it has no budget of."""
    counts = {"steps", "refused", "answers"}
    found = {k: float(v) for k, v in zip(TERMS, told) if not math.isnan(v)}
    return {k: int(v) if k in counts else v for k, v in found.items()}
