"""FedAvg's round where the server learns sums alone (`settings.secure`): what crosses, and both halves' part.

    open_sum       up    public keys, and the names and shapes of what will be added up
    share_secrets  down  everybody's keys          up  sealed shares of two secrets, one for each of the others
    fit_masked     down  the average, and shares   up  samples times parameters, samples, loss: masked words
    reveal         down  who has sent theirs       up  shares by which the sum of those is unmasked

The protocol is `fedloom.privacy.secure_sum`'s. Clients of one architecture make a sum of their own; who is lost on the
way is left out, as long as more than half of it is there to the end. A sum in fixed point differs from FedAvg's own by
about 1e-7. The server sees the sum of each group, which of two clients tells each what the other has.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedloom.errors import BadInput, FedloomError
from fedloom.federation.base import Federation
from fedloom.federation.messages import Empty, Tensor, Tensors
from fedloom.methods.base import Client
from fedloom.methods.state import Arrays
from fedloom.privacy.secure_sum import (
    PUBLIC_BYTES,
    REVEALED_BYTES,
    SEALED_BYTES,
    Party,
    from_fixed,
    threshold_of,
    to_fixed,
    unmasked,
)
from fedloom.strict_json import parse

log = logging.getLogger(__name__)
Parameters = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class SecureKeys:
    """Up: public keys for this round, and names and shapes of the parameters, as JSON."""

    public: Annotated[NDArray[Any], Tensor("uint8", (PUBLIC_BYTES,))]
    layout: str


@dataclass(frozen=True)
class SecureParties:
    """Down: the keys of all whose vectors are added up."""

    names: tuple[str, ...]
    publics: Annotated[NDArray[Any], Tensor("uint8", ("K", PUBLIC_BYTES))]


@dataclass(frozen=True)
class SecureShares:
    """Up: sealed shares, one for each of the others."""

    names: tuple[str, ...]
    sealed: Annotated[NDArray[Any], Tensor("uint8", ("K", SEALED_BYTES))]


@dataclass(frozen=True)
class SecureFit:
    """Down: mean parameters (None: none yet), and the shares that others have sealed for this client."""

    names: tuple[str, ...]
    sealed: Annotated[NDArray[Any], Tensor("uint8", ("K", SEALED_BYTES))]
    parameters: Annotated[Mapping[str, NDArray[Any]], Tensors("float32")] | None = None


@dataclass(frozen=True)
class SecureUpdate:
    """Up: samples, loss and samples times parameters, in fixed point under masks."""

    words: Annotated[NDArray[Any], Tensor("uint64", ("W",))]


@dataclass(frozen=True)
class SecureSenders:
    """Down: whose masked words have come."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class SecureRevealed:
    """Up: of each party a share: of its seed where its words have come, else of its key."""

    names: tuple[str, ...]
    shares: Annotated[NDArray[Any], Tensor("uint8", ("K", REVEALED_BYTES))]


VERBS: Mapping[str, tuple[Any, Any]] = {
    "open_sum": (Empty, SecureKeys),
    "share_secrets": (SecureParties, SecureShares),
    "fit_masked": (SecureFit, SecureUpdate),
    "reveal": (SecureSenders, SecureRevealed),
}


class Update(Protocol):
    """What a client would send in the clear."""

    @property
    def parameters(self) -> Parameters: ...
    @property
    def samples(self) -> int: ...
    @property
    def loss(self) -> float: ...


# ---------------------------------------------------------------------------------------------------- the client


class SecureClient(Client):
    """A client whose parameters leave it under masks."""

    _party: Party | None = None  # of the round that is under way

    def parameters(self) -> Arrays:
        """What is exchanged."""
        raise NotImplementedError

    def trained_from(self, parameters: Parameters | None, round: int) -> Update:
        """The round's training from the average, or from where the client stands."""
        raise NotImplementedError

    def open_sum(self, message: Empty, *, round: int) -> SecureKeys:
        """New keys."""
        self._party = Party(self.context.name)
        return SecureKeys(_bytes(self._party.public), layout_of(self.parameters()))

    def share_secrets(self, message: SecureParties, *, round: int) -> SecureShares:
        """Shares of the secrets behind them."""
        publics = {name: row.tobytes() for name, row in zip(message.names, message.publics, strict=True)}
        return SecureShares(*_rows(self._now().shares(publics, threshold_of(len(publics))), SEALED_BYTES))

    def fit_masked(self, message: SecureFit, *, round: int) -> SecureUpdate:
        """Trains, and gives what the sum is made of."""
        sealed = {name: row.tobytes() for name, row in zip(message.names, message.sealed, strict=True)}
        update = self.trained_from(message.parameters, round)
        n = max(update.samples, 0)
        parts = [n * update.parameters[k].astype(np.float64).ravel() for k in sorted(update.parameters)]
        return SecureUpdate(self._now().masked(to_fixed(np.concatenate([[n, update.loss], *parts])), sealed))

    def reveal(self, message: SecureSenders, *, round: int) -> SecureRevealed:
        """What unmasks the sum."""
        found = SecureRevealed(*_rows(self._now().reveal(message.names), REVEALED_BYTES))
        self._party = None
        return found

    def _now(self) -> Party:
        if self._party is None:
            raise ValueError("no secure sum has been opened in this round")
        return self._party


# ---------------------------------------------------------------------------------------------------- the server


@dataclass(frozen=True)
class SecureMean:
    """The mean parameters of the clients called `members`, by number of samples, and the mean of their losses."""

    members: tuple[str, ...]
    parameters: Arrays
    loss: float


