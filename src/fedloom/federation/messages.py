"""What a message may hold: the kinds of fields, and the check of a message against its own declaration.

A message is a frozen dataclass whose annotations are its wire contract:

    @dataclass(frozen=True)
    class Opinion:
        representations: Annotated[NDArray[Any], Tensor("float32", ("S", "D"))]
        labels: Annotated[NDArray[Any], Tensor("int32", ("S",), low=-1, high=99_999)]
        loss: Annotated[float, Number(low=0)]
        note: str = ""

Any field may be optional (`... | None`). Nothing else can be declared, so nothing else can cross. A text that crosses
holds whole characters, and of control characters only newline and tab; see `sendable`.
Numbers with a
fraction are bounded also where no bound is declared: one value of 1e20 in a mean would reach everybody.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedloom.errors import BadInput
from fedloom.outside import CONTROLS

DTYPES = (
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
)
FieldKind = Literal["tensor", "tensors", "text", "texts", "int", "float", "flag"]
Array = NDArray[Any]

_PLAIN: dict[Any, FieldKind] = {str: "text", int: "int", float: "float", bool: "flag", tuple[str, ...]: "texts"}


class ContractBreach(BadInput):
    """A message, or bytes said to be one, is not what the wire contract declares."""


class BoundBreach(ContractBreach):
    """A server asks more of a silo than the silo's operator allows."""


LIMIT = 1e6  # |x| of numbers with a fraction in arrays, where nothing else is declared
NUMBER_LIMIT = 1e30  # of a single one, such as a loss: far from 0, which may be in good faith, it spoils no mean


@dataclass(frozen=True)
class Number:
    """What an int or a float may be: low to high, both allowed; None: of a float up to NUMBER_LIMIT, of an int any."""

    low: float | None = None
    high: float | None = None


Count = typing.Annotated[int, Number(low=0, high=2**31 - 1)]  # of samples
Share = typing.Annotated[float, Number(low=0, high=1)]
MOST_CLASSES = 100_000


@dataclass(frozen=True)
class _Typed:
    dtype: str | tuple[str, ...]

    def __post_init__(self) -> None:
        for dtype in self.dtypes:
            if dtype not in DTYPES:
                raise BadInput(f"dtype {dtype!r} cannot cross. Allowed: {', '.join(DTYPES)}.")

    @property
    def dtypes(self) -> tuple[str, ...]:
        return (self.dtype,) if isinstance(self.dtype, str) else self.dtype


@dataclass(frozen=True)
class Tensor(_Typed):
    """One array: its dtype (or the dtypes it may have) and its shape.

    A name in `shape` is a size that must agree wherever it occurs in one message; an int is fixed.
    `finite`: refuse NaN and infinity in a float array. `low` to `high`, both allowed: what its values may be; None: of
    floats down to -LIMIT, up to LIMIT, of integers any. In an array that need not be finite, of those that are.
    """

    shape: tuple[str | int, ...]
    finite: bool = True
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        return f"{' or '.join(self.dtypes)} {_tuple(self.shape)}"


@dataclass(frozen=True)
class Tensors(_Typed):
    """A group of arrays by name, of any shapes (a model's parameters): the dtype or dtypes they may have.

    `finite`, `low`, `high`: as of a Tensor.
    """

    finite: bool = True
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        return f"{' or '.join(self.dtypes)} arrays by name"


@dataclass(frozen=True)
class Field:
    """One declared field of a message class; `spec` is None for strings and numbers, `number` for all but numbers."""

    name: str
    kind: FieldKind
    optional: bool
    spec: Tensor | Tensors | None = None
    number: Number | None = None

    def __str__(self) -> str:
        text = str(self.spec) if self.spec is not None else _NAMES[self.kind]
        return f"{text} or None" if self.optional else text

    def bounds(self, fraction: bool) -> tuple[float, float]:
        """The least and the largest value, of numbers with a `fraction` or of integers; infinite: any."""
        limit = math.inf if not fraction else NUMBER_LIMIT if self.spec is None else LIMIT
        low, high = (getattr(self.spec or self.number, key, None) for key in ("low", "high"))
        return -limit if low is None else low, limit if high is None else high

    @property
    def range(self) -> str:
        """What values it may have, for people; "": any of its kind."""
        if self.kind in ("text", "texts", "flag"):
            return ""
        fraction = self.kind == "float" or any(d.startswith("float") for d in (self.spec.dtypes if self.spec else ()))
        low, high = self.bounds(fraction)
        if math.isinf(low) and math.isinf(high):
            return ""
        return f"{low:.10g} to {high:.10g}" + (" or not finite" if self.spec and not self.spec.finite else "")


