"""Scores of membership attacks, and what is told of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from fedloom.errors import BadInput
from fedloom.privacy.membership import advantage, auc, likelihood_ratio, logit_confidence, roc, told_by, true_positives

RNG = np.random.default_rng(0)
IN, OUT = np.array([4.0, 3.0, 3.0]), np.array([3.0, 1.0, 0.0, 0.0])


def test_numbers_by_hand():
    assert auc(IN, OUT) == pytest.approx((4 + 3.5 + 3.5) / 12)
    assert advantage(IN, OUT) == pytest.approx(2 / 3 - 1 / 8)  # the median of all is 3: it counts half on either side
    assert true_positives(IN, OUT, 0.0) == pytest.approx(1 / 3)
    assert true_positives(IN, OUT, 0.25) == 1.0
    assert roc(IN, OUT, 3) == [(0.0, pytest.approx(1 / 3)), (0.5, 1.0), (1.0, 1.0)]


def test_area_is_sklearns():
    a, b = RNG.integers(0, 9, 50).astype(float), RNG.integers(0, 7, 70).astype(float)
    assert auc(a, b) == pytest.approx(roc_auc_score([1] * 50 + [0] * 70, np.concatenate([a, b])))


def test_logit_of_a_probability_and_no_overflow():
    logits, labels = RNG.normal(size=(6, 4)), np.array([0, 1, 2, 3, 0, 1])
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    own = p[np.arange(6), labels]
    assert logit_confidence(logits, labels) == pytest.approx(np.log(own / (1 - own)))
    assert np.isfinite(logit_confidence(np.array([[1e4, 0.0], [0.0, 1e4]]), np.array([0, 0]))).all()


def test_likelihood_ratio_of_a_slow_reference():
    shadows = RNG.normal(size=(4, 3))
    inside = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=bool)
    phi = RNG.normal(size=3)
    score = []
    spread = []
    for mask in (inside, ~inside):
        left = [shadows[s, n] - shadows[mask[:, n], n].mean() for s in range(4) for n in range(3) if mask[s, n]]
        spread.append(np.sqrt(np.square(left).sum() / 3))  # six values, three means
    for n in range(3):
        means = [shadows[mask[:, n], n].mean() for mask in (inside, ~inside)]
        score.append(norm.logpdf(phi[n], means[0], spread[0]) - norm.logpdf(phi[n], means[1], spread[1]))
    assert likelihood_ratio(phi, shadows, inside) == pytest.approx(np.array(score))


def test_a_sample_that_no_shadow_saw_is_refused():
    with pytest.raises(BadInput, match="each sample must be in some of the 2 shadows"):
        likelihood_ratio(np.zeros(2), np.zeros((2, 2)), np.array([[True, False], [False, False]]))


def test_planted_members_are_seen_and_others_are_not():
    inside = np.arange(200) < 100
    noise = RNG.normal(size=200)
    planted = told_by(noise + 2.0 * inside, inside, np.random.default_rng(1)).figures
    nothing = told_by(noise, inside, np.random.default_rng(1)).figures
    assert planted["auc"][1] > 0.8
    assert planted["advantage"][1] > 0.4
    assert nothing["auc"][1] < 0.5 < nothing["auc"][2]
    assert nothing["advantage"][1] < 0 < nothing["advantage"][2]


def test_no_members_are_refused():
    with pytest.raises(BadInput, match="0 members and 3 other samples"):
        told_by(np.zeros(3), np.zeros(3, dtype=bool), RNG)