def secure_means(
    federation: Federation, averages: Mapping[str, Parameters | None], timeout: float | None
) -> dict[str, SecureMean]:
    """One exchange of all four verbs: layout -> mean of the clients that have it. averages: client -> what it is sent.

    A group that has become too small, or whose mean cannot be sent, has none, which is logged: of single clients
    nothing is known that could be checked.

    Raises:
        BadInput: in round 1 all answer, and one is the only one of its layout: its sum would be its own parameters.
    """
    asked = federation.ask("open_sum", dict.fromkeys(averages, Empty()), timeout=timeout)
    keys = {r.client: r.message for r in asked if r.ok}
    groups: dict[str, list[str]] = {}
    for client in sorted(keys):
        groups.setdefault(keys[client].layout, []).append(client)
    alone = [members[0] for members in groups.values() if len(members) == 1]
    everybody = federation.clients == federation.everybody
    if alone and federation.round == 1 and everybody and len(keys) == len(averages):
        raise BadInput(
            f"settings.secure = true: {alone[0]} is the only client of its architecture that answers, so that its sum "
            "would be its parameters; allowed: two clients of an architecture or more"
        )
    for client in alone:  # the others of its architecture are away
        log.warning("round %d: no secure sum of %s alone", federation.round, client)
        del groups[keys[client].layout]
    publics = {client: keys[client].public.tobytes() for client in keys}
    parties = {k: _parties(members, publics) for members in groups.values() for k in members}
    given = _shares(federation, parties, timeout)
    orders = {k: _order(k, groups[keys[k].layout], given, averages[k]) for k in given}
    sent = {r.client: r.message.words for r in federation.ask("fit_masked", orders, timeout=timeout) if r.ok}
    senders = {k: SecureSenders(tuple(m for m in groups[keys[k].layout] if m in sent)) for k in sent}
    opened = {r.client: r.message for r in federation.ask("reveal", senders, timeout=timeout) if r.ok}
    found = {}
    for layout, members in groups.items():
        try:
            mean = _mean(layout, [m for m in members if m in given], sent, opened, publics, len(members))
            federation.contract.check("fit_masked", SecureFit(*_rows({}, SEALED_BYTES), mean.parameters), "down")
        except (FedloomError, ValueError, TypeError) as error:
            log.warning("round %d: no secure sum of %s: %s", federation.round, ", ".join(members), error)
        else:
            found[layout] = mean
    return found


def _shares(
    federation: Federation, parties: Mapping[str, SecureParties], timeout: float | None
) -> dict[str, SecureShares]:
    """Client -> the shares that it gives; one that gives not as many as names is left out."""
    given = {r.client: r.message for r in federation.ask("share_secrets", parties, timeout=timeout) if r.ok}
    for client in [k for k, shares in given.items() if len(shares.names) != len(shares.sealed)]:
        told = given.pop(client)
        federation.reject(client, "share_secrets", f"{len(told.sealed)} shares for {len(told.names)} names")
    return given


def _parties(members: Sequence[str], publics: Mapping[str, bytes]) -> SecureParties:
    return SecureParties(*_rows({k: publics[k] for k in members}, PUBLIC_BYTES))


def _order(
    client: str, members: Sequence[str], given: Mapping[str, SecureShares], average: Parameters | None
) -> SecureFit:
    """The average, and what the others of its group have sealed for a client."""
    sealed = {
        k: given[k].sealed[given[k].names.index(client)].tobytes()
        for k in members
        if k in given and client in given[k].names
    }
    return SecureFit(*_rows(sealed, SEALED_BYTES), average)


def _mean(
    layout: str,
    sharing: Sequence[str],
    sent: Mapping[str, NDArray[Any]],
    opened: Mapping[str, SecureRevealed],
    publics: Mapping[str, bytes],
    parties: int,
) -> SecureMean:
    """sharing: the members that have given shares. ValueError or FedloomError where there is no sum."""
    masked = {k: sent[k] for k in sharing if k in sent}
    revealed = {
        k: {name: row.tobytes() for name, row in zip(opened[k].names, opened[k].shares, strict=True)}
        for k in masked
        if k in opened
    }
    numbers = from_fixed(unmasked(masked, revealed, {k: publics[k] for k in sharing}, threshold_of(parties)))
    shapes = [(str(name), tuple(int(n) for n in shape)) for name, shape in parse(layout.encode())]
    samples, ends = numbers[0], np.cumsum([2, *(int(np.prod(shape)) for _, shape in shapes)])
    if ends[-1] != len(numbers) or samples <= 0:
        raise ValueError(f"{len(numbers)} numbers of {samples:g} samples are no sum of {ends[-1]}")
    means = {
        name: (numbers[a:b] / samples).reshape(shape).astype(np.float32)
        for (name, shape), a, b in zip(shapes, ends, ends[1:])
    }
    return SecureMean(tuple(masked), means, float(numbers[1]) / len(masked))


def layout_of(parameters: Parameters) -> str:
    """Names and shapes, in the order of names."""
    return json.dumps([(k, list(parameters[k].shape)) for k in sorted(parameters)])


def known_by(parameters: Parameters) -> str:
    """What clients of the same architecture have in common: a digest of names and shapes."""
    return blake2b(layout_of(parameters).encode(), digest_size=8).hexdigest()


def _bytes(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, dtype=np.uint8)


def _rows(data: Mapping[str, bytes], width: int) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
    """Names, and what belongs to each as a row."""
    return tuple(data), _bytes(b"".join(data.values())).reshape(len(data), width)
