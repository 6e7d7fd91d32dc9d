"""The header of a message: which values its body holds, and where. Lines of text, in which nothing can nest.

    Lesson                      the name of the message
    labels<TAB>int32<TAB>100    a value: its field, its dtype or kind, its shape
    model<TAB>tensors<TAB>      a group of arrays: one line each follows, which begins with a tab
    <TAB>w<TAB>float32<TAB>3,4

Whether it is as declared is known before anything is made of it: what is refused takes no memory but the text's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fedloom.federation.messages import DTYPES, ContractBreach, Field, Tensor, bind_shape, fields_of
from fedloom.outside import text_problem

GROUP_BYTES = 4 << 20  # of a header, for the names and shapes of one group of arrays
LONGEST_NAME = 256  # bytes, of an array in a group
FIXED = {"none": 0, "int": 8, "float": 8, "flag": 1}  # bytes of values that have no shape
_MOST_AXES, _MOST_VALUES = 16, 2**48
_SHAPE = rb"(?:(?:0|[1-9][0-9]{0,14})(?:,(?:0|[1-9][0-9]{0,14})){0,%d})?" % (_MOST_AXES - 1)
_ROW = re.compile(rb"(\t?)([^\t\n]{0,%d})\t([a-z0-9]{1,8})\t(%s)\n" % (LONGEST_NAME, _SHAPE))


class Entry(NamedTuple):
    """One value or one array of a group, with its place in the payload; `tag` is a dtype, a kind, `tensors` or `none`.

    inside: it is an array of the group that the last entry with `tensors` began.
    """

    name: str
    tag: str
    shape: tuple[int, ...]
    start: int
    size: int
    inside: bool


def limit_of(message_type: type) -> int:
    """The most bytes that the header of such a message can have, by its fields' names and shapes."""
    total = len(message_type.__name__.encode()) + 1
    for field in fields_of(message_type):
        axes = len(field.spec.shape) if isinstance(field.spec, Tensor) else 2
        total += len(field.name.encode()) + 8 + 16 * axes + 3
        total += GROUP_BYTES if field.kind == "tensors" else 0
    return total


def row(name: str, tag: str, shape: tuple[int, ...] = (), *, inside: bool = False) -> str:
    """One line. Raises ContractBreach for the name of an array that cannot be written."""
    text = f"{name}\t{tag}\t{','.join(map(str, shape))}\n"
    if not inside:
        return text
    if text_problem(name) or "\t" in name or "\n" in name or len(name.encode()) > LONGEST_NAME:
        raise ContractBreach(
            f"an array is called {name[:60]!a}, allowed: at most {LONGEST_NAME} bytes, no control characters"
        )
    return f"\t{text}"


def entries(owner: str, fields: tuple[Field, ...], header: memoryview, at: int, start: int) -> Iterator[Entry]:
    """The lines of a header from byte `at`, each as declared and with its place; the body begins at byte `start`.

    The header is UTF-8 without other control characters than the two that it needs.

    Raises ContractBreach at the first line that is none, or not as declared.
    """
    todo, seen = list(reversed(fields)), set[str]()
    sizes: dict[str, tuple[int, str]] = {}
    field: Field | None = None
    group = False
    while at < len(header):
        found = _ROW.match(header, at)
        if found is None:
            raise ContractBreach(f"message {owner} has a header that cannot be read at byte {at}")
        at, inside = found.end(), bool(found[1])
        name, tag = found[2].decode(), found[3].decode()
        shape = tuple(map(int, found[4].split(b","))) if found[4] else ()
        size = _size(name, tag, shape, inside)
        if not inside:
            field = _next(owner, fields, todo, seen, name)
            seen.add(name)
            _as_declared(owner, field, tag)
            if isinstance(field.spec, Tensor) and tag != "none":
                bind_shape(owner, field, field.spec, shape, sizes)
            group = tag == "tensors"
        elif field is None or field.spec is None or not group:
            raise ContractBreach(f"message {owner} has an array {name[:60]!r} outside of a group")
        elif tag not in field.spec.dtypes:
            raise ContractBreach(f"{owner}.{field.name} is a group of {tag}; declared {field}")
        yield Entry(name, tag, shape, start, size, inside)
        start += size
    if todo:
        raise ContractBreach(f"message {owner} lacks its field {todo[-1].name!r}")


def _next(owner: str, fields: tuple[Field, ...], todo: list[Field], seen: set[str], name: str) -> Field:
    """The field that is due, if that is its name."""
    if todo and todo[-1].name == name:
        return todo.pop()
    declared = [field.name for field in fields]
    if name in seen:
        raise ContractBreach(f"message {owner} has its field {name!r} twice")
    if name not in declared:
        raise ContractBreach(f"message {owner} has a field {name[:60]!r}; declared {', '.join(declared) or 'none'}")
    raise ContractBreach(f"message {owner} lacks its field {todo[-1].name!r}, or has its fields in another order")


def _size(name: str, tag: str, shape: tuple[int, ...], inside: bool) -> int:
    """Bytes in the body. Raises ContractBreach for a shape that no message can have."""
    if math.prod(max(n, 1) for n in shape) > _MOST_VALUES:
        raise ContractBreach(f"{name[:60]!r} has a shape that is too large: {str(shape)[:60]}")
    if tag in DTYPES:
        count = math.prod(shape)
        return -(-count // 8) if tag == "bool" else count * np.dtype(tag).itemsize
    if not inside:
        if tag == "text" and len(shape) == 1:
            return shape[0]
        if tag == "texts" and len(shape) == 2:
            return 4 * shape[0] + shape[1]
        if not shape and (tag in FIXED or tag == "tensors"):
            return FIXED.get(tag, 0)
    raise ContractBreach(f"{name[:60]!r}: dtype {tag!r} with shape {str(shape)[:60]} cannot cross")


def _as_declared(owner: str, field: Field, tag: str) -> None:
    if tag == "none":
        good = field.optional
    elif field.kind == "tensor" and field.spec is not None:
        good = tag in field.spec.dtypes
    else:
        good = tag == field.kind
    if not good:
        raise ContractBreach(f"{owner}.{field.name} is {tag}; declared {field}")