_NAMES: dict[FieldKind, str] = {
    "tensor": "an array",
    "tensors": "arrays by name",
    "text": "str",
    "texts": "tuple of str",
    "int": "int",
    "float": "finite float",
    "flag": "bool",
}


@dataclass(frozen=True)
class Empty:
    """A message without content."""


def sendable(texts: Iterable[str]) -> tuple[str, ...]:
    """Texts, such as captions of a data set, as they may cross: a control character but newline and tab is a blank."""
    return tuple(text if text.isprintable() else CONTROLS.sub(" ", text) for text in texts)


def fields_of(message_type: type) -> tuple[Field, ...]:
    """The declared fields of a message class, in order.

    Raises BadInput when the class is not a frozen dataclass or a field is of a kind that may not cross.
    """
    return _fields_of(message_type)


@functools.cache
def _fields_of(message_type: type) -> tuple[Field, ...]:
    name = getattr(message_type, "__qualname__", repr(message_type))
    if not isinstance(message_type, type) or not dataclasses.is_dataclass(message_type):
        raise BadInput(f"message {name} is not a dataclass")
    if not message_type.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise BadInput(f"message {name} is not frozen: declare it with @dataclass(frozen=True)")
    try:
        hints = typing.get_type_hints(message_type, include_extras=True)
    except NameError as error:
        raise BadInput(f"message {name}: {error}; import it at the top of the module, outside TYPE_CHECKING") from error
    return tuple(_field(name, f, hints[f.name]) for f in dataclasses.fields(message_type))


def check_structure(message: Any) -> None:
    """Raises ContractBreach unless each field has its declared kind, dtype and shape. Reads no values."""
    sizes: dict[str, tuple[int, str]] = {}
    owner = type(message).__qualname__
    for field in fields_of(type(message)):
        value = getattr(message, field.name)
        if value is None and field.optional:
            continue
        if not _is_kind(field, value):
            raise ContractBreach(f"{owner}.{field.name} is {_show(value)}; declared {field}")
        if isinstance(field.spec, Tensor):
            bind_shape(owner, field, field.spec, value.shape, sizes)


def check_values(message: Any) -> None:
    """Raises ContractBreach where a number, or a value of an array, is not finite or beyond what its field declares."""
    owner = type(message).__qualname__
    for field in fields_of(type(message)):
        value = getattr(message, field.name)
        if value is None or field.kind in ("text", "texts", "flag"):
            continue
        if field.spec is None:
            low, high = field.bounds(field.kind == "float")
            if not low <= value <= high:
                raise ContractBreach(f"{owner}.{field.name} is {value:.6g}; declared {low:.10g} to {high:.10g}")
            continue
        named = {f"[{key}]": a for key, a in value.items()} if field.kind == "tensors" else {"": value}
        for key, array in named.items():
            _check_array(f"{owner}.{field.name}{key}", array, field)


def _check_array(place: str, array: Array, field: Field) -> None:
    assert field.spec is not None
    low, high = field.bounds(array.dtype.kind == "f")
    if array.size == 0 or array.dtype.kind not in "fiu" or (math.isinf(low) and math.isinf(high)):
        return
    # The extremes carry any NaN or infinity, and need no temporary as large as the array.
    least, most = float(array.min()), float(array.max())
    if math.isfinite(least) and math.isfinite(most):
        if least < low or most > high:
            far = least if least < low else most
            raise ContractBreach(f"{place} holds {far:.6g}; declared {low:.10g} to {high:.10g}")
        return
    finite = np.isfinite(array)
    if field.spec.finite:
        bad = int(array.size - np.count_nonzero(finite))
        raise ContractBreach(f"{place} holds NaN or infinity in {bad} of {array.size} values; declared finite")
    _check_array(place, array[finite], field)


