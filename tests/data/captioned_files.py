"""What tests of captioned pictures share: what was read and counted, entries of Karpathy's files, real slices."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import SLICES
from fedloom.data.pairs import Pairs

Json = dict[str, Any]


def sizes(pairs: Pairs) -> dict[str, tuple[int, int]]:
    return {part: (len(own), len(own.captions)) for part, own in pairs.parts.items()}


def counted(pairs: Pairs) -> Json:
    """What was counted, without zeros."""
    return {key: n for key, n in pairs.notes.items() if n and key not in ("unreadable_examples", "annotations")}


def change(path: Path, edit: Callable[[Json], object]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def karpathy_image(n: int, name: str, split: str, captions: int = 5, **more: Any) -> Json:
    sentences = [
        {"raw": f"caption {c} of picture {n} .", "tokens": ["caption"], "imgid": n, "sentid": 10 * n + c}
        for c in range(captions)
    ]
    sentids = [s["sentid"] for s in sentences]
    return {"filename": name, "imgid": n, "sentids": sentids, "split": split, "sentences": sentences, **more}


def slice_of(name: str) -> Path:
    if not (SLICES / name).is_dir():
        pytest.skip(f"real data slice not found: {SLICES / name} (set FEDLOOM_TEST_DATA)")
    return SLICES / name
