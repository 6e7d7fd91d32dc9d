"""Confident-GNMax: the authors' figures, an exact divergence by quadrature, limits, and the mechanism itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import norm

from fedloom.privacy.accounting import epsilon_of, orders, spent
from fedloom.privacy.pate import any_rdp, confident_gnmax, gnmax_rdp, label_rdp, log_other, quorum_rdp

AT = np.array([1.5, 2.0, 8.0, 32.0])
# Of the authors' code (github.com/tensorflow/privacy, research/pate_2018/core.py): counts, T, sigma_1, sigma_2; ln q,
# Renyi divergences of the label at the orders above, and of the check.
AUTHORS = [
    (
        [8, 0, 0],
        (4, 2.4, 1.28),
        -11.523305691065312,
        [0.0014328617625089068, 0.004716636691565122, 4.8828125, 19.53125],
        [0.13020833333333334, 0.164539904353171, 0.6944444444444444, 2.7777777777777777],
    ),
    (
        [35, 4, 1],
        (20, 12, 6.4),
        -7.840438729419584,
        [0.0009745909696488962, 0.001101185789536365, 0.02802675995448089, 0.7812499999999999],
        [0.005208333333333332, 0.006944444444444443, 0.027777777777777773, 0.11111111111111109],
    ),
    (
        [90, 5, 3, 2],
        (50, 30, 10),
        -20.283177245202644,
        [4.022541149148564e-09, 4.539087983997083e-09, 1.3224399863702404e-07, 0.2564523081722857],
        [0.0008333333333333333, 0.001111111111111111, 0.004444444444444444, 0.017777777777777774],
    ),
    (
        [245, 3, 2, 0, 0, 0, 0, 0, 0, 0],
        (200, 150, 40),
        -9.56584047171534,
        [2.2984648222230378e-05, 2.344125854323349e-05, 3.133984373436179e-05, 0.0002865198718134027],
        [3.3333333333333335e-05, 4.4444444444444447e-05, 0.00017777777777777779, 0.0007111111111111111],
    ),
]


@pytest.mark.parametrize(("counts", "noise", "log_q", "label", "check"), AUTHORS)
def test_the_authors_figures(counts, noise, log_q, label, check):
    votes, sigma_1, sigma_2 = noise
    assert log_other(counts, sigma_2) == pytest.approx(log_q, rel=1e-10)
    assert label_rdp(counts, sigma_2, AT) == pytest.approx(label, rel=1e-9)
    assert quorum_rdp(max(counts), votes, sigma_1, AT) == pytest.approx(check, rel=1e-9)


def exact(counts: np.ndarray, sigma: float) -> np.ndarray:
    """Probabilities of GNMax's outcomes, by quadrature."""

    def first(i):
        rest = np.delete(counts, i)
        low, high = counts.min() - 9 * sigma, counts.max() + 9 * sigma
        found = quad(lambda x: norm.pdf(x, counts[i], sigma) * norm.cdf(x, rest, sigma).prod(), low, high, epsabs=0)
        return found[0]

    return np.array([first(i) for i in range(len(counts))])


def divergence(p: np.ndarray, q: np.ndarray, order: float) -> float:
    return float(logsumexp(order * np.log(p) + (1 - order) * np.log(q))) / (order - 1)


@pytest.mark.parametrize("counts", [[8, 0, 0], [6, 1, 1], [7, 1], [4, 4], [3, 3, 2]])
@pytest.mark.parametrize("sigma", [1.28, 3.0])
def test_bounds_hold_against_every_neighbour(counts, sigma):
    """One vote moves: the divergence from the counts that the bound is of, and for the other bound either way."""
    counts = np.array(counts, dtype=float)
    p = exact(counts, sigma)
    bound, worst = label_rdp(counts, sigma, AT), any_rdp(sigma, AT)
    assert np.all(bound <= worst)
    for a in range(len(counts)):
        for b in {*range(len(counts))} - {a}:
            if counts[a] < 1:
                continue
            other = counts.copy()
            other[a], other[b] = other[a] - 1, other[b] + 1
            q = exact(other, sigma)
            for order, by_votes, by_any in zip(AT, bound, worst, strict=True):
                assert divergence(p, q, order) <= by_votes + 1e-9
                assert divergence(q, p, order) <= by_any + 1e-9


def test_quorum_bound_holds():
    """The largest count moves by one."""
    for largest in (0, 3, 6, 9):
        for sigma in (0.5, 2.4):
            bound = quorum_rdp(largest, 5.5, sigma, AT)
            for near in (largest - 1, largest + 1):
                p, q = (np.array([norm.sf(5.5, n, sigma), norm.cdf(5.5, n, sigma)]) for n in (largest, near))
                assert all(divergence(p, q, a) <= b + 1e-9 for a, b in zip(AT, bound, strict=True))


def test_limits():
    """The more agree the less it costs; where they do not, as much as any votes; a lone class costs nothing."""
    by_gap = [label_rdp([50 + gap, 50 - gap, 0], 10, AT)[1] for gap in (0, 20, 35, 50)]
    assert by_gap[0] == any_rdp(10, AT)[1]
    assert by_gap[-1] < 1e-5
    assert by_gap == sorted(by_gap, reverse=True)
    assert not label_rdp([7], 1.0, AT).any()
    assert np.array_equal(gnmax_rdp(math.log(0.5), 2.0, AT), any_rdp(2.0, AT))


def test_order_of_classes_does_not_matter():
    assert np.array_equal(label_rdp([35, 4, 1], 6.4, AT), label_rdp([1, 35, 4], 6.4, AT))


def test_any_votes_cost_what_the_accountant_says():
    """alpha / sigma^2 is a Gaussian mechanism's of L2 sensitivity sqrt(2); the check's is one of sensitivity 1."""
    whole = epsilon_of(9 * any_rdp(20.0, orders()), 1e-5)
    assert whole == pytest.approx(spent([(20.0 / math.sqrt(2), 1.0, 9)], 1e-5), rel=1e-12)


def test_the_quorum_is_of_the_largest_count():
    counts = np.array([[5, 3, 0], [3, 3, 2], [0, 0, 8], [0, 0, 0]])
    rng = np.random.default_rng(0)
    assert confident_gnmax(counts, 4.5, 1e-9, 1e-9, rng).tolist() == [0, -1, 2, -1]
    assert confident_gnmax(counts, 0, 1e-9, 1e-9, rng)[[0, 2]].tolist() == [0, 2]


def test_noise_is_as_large_as_it_says():
    """Shares of samples that pass, and of labels, over many draws."""
    rng = np.random.default_rng(1)
    labels = confident_gnmax(np.tile([6, 2, 0], (20000, 1)), 7, 2.0, 1.5, rng)
    kept = labels >= 0
    assert kept.mean() == pytest.approx(norm.sf(0.5), abs=0.01)
    shares = np.bincount(labels[kept], minlength=3) / kept.sum()
    assert shares == pytest.approx(exact(np.array([6.0, 2.0, 0.0]), 1.5), abs=0.01)
