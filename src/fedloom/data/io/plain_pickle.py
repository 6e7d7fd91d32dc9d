"""Reads pickles that hold plain values and byte arrays, and runs nothing that they name.

A pickle is a program: it says which functions to call. Here the only functions it can reach are three of our own that
take the place of NumPy's array constructors and of the codec that Python 3 writes bytes with; any other name, the
array's element type included, is refused. CIFAR's files, written by Python 2, need no more.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloom.errors import BadInput

# What a broken or hostile pickle makes the unpickler raise.
_BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)
_BYTES = ("u1", "uint8")
_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")


class _Array:
    """An array under construction: shape, order and bytes as the pickle states them."""

    def __init__(self) -> None:
        self.array: NDArray[np.uint8] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        if not isinstance(kind, _Kind) or not isinstance(data, bytes):
            raise pickle.UnpicklingError("an array of something other than bytes")
        flat = np.frombuffer(data, dtype=np.uint8)
        self.array = flat.reshape(tuple(int(n) for n in shape), order="F" if fortran else "C")


class _Kind:
    """The element type uint8; whatever state follows (byte order, field names) changes nothing."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # Functions made anew: a pickle may set attributes of what it is given.
        def array(*_: Any) -> _Array:
            return _Array()

        def kind(code: str | bytes, *_: Any) -> _Kind:
            text = code.decode("latin1") if isinstance(code, bytes) else str(code)
            if text.lstrip("|<>=") not in _BYTES:
                raise pickle.UnpicklingError(f"an array of {text!r}, allowed: uint8")
            return _Kind()

        def encode(text: str, codec: str | bytes = "latin1") -> bytes:
            if codec not in ("latin1", "latin-1", b"latin1", b"latin-1"):
                raise pickle.UnpicklingError(f"bytes in {str(codec)[:40]!r}, allowed: latin1")
            return text.encode("latin1")

        if module in _NUMPY and name == "_reconstruct":
            return array
        if (module, name) == ("numpy", "ndarray"):
            return "ndarray"  # only ever the first argument of _reconstruct
        if (module, name) == ("numpy", "dtype"):
            return kind
        if (module, name) == ("_codecs", "encode"):
            return encode
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, allowed: dict, list, text, numbers, uint8 arrays")


def read_plain(path: Path) -> dict[str, Any]:
    """The dictionary in a pickle file, keys as text, arrays as uint8; strings of Python 2 come as bytes.

    Raises:
        BadInput: the file cannot be read, is truncated, no dictionary, or names anything but plain values.
    """
    try:
        with path.open("rb") as file:
            content = _Unpickler(file, encoding="bytes").load()
    except (*_BROKEN, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(f"{path}: not a pickle of plain values: {reason}") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path}: holds a {type(content).__name__}, expected a dictionary")
    found = {text(key): value.array if isinstance(value, _Array) else value for key, value in content.items()}
    if len(found) < len(content) or not _all_plain(found.values()):
        raise BadInput(f"{path}: not a pickle of plain values: a key twice, or a function or type as a value")
    return found


def _all_plain(values: Iterable[Any]) -> bool:
    """Whether there is nothing among the values, or inside of them, but arrays, collections, texts and numbers."""
    todo, seen = list(values), set[int]()
    while todo:
        value = todo.pop()
        if id(value) in seen:  # a value may hold another one many times over, or itself
            continue
        seen.add(id(value))
        if isinstance(value, list | tuple):
            todo += value
        elif isinstance(value, dict):
            todo += [*value, *value.values()]
        elif value is not None and type(value) not in (str, bytes, int, float, bool, np.ndarray):
            return False
    return True


def text(value: Any) -> str:
    """A string of either Python as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
