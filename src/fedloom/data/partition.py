"""Partition: shares a labelled set out among clients, and describes the split.

    labels (N,) --partition--> Split.indices: K arrays, disjoint, together all of 0..N-1
    N           --shards-----> the same, of samples without labels (pictures with captions)

    iid                 a random permutation in equal cuts
    dirichlet           for each class a draw from Dirichlet(alpha) over the clients that have fewer than cap x N/K
                        samples yet: CreamFL's and FedAFD's
    dirichlet-uncapped  the same over all clients: Yurochkin et al., arXiv 1905.12022
    dirichlet-hsu       equal sizes; each client's classes from a draw of its own from Dirichlet(alpha p), p being
                        the classes' shares of the data: Hsu et al., arXiv 1909.06335
    pathological        each client has `classes_per_client` classes, every class is held, as evenly as can be

What cannot be served is an error that names the client and the label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fedloom.data.containers import Attribute, Labels
from fedloom.data.dirichlet import Index, by_class, by_client, joined
from fedloom.errors import BadInput, unknown
from fedloom.seeding import numpy_stream, stream_seed

Scheme = Literal["iid", "dirichlet", "dirichlet-uncapped", "dirichlet-hsu", "pathological"]


@dataclass(frozen=True)
class Split:
    """A partition. labels (N,): of the whole set, zeros where it has none; indices: K sorted arrays, disjoint and
    exhaustive."""

    labels: Labels
    indices: tuple[Index, ...]

    @property
    def clients(self) -> int:
        """K, the number of clients."""
        return len(self.indices)

    def counts(self, classes: int | None = None) -> NDArray[np.int64]:
        """Samples of each class at each client, int64 (K, C). C: highest label + 1 unless given."""
        C = int(self.labels.max()) + 1 if classes is None else classes
        if self.labels.max() >= C:
            raise BadInput(f"classes={classes}, but the labels go up to {int(self.labels.max())}")
        return np.stack([np.bincount(self.labels[i], minlength=C) for i in self.indices])

    def describe(self) -> dict[str, Any]:
        """The split in figures, ready for JSON.

        Keys: clients; samples; sizes (K); classes_per_client (K); skew: the clients' mean total-variation distance to
        the label distribution of all (0 alike, towards 1 apart); entropy_nats: the mean entropy of the clients' label
        distributions; entropy_nats_global: that of all.
        """
        counts = self.counts()
        whole = counts.sum(0) / counts.sum()
        p = counts / np.maximum(counts.sum(1, keepdims=True), 1)  # (K, C)
        return {
            "clients": self.clients,
            "samples": len(self.labels),
            "sizes": [int(n) for n in counts.sum(1)],
            "classes_per_client": [int(n) for n in (counts > 0).sum(1)],
            "skew": float(np.abs(p - whole).sum(1).mean() / 2),
            "entropy_nats": float(_entropy(p).mean()),
            "entropy_nats_global": float(_entropy(whole[None])[0]),
        }


def _entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    H: NDArray[np.float64] = -np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0), axis=1)
    return H


def partition(
    labels: Labels,
    clients: int,
    scheme: Scheme = "dirichlet",
    *,
    alpha: float = 0.5,
    classes_per_client: int = 2,
    minimum: int = 2,
    seed: int = 0,
    per_class_minimum: int = 0,
    cap: float | None = 1.0,
) -> Split:
    """Share N labelled samples out among K clients.

    Args:
        labels: int (N,).  clients: K.
        scheme: see above.
        alpha: concentration, near 0 apart, large like iid; Hsu's parameters sum to it, as if of alpha / C otherwise.
        minimum: of samples of every client; clients short of it are given samples of the largest.
        seed: the split is a function of seed and labels.
        per_class_minimum: samples of every class that every client gets first (pathological: of its classes).
        cap: for 'dirichlet': 1 in CreamFL and FedAFD; None: a client may have any number.

    Raises:
        BadInput: a setting out of range; fewer samples than clients x minimum; a client and label that get none.
    """
    labels = np.asarray(labels, dtype=np.int64)
    _check(labels, clients, scheme, alpha, minimum, per_class_minimum, cap)
    rng = numpy_stream(seed, "partition", scheme)
    order = rng.permutation(len(labels))
    ordered = order[np.argsort(labels[order], kind="stable")]  # by class, shuffled within each
    present, starts = np.unique(labels[ordered], return_index=True)
    pools = np.split(ordered, starts[1:])  # one shuffled array of samples for each class that occurs
    holders = np.ones((clients, len(pools)), dtype=bool)
    if scheme == "pathological":
        holders = _assign(clients, present, classes_per_client, rng)
    reserved, pools = _reserve(pools, present, holders, per_class_minimum)
    if scheme == "iid":
        parts = np.array_split(rng.permutation(np.concatenate(pools)), clients)
    elif scheme == "dirichlet-hsu":
        parts = by_client(pools, alpha, clients, rng)
    elif scheme != "pathological":
        most = np.inf if cap is None or scheme == "dirichlet-uncapped" else cap * len(labels) / clients
        parts = by_class(pools, alpha, most, reserved, rng)
    else:
        parts = _among_holders(pools, holders)
    may = np.zeros((clients, int(present[-1]) + 1), dtype=bool)
    may[:, present] = holders
    _repair(parts, reserved, labels, may, minimum, rng)
    return Split(labels, tuple(np.sort(np.concatenate(both)) for both in zip(reserved, parts)))


def partition_by_group(
    labels: Labels, clients: int, scheme: Scheme = "dirichlet", *, groups: Attribute, seed: int = 0, **options: Any
) -> Split:
    """Share N labelled samples out among K clients that have one group each: client k the k-th of G, modulo G.

    Args:
        labels, clients, scheme, options: as of `partition`, which shares a group's samples out among its clients.
        groups: of N samples, with the groups' names.
        seed: of which each group has a stream of its own.

    Raises:
        BadInput: fewer clients than groups, or what `partition` says of a group.
    """
    labels = np.asarray(labels, dtype=np.int64)
    names, own = groups.values, [np.flatnonzero(groups.labels == g) for g in range(len(groups.values))]
    if clients < len(names):
        many = f"{len(names)} groups apart ({', '.join(names)})"
        raise BadInput(f"{clients} clients cannot hold {many}; allowed: at least {len(names)} clients, or fewer groups")
    indices: list[Index] = [np.zeros(0, dtype=np.int64)] * clients
    for g, name in enumerate(names):
        holders = range(g, clients, len(names))
        stream = stream_seed(seed, "group", name)
        try:
            split = partition(labels[own[g]], len(holders), scheme, seed=stream, **options)
        except BadInput as error:
            raise BadInput(f"group {name}: {error}") from None
        for k, part in zip(holders, split.indices):
            indices[k] = own[g][part]
    return Split(labels, tuple(indices))


def shards(n: int, clients: int, shards: int = 200, seed: int = 0, minimum: int = 0) -> Split:
    """Share N samples without labels out in runs of neighbours, as FedAFD does with Flickr30k.

    The samples are cut, in their order, into equal shards; every client gets floor(shards / K) of them at random, the
    last one the rest too. Neighbours usually come from one source, so the shares are skewed.

    Args:
        n: N.
        clients: K.
        shards: how many there are, at most N. If N is no multiple of it some have one sample more (the reference drops
            these).
        seed: of the draw.
        minimum: of samples of every client.

    Raises:
        BadInput: a setting out of range; fewer shards than clients; a client with less than the minimum.
    """
    if clients < 1:
        raise BadInput(f"clients={clients}, allowed: at least 1")
    if n < max(1, clients * minimum):
        raise _too_few(n, clients, minimum)
    if not clients <= shards <= n:
        raise BadInput(f"shards={shards}, allowed: {clients} (the clients) to {n} (the samples)")
    runs = np.array_split(np.arange(n, dtype=np.int64), shards)
    dealt = numpy_stream(seed, "partition", "shards").permutation(shards)
    each = shards // clients
    last = (clients - 1) * each
    hands = [*(dealt[k * each : (k + 1) * each] for k in range(clients - 1)), dealt[last:]]
    indices = tuple(np.sort(np.concatenate([runs[i] for i in hand])) for hand in hands)
    short = min(range(clients), key=lambda k: len(indices[k]))
    if len(indices[short]) < minimum:
        raise BadInput(
            f"client {short} gets {len(indices[short])} of {n} samples ({each} of {shards} shards), "
            f"fewer than minimum={minimum}; take fewer clients or a lower minimum"
        )
    return Split(np.zeros(n, dtype=np.int64), indices)


def _too_few(n: int, clients: int, minimum: int) -> BadInput:
    allowed = [f"at most {n // minimum} client{'s' * (n // minimum > 1)}"] if 0 < minimum <= n else []
    allowed += [f"a minimum of at most {n // clients}"] if n >= clients else []
    return BadInput(
        f"{n} samples cannot give {clients} clients {minimum} each ({clients * minimum} needed)"
        + (f"; allowed: {', or '.join(allowed)}" if allowed else "")
    )


def _check(
    labels: Labels, clients: int, scheme: str, alpha: float, minimum: int, per_class_minimum: int, cap: float | None
) -> None:
    if scheme not in get_args(Scheme):
        raise unknown("partition scheme", scheme, get_args(Scheme))
    if clients < 1:
        raise BadInput(f"clients={clients}, allowed: at least 1")
    if not (alpha > 0 and np.isfinite(alpha)):
        raise BadInput(f"alpha={alpha}, allowed: a finite number above 0")
    if minimum < 0 or per_class_minimum < 0:
        raise BadInput(f"minimum={minimum}, per_class_minimum={per_class_minimum}, allowed: 0 or more")
    if cap is not None and not cap >= 1:  # below 1 the caps do not add up to N
        raise BadInput(f"cap={cap}, allowed: a number from 1, or none for no cap")
    if labels.ndim != 1 or not len(labels):
        raise BadInput(f"nothing to share out: labels have shape {labels.shape}")
    if labels.min() < 0:
        raise BadInput(f"label {int(labels.min())} is negative")
    if len(labels) < clients * minimum:
        raise _too_few(len(labels), clients, minimum)


def _assign(clients: int, present: Labels, each: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which client holds which class, bool (K, C): dealt from shuffled decks, so as evenly as can be."""
    C = len(present)
    if not 1 <= each <= C:
        raise BadInput(f"classes_per_client={each}, allowed: 1 to {C}, the classes in the data")
    deck = rng.permutation(C)
    if clients * each < C:
        left = int(present[deck[clients * each]])
        raise BadInput(
            f"{clients} clients x {each} classes_per_client hold {clients * each} of {C} classes: no "
            f"client is left for label {left}; raise classes_per_client to {-(-C // clients)}, or the clients"
        )
    holders = np.zeros((clients, C), dtype=bool)
    for k in range(clients):
        hand, deck = deck[:each], deck[each:]
        if len(hand) < each:  # a new deck, in which what the client already holds comes last
            fresh = rng.permutation(C)
            deck = np.concatenate([fresh[~np.isin(fresh, hand)], fresh[np.isin(fresh, hand)]])
            more, deck = deck[: each - len(hand)], deck[each - len(hand) :]
            hand = np.concatenate([hand, more])
        holders[k, hand] = True
    return holders