def _field(owner: str, field: dataclasses.Field[Any], hint: Any) -> Field:
    hint, optional = _strip_none(hint)
    spec: Tensor | Tensors | None = None
    number: Number | None = None
    if typing.get_origin(hint) is typing.Annotated:
        hint, *extras = typing.get_args(hint)
        hint, inner = _strip_none(hint)
        optional = optional or inner
        spec = next((e for e in extras if isinstance(e, Tensor | Tensors)), None)
        number = next((e for e in extras if isinstance(e, Number)), None)
    origin = typing.get_origin(hint) or hint
    is_class = isinstance(origin, type)
    kind: FieldKind | None = None
    if isinstance(spec, Tensor) and is_class and issubclass(origin, np.ndarray):
        kind = "tensor"
    elif isinstance(spec, Tensors) and is_class and issubclass(origin, Mapping):
        kind = "tensors"
    elif spec is None:
        kind = _PLAIN.get(hint)
    if kind is None or not field.init or (number is not None and kind not in ("int", "float")):
        raise BadInput(
            f"field {owner}.{field.name} is declared {hint}, which may not cross. Allowed: an array annotated"
            " with Tensor(...), a mapping of arrays annotated with Tensors(...), str, int, float, bool, "
            "tuple[str, ...], an int or float annotated with Number(...), and each of them | None."
        )
    return Field(field.name, kind, optional, spec, number)


def _strip_none(hint: Any) -> tuple[Any, bool]:
    """`X | None` as (X, True); anything else as (itself, False)."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        rest = [a for a in typing.get_args(hint) if a is not type(None)]
        if len(rest) == 1:
            return rest[0], True
    return hint, False


def _is_kind(field: Field, value: Any) -> bool:
    match field.kind, field.spec:
        case "tensor", Tensor() as spec:
            return isinstance(value, np.ndarray) and value.dtype.name in spec.dtypes
        case "tensors", Tensors() as spec:
            return isinstance(value, Mapping) and all(
                isinstance(k, str) and isinstance(a, np.ndarray) and a.dtype.name in spec.dtypes
                for k, a in value.items()
            )
        case "texts", _:
            return isinstance(value, tuple) and all(isinstance(text, str) for text in value)
        case "text", _:
            return isinstance(value, str)
        case "flag", _:
            return isinstance(value, bool)
        case "int", _:
            return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
        case _:
            return isinstance(value, float) and math.isfinite(value)


def bind_shape(
    owner: str, field: Field, spec: Tensor, shape: tuple[int, ...], sizes: dict[str, tuple[int, str]]
) -> None:
    """Raises ContractBreach where a shape is not as declared, or does not agree with those before it.

    sizes: each symbol's size and the field that gave it; what `shape` gives is added.
    """
    if len(shape) != len(spec.shape):
        raise ContractBreach(f"{owner}.{field.name} has shape {_tuple(shape)}; declared {field}")
    for want, size in zip(spec.shape, shape):
        if isinstance(want, int):
            if size != want:
                raise ContractBreach(f"{owner}.{field.name} has shape {_tuple(shape)}; declared {field}")
        elif sizes.setdefault(want, (size, field.name))[0] != size:
            other, first = sizes[want]
            raise ContractBreach(
                f"{owner}.{field.name} has {want} = {size} in shape {_tuple(shape)}, but {owner}.{first} has "
                f"{want} = {other}; declared {field}"
            )


def _show(value: Any) -> str:
    """A value in a few words, for an error line."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype.name} {_tuple(value.shape)}"
    if isinstance(value, Mapping):
        first = [f"{k!r}: {_show(v)}" for k, v in list(value.items())[:3]]
        return f"{type(value).__name__} {{{', '.join(first)}{', ...' if len(value) > 3 else ''}}}"
    text = repr(value).replace("\n", " ")
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def _tuple(shape: tuple[str | int, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
