"""What a reader of a silo's files hands on before the labels are understood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedloom.data.decode import Source


@dataclass(frozen=True)
class Raw:
    """N samples as found: items (paths, encoded pictures or texts), labels as written, names for messages.

    names: the class list that the file itself carries, in order of index, or None; left_out: how many files
    or rows were no samples.
    """

    items: Sequence[Source | str]
    written: Sequence[str | int]
    places: Sequence[str]
    names: tuple[str, ...] | None = None
    left_out: int = 0
