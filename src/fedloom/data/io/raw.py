"""What a reader of a silo's files hands on before the labels are understood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedloom.data.io.decode import Source


@dataclass(frozen=True)
class Raw:
    """N samples as found: items (paths, encoded pictures or texts), labels as written, names for messages.

    ids: names below the part, which choices depend on: the same wherever the part lies; names: the class list that the
    file itself carries, in order of index, or None; left_out: how many files or rows were no samples; notes: what else
    is to be told (see data.notes); lost: classes whose folders hold files but no picture, and what they hold.
    """

    items: Sequence[Source | str]
    written: Sequence[str | int]
    places: Sequence[str]
    ids: Sequence[str]
    names: tuple[str, ...] | None = None
    left_out: int = 0
    notes: Mapping[str, Any] = field(default_factory=dict)
    lost: Mapping[str, str] = field(default_factory=dict)
