"""Sums of what clients send, of which the server learns no single one: the exchange that methods have in common.

    open_sum       up    public keys, and what of one kind is added up
    share_secrets  down  everybody's keys          up  sealed shares of two secrets, one for each of the others
    (the method's) down  shares of the others      up  what is added up: masked words
    reveal         down  who has sent theirs       up  shares by which the sum of those is unmasked

The protocol is `fedloom.privacy.secure_sum`'s. Who is lost on the way is left out, as long as more than half of those
who add up the same is there to the end. The server sees the sum, which of two clients tells each what the other has.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from fedloom.errors import BadInput, FedloomError
from fedloom.federation.base import Federation
from fedloom.federation.messages import Empty, Tensor
from fedloom.methods.base import Client
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

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SecureKeys:
    """Up: public keys for this round, and names and shapes of what is added up, as JSON."""

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
class SecureSenders:
    """Down: whose masked words have come."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class SecureRevealed:
    """Up: of each party a share: of its seed where its words have come, else of its key."""

    names: tuple[str, ...]
    shares: Annotated[NDArray[Any], Tensor("uint8", ("K", REVEALED_BYTES))]


def secure_verbs(verb: str, down: Any, up: type) -> dict[str, tuple[Any, Any]]:
    """The exchange, whose third verb is the method's: its messages have `names` and `sealed`, its replies `words`."""
    return {
        "open_sum": (Empty, SecureKeys),
        "share_secrets": (SecureParties, SecureShares),
        verb: (down, up),
        "reveal": (SecureSenders, SecureRevealed),
    }


# ---------------------------------------------------------------------------------------------------- the client


class SecureClient(Client):
    """A client of which something leaves under masks."""

    aside: Party | None = None  # of the round that is under way; its secrets are for no file

    def layout(self) -> str:
        """What it adds up: clients of one layout make a sum of their own."""
        raise NotImplementedError

    def open_sum(self, message: Empty, *, round: int) -> SecureKeys:
        """New keys."""
        self.aside = Party(self.context.name)
        return SecureKeys(_bytes(self.aside.public), self.layout())

    def share_secrets(self, message: SecureParties, *, round: int) -> SecureShares:
        """Shares of the secrets behind them."""
        publics = {name: row.tobytes() for name, row in zip(message.names, message.publics, strict=True)}
        return SecureShares(*rows_of(self.party.shares(publics, threshold_of(len(publics))), SEALED_BYTES))

    def masked(self, vector: NDArray[Any], message: Any) -> NDArray[np.uint64]:
        """Numbers (P,) as words (P,) under masks; message: names and sealed shares of those who are still there."""
        sealed = {name: row.tobytes() for name, row in zip(message.names, message.sealed, strict=True)}
        return self.party.masked(to_fixed(vector), sealed)

    def reveal(self, message: SecureSenders, *, round: int) -> SecureRevealed:
        """What unmasks the sum."""
        found = SecureRevealed(*rows_of(self.party.reveal(message.names), REVEALED_BYTES))
        self.aside = None
        return found

    @property
    def party(self) -> Party:
        """Its part in the sum under way."""
        if self.aside is None:
            raise ValueError("no secure sum has been opened in this round")
        return self.aside


# ---------------------------------------------------------------------------------------------------- the server


@dataclass(frozen=True)
class SecureSum:
    """The sum (P,) of what `senders`, of all `members` of one layout, have sent."""

    layout: str
    members: tuple[str, ...]
    senders: tuple[str, ...]
    numbers: NDArray[np.float64]


