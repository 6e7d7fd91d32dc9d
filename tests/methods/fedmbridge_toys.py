"""FedMBridge on toy clients, with small adapters."""

from __future__ import annotations

from toy_sites import WIDTH, Toy

SIZES = {"rank": 3, "widest": 24}
NUMBERS = 2 * WIDTH * 3 + 3 + WIDTH  # of a toy's one adapter


def toy_of(folder, **more) -> Toy:
    return Toy(folder, "fedmbridge", **{**SIZES, **more})
