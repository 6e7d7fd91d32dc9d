"""State of a method from outside that is not declared, and that a resumed run would lose without a word."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from types import CodeType
from typing import Any

import numpy as np
from torch import Tensor, nn

OURS = ("fedloom", "builtins")


def own_names(kind: type) -> set[str]:
    """The names that methods of a class which is not ours, or of such bases, read or set of anything."""
    own = [cls for cls in kind.__mro__ if cls.__module__.partition(".")[0] not in OURS]
    codes = [code for cls in own for member in vars(cls).values() if (code := getattr(member, "__code__", None))]
    return {name for code in codes for name in _names(code)}


def marks(thing: Any, names: Collection[str]) -> dict[str, Any]:
    """What tells whether these attributes have changed, of those that are there; `_name` is taken for a cache."""
    there = vars(thing)
    return {name: _mark(there[name]) for name in sorted(names) if name in there and not name.startswith("_")}


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Those that are new, or not as they were."""
    return [name for name in now if name not in before or before[name] != now[name]]


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):  # a function in the function
            yield from _names(constant)


def _mark(value: Any) -> Any:
    if isinstance(value, (bool, int, float, complex, str, bytes, type(None))):
        return repr(value)  # a NaN is as it was
    if isinstance(value, Tensor):
        return id(value), value._version
    if isinstance(value, np.ndarray):
        return id(value), hash(value.tobytes())
    if isinstance(value, nn.Module):
        return id(value), [(id(t), t._version) for t in (*value.parameters(), *value.buffers())]
    if isinstance(value, Mapping):
        return [(repr(key), _mark(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return [_mark(item) for item in value]
    return id(value)
