"""What is in a set twice: the same picture or text in training and test part, or under two labels."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedloom.data.io.decode import Source, in_threads

Sample = tuple[Source | str, int]  # with its label


def twice(kind: str, train: Sequence[Sample], test: Sequence[Sample]) -> dict[str, Any]:
    """Notes on samples that occur twice; nothing where there are none.

    `KINDs_in_both_parts`: how many of the test part are in the training part as well. `KINDs_under_two_labels`: how
    many of all have a copy under another label. Pictures are the same where their files are, byte for byte.
    """
    items = [item for item, _ in (*train, *test)]
    labels = [label for _, label in (*train, *test)]
    marks = _marks(items)
    inside = {mark for mark in marks[: len(train)] if mark is not None}
    shared = sum(mark in inside for mark in marks[len(train) :] if mark is not None)
    of: dict[Hashable, set[int]] = {}
    for mark, label in zip(marks, labels):
        if mark is not None:
            of.setdefault(mark, set()).add(label)
    torn = sum(mark is not None and len(of[mark]) > 1 for mark in marks)
    found = {f"{kind}s_in_both_parts": shared, f"{kind}s_under_two_labels": torn}
    return {key: count for key, count in found.items() if count}


def _marks(items: Sequence[Source | str]) -> list[Hashable]:
    """Something equal for equal items alone; None for files that cannot be read, and where no other has that size."""
    if not any(isinstance(item, (Path, bytes)) for item in items):
        return list(items)
    sizes = [_size(item) for item in items]
    often = {size for size, n in Counter(sizes).items() if n > 1 and size is not None}
    return list(in_threads(lambda i: _digest(items[i]) if sizes[i] in often else None, len(items)))


def _size(item: Source | str) -> int | None:
    try:
        return os.stat(item).st_size if isinstance(item, Path) else len(item)
    except OSError:
        return None


def _digest(item: Source | str) -> bytes | None:
    try:
        content = item.read_bytes() if isinstance(item, Path) else item if isinstance(item, bytes) else item.encode()
    except OSError:
        return None
    return hashlib.blake2b(content, digest_size=16).digest()


def in_both_parts(parts: Mapping[str, Sequence[Source]]) -> dict[str, Any]:
    """The same for pictures without labels: `train` against the other parts."""
    rest = [(item, 0) for part, own in parts.items() if part != "train" for item in own]
    return twice("picture", [(item, 0) for item in parts.get("train", ())], rest)
