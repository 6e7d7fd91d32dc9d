"""Sizes, work and time of a plan in words."""

from __future__ import annotations

import math


def size(count: int) -> str:
    """Bytes in binary units, as memory is sold."""
    for unit, one in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= one:
            return f"{count / one:.3g} {unit}"
    return f"{count} B"


def flop(count: float) -> str:
    """FLOP with its prefix, each a thousand of the one before."""
    units = ("", "M", "G", "T", "P", "E")
    power = 0 if count < 1e6 else min(max(int(math.log10(count)) // 3, 2), 6)
    return f"{count / 10 ** (3 * power):.3g} {units[max(power - 1, 0)]}FLOP"


def time(seconds: float | None) -> str:
    """Seconds, minutes or hours."""
    if seconds is None:
        return "not known"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"