def _reserve(
    pools: list[Index], present: Labels, holders: NDArray[np.bool_], each: int
) -> tuple[list[Index], list[Index]]:
    """Give every holder of a class its first `each` samples: what each client has, and the rest by class."""
    mine: list[list[Index]] = [[] for _ in holders]
    rest = []
    for c, pool in enumerate(pools):
        own = np.flatnonzero(holders[:, c])
        if len(pool) < each * len(own):
            short = int(own[len(pool) // each])
            raise BadInput(
                f"client {short} cannot get {each} samples of label {int(present[c])}: there are {len(pool)} "
                f"for {len(own)} clients ({each * len(own)} needed); lower per_class_minimum or clients"
            )
        for j, k in enumerate(own):
            mine[k].append(pool[j * each : (j + 1) * each])
        rest.append(pool[each * len(own) :])
    return [joined(m) for m in mine], rest


def _among_holders(pools: list[Index], holders: NDArray[np.bool_]) -> list[Index]:
    """Cut each class evenly among its holders."""
    parts: list[list[Index]] = [[] for _ in holders]
    for c, pool in enumerate(pools):
        own = np.flatnonzero(holders[:, c])
        for k, part in zip(own, np.array_split(pool, len(own))):
            parts[k].append(part)
    return [joined(part) for part in parts]


def _repair(
    parts: list[Index],
    reserved: list[Index],
    labels: Labels,
    may: NDArray[np.bool_],
    minimum: int,
    rng: np.random.Generator,
) -> None:
    """Serve clients short of `minimum` from the largest ones that have a sample to spare; changes `parts`.

    may: bool (K, labels), the labels a client may hold. Only what was not reserved moves. Each step serves a
    client with at least one sample and takes none below the minimum: it ends after at most K * minimum steps.
    """
    sizes = np.array([len(h) + len(part) for h, part in zip(reserved, parts)])
    for k in np.flatnonzero(sizes < minimum):
        while sizes[k] < minimum:
            donor, fits = _donor(parts, sizes, labels, may[k], minimum)
            if donor < 0:
                own = np.flatnonzero(may[k]).tolist()
                raise BadInput(
                    f"client {k} cannot get {minimum} samples of its labels {own}: "
                    "no other client has one to spare; lower minimum or per_class_minimum, or the clients"
                )
            # Half of what the donor can spare: it should not sink to the minimum while others are large.
            spare = max(1, (int(sizes[donor]) - minimum) // 2)
            take = rng.choice(fits, min(len(fits), spare, minimum - int(sizes[k])), replace=False)
            parts[k] = np.concatenate([parts[k], parts[donor][take]])
            parts[donor] = np.delete(parts[donor], take)
            sizes[k] += len(take)
            sizes[donor] -= len(take)


def _donor(parts: list[Index], sizes: Index, labels: Labels, may: NDArray[np.bool_], minimum: int) -> tuple[int, Index]:
    """The largest client with samples to spare of labels in `may`, and which ones; -1 if there is none."""
    for donor in np.argsort(-sizes, kind="stable"):
        if sizes[donor] <= minimum:
            break
        fits = np.flatnonzero(may[labels[parts[donor]]])
        if len(fits):
            return int(donor), fits
    return -1, np.empty(0, dtype=np.int64)
