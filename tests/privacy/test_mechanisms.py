"""Randomised response and noise on rows: by hand, and by counting."""

from __future__ import annotations

import numpy as np
import pytest

from fedloom.config.privacy import AnswerPrivacySettings, PrivacySettings
from fedloom.privacy.mechanisms import certainty, clipped_rows, noisy_rows, prior_response, randomised_labels

UNIFORM = np.full(4, 0.25)
LN3 = float(np.log(3))


def test_with_a_uniform_prior_it_is_k_ary() -> None:
    """e^eps / (e^eps + C - 1): with eps = ln 3 and four classes 3 / 6."""
    classes, true = prior_response(UNIFORM, LN3)
    assert sorted(classes) == [0, 1, 2, 3]
    assert true == pytest.approx(0.5)
    assert certainty(UNIFORM, LN3) == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(6))


def test_a_prior_leaves_unlikely_classes_out() -> None:
    """By hand, eps = ln 3: k = 1: 0.7; k = 2: 3/4 x 0.9 = 0.675; k = 3: 3/5 x 1 = 0.6. So always class 2."""
    classes, true = prior_response(np.array([0.2, 0.1, 0.7]), LN3)
    assert (classes.tolist(), true) == ([2], 1.0)
    # k = 1: 0.5; k = 2: 3/4 x 0.9 = 0.675; k = 3: 3/5 x 1
    classes, true = prior_response(np.array([0.4, 0.1, 0.5]), LN3)
    assert (classes.tolist(), true) == ([2, 0], pytest.approx(0.75))


def test_frequencies_are_those_of_the_mechanism() -> None:
    """4 standard deviations of 40 000 draws are 0.01; and no answer is e^eps times likelier for one label."""
    rng, n = np.random.default_rng(0), 40_000
    shares = np.array(
        [np.bincount(randomised_labels(np.full(n, y), UNIFORM, LN3, rng), minlength=4) / n for y in range(4)]
    )
    np.testing.assert_allclose(shares, np.full((4, 4), 1 / 6) + np.eye(4) / 3, atol=0.01)
    assert (shares.max(0) / shares.min(0)).max() < 3 * 1.1


def test_a_label_that_is_none_is_any() -> None:
    """-1, no answer, says nothing; nor does a class that is never answered."""
    rng, n = np.random.default_rng(0), 40_000
    shares = np.bincount(randomised_labels(np.full(n, -1), UNIFORM, LN3, rng), minlength=4) / n
    np.testing.assert_allclose(shares, UNIFORM, atol=0.01)
    prior = np.array([0.4, 0.1, 0.5])
    shares = np.bincount(randomised_labels(np.full(n, 1), prior, LN3, rng), minlength=3) / n
    np.testing.assert_allclose(shares, [0.5, 0, 0.5], atol=0.01)


def test_a_large_epsilon_changes_nothing() -> None:
    labels = np.array([3, 0, 2, 1])
    rng = np.random.default_rng(0)
    assert (randomised_labels(labels, UNIFORM, 50.0, rng) == labels).all()
    assert randomised_labels(labels[:0], UNIFORM, 1.0, rng).shape == (0,)


def test_rows_are_clipped_and_what_is_not_finite_counts_as_nothing() -> None:
    rows = np.array([[3.0, 4.0], [0.3, 0.4], [np.nan, np.inf]])
    np.testing.assert_allclose(clipped_rows(rows, 1.0), [[0.6, 0.8], [0.3, 0.4], [0, 0]])


def test_noise_has_the_stated_deviation() -> None:
    """Two clipped rows are at most 2 clip apart: deviation multiplier x 2 clip."""
    rows = np.tile([[3.0, 4.0]], (20_000, 1))
    noisy = noisy_rows(rows, 0.5, 1.5, np.random.default_rng(0))
    np.testing.assert_allclose(noisy.mean(0), [0.3, 0.4], atol=0.05)
    np.testing.assert_allclose(noisy.std(0), [1.5, 1.5], rtol=0.03)
    assert noisy.dtype == np.float32


def test_settings_that_say_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="set epsilon, answers, or both"):
        PrivacySettings()
    with pytest.raises(ValueError, match=r"shares sum to 0.9"):
        AnswerPrivacySettings(epsilon=1, prior=(0.4, 0.5))
