"""Partition: what every split must satisfy, at the extremes, and the cases that cannot be served."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from fedloom.data.partition import Split, partition, shards
from fedloom.errors import BadInput

LABELS = np.random.default_rng(0).integers(0, 7, 500)
SCHEMES = ["iid", "dirichlet", "dirichlet-uncapped", "dirichlet-hsu", "pathological"]
DIRICHLET = [s for s in SCHEMES if s.startswith("dirichlet")]


def check(split: Split, n: int, clients: int, minimum: int) -> None:
    assert split.clients == clients
    together = np.concatenate(split.indices)
    assert sorted(together.tolist()) == list(range(n))  # disjoint and exhaustive
    assert min(map(len, split.indices)) >= minimum
    assert all((np.diff(i) > 0).all() for i in split.indices)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("clients", "minimum"), [(1, 2), (7, 2), (20, 10), (50, 5)])
def test_disjoint_exhaustive_and_at_least_the_minimum(scheme: str, clients: int, minimum: int) -> None:
    each = 7 if clients == 1 else 2
    for seed in range(3):
        split = partition(LABELS, clients, scheme, classes_per_client=each, minimum=minimum, seed=seed)
        check(split, 500, clients, minimum)


@pytest.mark.parametrize("scheme", DIRICHLET)
@pytest.mark.parametrize("alpha", [1e-300, 1e-3, 0.1, 1.0, 1e3, 1e300])
def test_dirichlet_ends_at_any_alpha(alpha: float, scheme: str) -> None:
    for seed in range(5):
        check(partition(LABELS, 25, scheme, alpha=alpha, minimum=20, seed=seed), 500, 25, 20)
        check(partition(LABELS, 3, scheme, alpha=alpha, seed=seed), 500, 3, 2)


@pytest.mark.parametrize("scheme", DIRICHLET)
def test_alpha_sets_the_skew(scheme: str) -> None:
    def skewed(alpha: float) -> float:
        return float(np.mean([partition(LABELS, 5, scheme, alpha=alpha, seed=s).describe()["skew"] for s in range(5)]))

    skew = [skewed(alpha) for alpha in (1e-3, 3.0, 1e4)]
    assert skew[0] > skew[1] > skew[2]
    assert skew[2] < (0.15 if scheme == "dirichlet-hsu" else 0.05)  # Hsu draws sample by sample


@pytest.mark.parametrize("scheme", SCHEMES)
def test_as_many_clients_as_samples(scheme: str) -> None:
    labels = np.arange(40) % 4
    split = partition(labels, 40, scheme, classes_per_client=1, minimum=1)
    check(split, 40, 40, 1)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_same_seed_same_split(scheme: str) -> None:
    a, b, c = (partition(LABELS, 6, scheme, classes_per_client=3, seed=s) for s in (4, 4, 5))
    assert all(np.array_equal(x, y) for x, y in zip(a.indices, b.indices))
    assert not all(np.array_equal(x, y) for x, y in zip(a.indices, c.indices))


def test_dirichlet_cap_keeps_full_clients_out_of_later_classes() -> None:
    labels = np.repeat(np.arange(10), 60)
    split = partition(labels, 10, alpha=1e-6, minimum=0)
    # One-hot draws over the clients that are not full yet: every client gets exactly one class.
    assert split.describe()["sizes"] == [60] * 10
    assert sorted(split.counts(10).argmax(1).tolist()) == list(range(10))


def test_iid_is_equal_cuts() -> None:
    assert sorted(partition(LABELS, 7, "iid").describe()["sizes"]) == [71] * 4 + [72] * 3


@pytest.mark.parametrize(("clients", "each"), [(4, 2), (10, 3), (7, 1), (3, 7)])
def test_pathological_holds_the_classes_and_evenly(clients: int, each: int) -> None:
    labels = np.arange(700) % 7
    for seed in range(5):
        counts = partition(labels, clients, "pathological", classes_per_client=each, seed=seed).counts(7)
        assert ((counts > 0).sum(1) == each).all()
        holders = (counts > 0).sum(0)
        assert holders.min() >= 1
        assert holders.max() - holders.min() <= 1


def test_pathological_repair_stays_within_the_classes() -> None:
    labels = np.array([0] * 4 + [1] * 100 + [2] * 100)
    split = partition(labels, 3, "pathological", classes_per_client=2, minimum=50)
    check(split, 204, 3, 50)
    assert ((split.counts(3) > 0).sum(1) <= 2).all()


@pytest.mark.parametrize("scheme", ["iid", *DIRICHLET])
def test_per_class_minimum(scheme: str) -> None:
    split = partition(LABELS, 6, scheme, alpha=1e-3, per_class_minimum=5, minimum=60)
    check(split, 500, 6, 60)
    assert split.counts(7).min() >= 5


def test_per_class_minimum_of_own_classes() -> None:
    counts = partition(LABELS, 8, "pathological", classes_per_client=3, per_class_minimum=4).counts(7)
    assert counts[counts > 0].min() >= 4


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"clients": 300}, "500 samples cannot give 300 clients 2 each"),
        ({"clients": 0}, "clients=0"),
        ({"clients": 2, "alpha": 0.0}, "alpha=0.0"),
        ({"clients": 2, "alpha": float("nan")}, "alpha=nan"),
        ({"clients": 2, "scheme": "dirichlett"}, "Did you mean 'dirichlet'"),
        ({"clients": 2, "minimum": -1}, "minimum=-1"),
        ({"clients": 3, "scheme": "pathological"}, "left for label"),
        ({"clients": 3, "scheme": "pathological", "classes_per_client": 8}, "allowed: 1 to 7"),
        ({"clients": 9, "per_class_minimum": 30}, "cannot get 30 samples of label 0"),
    ],
)
def test_what_cannot_be_served_is_named(kwargs: dict[str, object], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        partition(LABELS, **kwargs)  # type: ignore[arg-type]


def test_client_that_no_class_mate_can_help() -> None:
    with pytest.raises(BadInput, match=r"client \d cannot get 10 samples of its labels \[0\]"):
        partition(np.array([0] * 4 + [1] * 100), 2, "pathological", classes_per_client=1, minimum=10)


def test_empty_and_negative_labels() -> None:
    with pytest.raises(BadInput, match="nothing to share out"):
        partition(np.empty(0, dtype=np.int64), 2, minimum=0)
    with pytest.raises(BadInput, match="label -1"):
        partition(np.array([0, -1, 2]), 1)


def test_describe_by_hand() -> None:
    split = Split(np.array([0, 0, 1, 1]), (np.array([0, 1]), np.array([2, 3])))
    described = json.loads(json.dumps(split.describe()))
    assert described == {
        "clients": 2,
        "samples": 4,
        "sizes": [2, 2],
        "classes_per_client": [1, 1],
        "skew": 0.5,
        "entropy_nats": 0.0,
        "entropy_nats_global": pytest.approx(np.log(2)),
    }
    assert split.counts(3).tolist() == [[2, 0, 0], [0, 2, 0]]
    with pytest.raises(BadInput, match="go up to 1"):
        split.counts(1)


def test_absent_classes_are_no_trouble() -> None:
    check(partition(np.array([0, 9] * 20), 4, "pathological", classes_per_client=1), 40, 4, 2)


def test_a_hundred_clients_of_sixty_thousand_samples_in_50_ms() -> None:
    labels = np.random.default_rng(1).integers(0, 10, 60_000)
    times = []
    for _ in range(3):
        start = time.process_time()
        partition(labels, 100, alpha=0.5, minimum=10)
        times.append(time.process_time() - start)
    assert min(times) < 0.05


@pytest.mark.parametrize(("n", "clients", "pieces"), [(1000, 15, 200), (47, 4, 23), (9, 3, 3), (5, 1, 1)])
def test_shards_are_runs_of_neighbours(n: int, clients: int, pieces: int) -> None:
    split = shards(n, clients, pieces, seed=2)
    check(split, n, clients, 1)
    each = pieces // clients
    runs = np.array_split(np.arange(n), pieces)
    for k, own in enumerate(split.indices):
        whole = [run for run in runs if np.isin(run, own).all()]
        assert len(whole) == (each if k < clients - 1 else pieces - each * (clients - 1))  # leftovers to the last
        assert sum(map(len, whole)) == len(own)  # no shard is cut
    assert split.counts(1).sum() == n


def test_shards_as_in_the_reference() -> None:
    """145 000 entries, 200 shards, 15 users: 13 shards each, 18 to the last."""
    a, b = shards(145_000, 15), shards(145_000, 15, seed=1)
    assert [len(i) for i in a.indices] == [9_425] * 14 + [13_050]
    assert not np.array_equal(a.indices[0], b.indices[0])
    assert np.array_equal(a.indices[0], shards(145_000, 15).indices[0])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ({"n": 10, "clients": 3, "shards": 5, "minimum": 4}, "10 samples cannot give 3 clients 4 each"),
        ({"n": 36, "clients": 4, "shards": 18, "minimum": 9}, "client 0 gets 8 of 36 samples .* minimum=9"),
        ({"n": 10, "clients": 3, "shards": 2}, r"shards=2, allowed: 3 \(the clients\) to 10"),
        ({"n": 10, "clients": 3, "shards": 11}, "shards=11"),
        ({"n": 10, "clients": 0}, "clients=0"),
        ({"n": 0, "clients": 1}, "0 samples cannot give 1 clients"),
    ],
)
def test_shards_that_cannot_be_dealt(call: dict[str, int], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        shards(**call)


def test_the_cap_of_dirichlet() -> None:
    sizes = {
        cap: [max(map(len, partition(LABELS, 5, alpha=0.05, cap=cap, seed=s).indices)) for s in range(20)]
        for cap in (None, 1.0, 2.0)
    }
    largest = np.bincount(LABELS).max()
    assert max(sizes[1.0]) < 100 + largest  # a client below N/K may still get a class whole
    assert max(sizes[2.0]) < 200 + largest
    assert np.mean(sizes[None]) > np.mean(sizes[1.0])
    assert max(sizes[None]) > 100 + largest
    usual, named = partition(LABELS, 5), partition(LABELS, 5, cap=1.0)
    assert all(np.array_equal(a, b) for a, b in zip(usual.indices, named.indices))
    with pytest.raises(BadInput, match=r"cap=0.9, allowed: a number from 1"):
        partition(LABELS, 5, cap=0.9)


def test_without_a_cap_one_client_may_have_nearly_all() -> None:
    """Each class whole to a client drawn at random: one of few clients often has several."""
    labels = np.repeat(np.arange(10), 60)
    sizes = [
        partition(labels, 10, "dirichlet-uncapped", alpha=1e-6, minimum=0, seed=s).describe()["sizes"] for s in range(5)
    ]
    assert all(n % 60 == 0 for each in sizes for n in each)
    assert max(max(each) for each in sizes) >= 180


def test_hsus_clients_are_of_equal_size_and_the_first_ones_mix_is_a_dirichlet_draw() -> None:
    """Many clients of large data: each one's shares have the mean p and the variance p (1 - p) / (alpha + 1)."""
    labels = np.repeat([0, 1, 2], [30_000, 20_000, 10_000])
    first = np.stack([partition(labels, 100, "dirichlet-hsu", alpha=2.0, seed=s).counts(3)[:10] for s in range(40)])
    share, p = first.reshape(-1, 3) / 600, np.array([3, 2, 1]) / 6
    assert (first.sum(2) == 600).all()
    assert np.abs(share.mean(0) - p).max() < 0.04  # five standard errors
    assert share.var(0) == pytest.approx(p * (1 - p) / 3, rel=0.2)
    one = partition(labels, 7, "dirichlet-hsu", alpha=1e-6, seed=0)
    assert sorted(one.describe()["sizes"]) == [8571] * 4 + [8572] * 3
    assert (one.counts(3)[0] > 0).sum() == 1
