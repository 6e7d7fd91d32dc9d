"""Where two values differ, and values as short texts."""

from __future__ import annotations

from typing import Any

import numpy as np


def unlike(found: Any, expected: Any, place: str = "") -> tuple[str, str] | None:
    """Where two values differ and how, or None; types count, NaN equals NaN."""
    if isinstance(expected, np.ndarray) or isinstance(found, np.ndarray):
        a, b = np.asarray(found), np.asarray(expected)
        same = a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        return None if same else (place or "array", f"{a.dtype} {a.shape} against {b.dtype} {b.shape}")
    if isinstance(expected, dict) and isinstance(found, dict):
        if list(found) != list(expected):
            return f"{place} keys", f"{short(list(found))} against {short(list(expected))}"
        pairs: Any = [(key, found[key], expected[key]) for key in expected]
    elif isinstance(expected, list | tuple) and isinstance(found, list | tuple):
        if len(found) != len(expected):
            return f"{place} length", f"{short(found)} against {short(expected)}"
        pairs = [("", a, b) for a, b in zip(found, expected)]
    else:
        same = type(found) is type(expected) and (found == expected or (found != found and expected != expected))
        return None if same else (place or "value", f"{short(found)} against {short(expected)}")
    for key, a, b in pairs:
        if difference := unlike(a, b, f"{place}[{str(key)[:20]}]" if len(place) < 60 else place):
            return difference
    return None


def short(value: Any) -> str:
    try:
        return ascii(value)[:160]
    except Exception as error:  # noqa: BLE001
        return type(error).__name__