def secure_sums(
    federation: Federation,
    asked: Collection[str],
    verb: str,
    order: Callable[[str, tuple[str, ...], NDArray[np.uint8]], Any],
    timeout: float | None,
    who: str,
) -> list[SecureSum]:
    """One exchange of all four verbs: a sum for each layout.

    A group that has become too small has none, which is logged. Where all answer, who is the only one of its layout
    is left out, and noted.

    Args:
        asked: the clients.
        verb, order: the method's verb, and its message to a client with names and sealed shares.
        who: what a client must not be alone as, and what its sum would be, such as "client, so that ...".

    Raises:
        BadInput: in round 1 all answer, and each is the only one of its layout: its sum would be its own vector.
    """
    keys, groups = _opened(federation, asked, timeout, who)
    publics = {client: keys[client].public.tobytes() for client in keys}
    parties = {k: _parties(members, publics) for members in groups.values() for k in members}
    given = _shares(federation, parties, timeout)
    orders = {k: order(k, *_sealed_for(k, groups[keys[k].layout], given)) for k in given}
    sent = {r.client: r.message.words for r in federation.ask(verb, orders, timeout=timeout) if r.ok}
    senders = {k: SecureSenders(tuple(m for m in groups[keys[k].layout] if m in sent)) for k in sent}
    opened = {r.client: r.message for r in federation.ask("reveal", senders, timeout=timeout) if r.ok}
    found = []
    for layout, members in groups.items():
        try:
            sharing = [m for m in members if m in given]
            masked, numbers = _sum(sharing, sent, opened, publics, len(members))
        except (FedloomError, ValueError, TypeError) as error:
            no_sum(federation, members, error)
        else:
            found.append(SecureSum(layout, tuple(members), masked, numbers))
    return found


def _opened(
    federation: Federation, asked: Collection[str], timeout: float | None, who: str
) -> tuple[dict[str, SecureKeys], dict[str, list[str]]]:
    """Everybody's keys, and who adds up with whom, by layout; as `secure_sums`."""
    replies = federation.ask("open_sum", dict.fromkeys(asked, Empty()), timeout=timeout)
    keys = {r.client: r.message for r in replies if r.ok}
    groups: dict[str, list[str]] = {}
    for client in sorted(keys):
        groups.setdefault(keys[client].layout, []).append(client)
    alone = [members[0] for members in groups.values() if len(members) == 1]
    everybody = len(keys) == len(asked) and federation.clients == federation.everybody
    if everybody and federation.round == 1 and len(alone) == len(groups) > 0:
        raise BadInput(f"settings.secure = true: {alone[0]} is the only {who}; allowed: two such clients or more")
    for client in alone:
        del groups[keys[client].layout]
        if everybody:
            federation.reject(client, "open_sum", f"it is the only {who}")
        else:  # the others of its layout are away
            log.warning("round %d: no secure sum of %s alone", federation.round, client)
    return keys, groups


def no_sum(federation: Federation, members: Sequence[str], error: Exception) -> None:
    """Says so in the log: of single clients nothing is known that could be checked."""
    log.warning("round %d: no secure sum of %s: %s", federation.round, ", ".join(members), error)


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
    return SecureParties(*rows_of({k: publics[k] for k in members}, PUBLIC_BYTES))


def _sealed_for(
    client: str, members: Sequence[str], given: Mapping[str, SecureShares]
) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
    """What the others of its group have sealed for a client."""
    sealed = {
        k: given[k].sealed[given[k].names.index(client)].tobytes()
        for k in members
        if k in given and client in given[k].names
    }
    return rows_of(sealed, SEALED_BYTES)


def _sum(
    sharing: Sequence[str],
    sent: Mapping[str, NDArray[Any]],
    opened: Mapping[str, SecureRevealed],
    publics: Mapping[str, bytes],
    parties: int,
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Who is in it, and the sum; sharing: the members that have given shares. ValueError or FedloomError: none."""
    masked = {k: sent[k] for k in sharing if k in sent}
    revealed = {
        k: {name: row.tobytes() for name, row in zip(opened[k].names, opened[k].shares, strict=True)}
        for k in masked
        if k in opened
    }
    words = unmasked(masked, revealed, {k: publics[k] for k in sharing}, threshold_of(parties))
    return tuple(masked), from_fixed(words)


def _bytes(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, dtype=np.uint8)


def rows_of(data: Mapping[str, bytes], width: int) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
    """Names, and what belongs to each as a row."""
    return tuple(data), _bytes(b"".join(data.values())).reshape(len(data), width)
