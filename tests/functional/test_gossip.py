"""Graphs of peers and the weights of gossip on them."""

from __future__ import annotations

import numpy as np
import pytest

from fedloom.functional.gossip import complete, connected, metropolis, regular, ring


@pytest.mark.parametrize("n", [2, 3, 4, 9])
def test_the_weights_on_a_ring_are_doubly_stochastic(n):
    weights = metropolis(ring(n))
    assert np.allclose(weights.sum(0), 1, atol=1e-15)
    assert np.allclose(weights.sum(1), 1, atol=1e-15)
    assert (weights >= 0).all()
    assert np.array_equal(weights, weights.T)


def test_on_a_ring_each_has_a_third():
    assert metropolis(ring(5))[0].tolist() == pytest.approx([1 / 3, 1 / 3, 0, 0, 1 / 3])


@pytest.mark.parametrize("n", [2, 5, 8])
def test_on_the_complete_graph_all_have_the_same_say(n):
    assert np.allclose(metropolis(complete(n)), 1 / n, atol=1e-15)


def test_on_a_star_the_ends_keep_most():
    star = np.zeros((4, 4), dtype=bool)
    star[0, 1:] = star[1:, 0] = True
    weights = metropolis(star)
    assert weights[0].tolist() == pytest.approx([1 / 4] * 4)
    assert weights[1].tolist() == pytest.approx([1 / 4, 3 / 4, 0, 0])
    assert weights.sum(0).tolist() == pytest.approx([1] * 4)


def test_without_edges_each_keeps_what_it_has():
    assert np.array_equal(metropolis(np.zeros((3, 3), dtype=bool)), np.eye(3))
    assert metropolis(np.zeros((0, 0), dtype=bool)).shape == (0, 0)


@pytest.mark.parametrize(("n", "degree"), [(3, 2), (6, 3), (8, 4), (9, 8), (20, 6), (40, 3), (7, 6)])
def test_regular_graphs_are_regular_and_connected(n, degree):
    for seed in range(5):
        graph = regular(n, degree, np.random.default_rng(seed))
        assert (graph.sum(1) == degree).all()
        assert np.array_equal(graph, graph.T)
        assert not graph.diagonal().any()
        assert connected(graph)


def test_two_rings_are_not_connected():
    apart = np.kron(np.eye(2, dtype=bool), ring(3))
    assert not connected(apart)
    assert connected(ring(3))


def test_gossip_keeps_the_mean_and_comes_to_it():
    x = np.random.default_rng(0).normal(size=(8, 3))
    weights, found = metropolis(regular(8, 3, np.random.default_rng(1))), x
    for _ in range(200):
        found = weights @ found
    assert np.allclose(found, x.mean(0), atol=1e-9)
