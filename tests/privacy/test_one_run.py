"""The lower bound of epsilon by canaries."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedloom.errors import BadInput
from fedloom.privacy.one_run import epsilon_bound, guess, p_value
from reference import one_run as reference


def test_numbers_that_the_paper_prints():
    """Appendix D, pp. 45-46, and section 7, p. 28, where the last digit is cut off."""
    assert p_value(100, 100, 75, math.log(3), 0) == pytest.approx(0.553, abs=1e-3)
    assert epsilon_bound(100, 100, 75, 0) == pytest.approx(0.702, abs=1e-3)
    assert epsilon_bound(100, 100, 75, 1e-4) == pytest.approx(0.699, abs=1e-3)
    assert epsilon_bound(1000, 100, 75, 1e-4) == pytest.approx(0.673, abs=1e-3)
    assert epsilon_bound(100_000, 1510, 1439, 1e-5) == pytest.approx(2.675, abs=1e-3)


@pytest.mark.parametrize(("m", "r", "v"), [(20, 20, 15), (40, 20, 19), (30, 10, 0), (12, 12, 12)])
@pytest.mark.parametrize("delta", [0.0, 1e-3])
def test_slow_reference(m, r, v, delta):
    for epsilon in (0.0, 0.5, 2.0):
        assert p_value(m, r, v, epsilon, delta) == pytest.approx(reference.p_value(m, r, v, epsilon, delta), rel=1e-9)


def test_all_right_without_delta_is_a_closed_form():
    assert epsilon_bound(16, 16, 16, 0) == pytest.approx(-math.log(0.05 ** (-1 / 16) - 1), abs=1e-6)


def test_more_right_guesses_rule_out_more_and_a_larger_delta_less():
    bounds = [epsilon_bound(200, 100, v, 1e-5) for v in range(50, 101, 10)]
    assert bounds == sorted(bounds)
    assert bounds[0] == 0
    assert epsilon_bound(200, 100, 80, 1e-3) < epsilon_bound(200, 100, 80, 1e-5)


def test_impossible_guesses_are_refused():
    with pytest.raises(BadInput, match="11 right of 10 guesses on 20 canaries"):
        p_value(20, 10, 11, 1.0, 0)


def test_random_guesses_bound_nothing():
    rng = np.random.default_rng(1)
    found = [
        guess([rng.normal(size=60) for _ in range(3)], [rng.random(60) < 0.5 for _ in range(3)], 1e-5).epsilon
        for _ in range(40)
    ]
    assert np.mean(np.array(found) > 0) <= 0.1


def test_clients_scores_are_ranked_apart():
    """One client's scores lie far above the other's; all guesses are right all the same."""
    inside = np.arange(50) < 25
    found = guess([np.where(inside, 1.0, 0.0), np.where(inside, 101.0, 100.0)], [inside, inside], 0.0)
    assert (found.canaries, found.guesses, found.right) == (100, 100, 100)
    assert found.epsilon == pytest.approx(epsilon_bound(100, 100, 100, 0, 0.0125))
