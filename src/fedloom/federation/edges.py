"""Messages between peers in the ledger: one row for each way that a message went."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from fedloom.federation.ledger import Ledger


def deliver(
    ledger: Ledger,
    held: Sequence[Mapping[str, Any]],
    hears: Mapping[str, Collection[str]],
    sent: Collection[str] = (),
) -> None:
    """Records what `Federation.held` held back.

    Args:
        hears: client -> the peers that its answers go to, a row each; without any, they stay where they are.
        sent: the clients that are sent something; what goes down to others they say to themselves.
    """
    for row in held:
        if row["direction"] == "down":
            if row["client"] in sent:
                ledger.record(**row)
            continue
        for n, peer in enumerate(hears.get(row["client"], ())):
            # at work once, however many hear of it
            ledger.record(**{**row, "seconds": None if n else row["seconds"]}, to=peer)
