"""State that must survive a crash: declared once, as attributes of a class, and saved and loaded here.

    class Client(Stateful):
        context: Kept[ClientContext]      # has a declared state of its own
        samples: Kept[dict[str, Tensor] | None]
        version: Kept[int]

Tensors, arrays, numbers, strings and enums, also as values of a dict, a list, a tuple, a set, a deque or a dataclass,
or None where the type says so; whatever has a declared state, and whatever has a `state_dict` (modules, optimizers).
The latter two are loaded in place. Tensors and arrays are saved by name, all else as JSON: nothing is pickled.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import sys
import types
from collections import deque
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Self, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedloom.errors import BadInput, FedloomError
from fedloom.methods.given import GIVEN, completed, trained
from fedloom.methods.undeclared import OURS, changed, marks, own_names
from fedloom.strict_json import parse

T = TypeVar("T")
Kept = Annotated[T, "kept"]
Arrays = dict[str, NDArray[Any]]
State = tuple[Arrays, dict[str, Any]]  # arrays by name; the rest, as JSON
ALLOWED = (
    "tensors, arrays, numbers, strings, enums, dicts, lists, tuples, sets, deques and dataclasses of these, any of "
    "them or None, and what has state_dict or is Stateful"
)


class HasStateDict(Protocol):
    """A module, an optimizer, a gradient scaler."""

    def state_dict(self) -> Mapping[str, Any]:
        """Tensors and numbers by name."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Takes up `state_dict()` again."""


class Stateful:
    """A thing whose attributes declared `Kept` are its state.

    Raises:
        FedloomError: at construction, of an attribute whose type cannot be saved; names class and attribute.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        kept(cls)
        return super().__new__(cls)

    def state(self) -> State:
        """Arrays by name, and the rest as JSON.

        Raises:
            FedloomError: a class that is not ours has changed an attribute that is not declared since the last call.
        """
        self._nothing_undeclared()
        arrays: Arrays = {}
        return arrays, _save(type(self), self, "", arrays)

    def _nothing_undeclared(self) -> None:
        if not (names := own_names(type(self))):
            return
        now = marks(self, names - kept(type(self)).keys())
        if lost := changed(vars(self).setdefault("_undeclared", now), now):
            raise FedloomError(
                f"{type(self).__name__}.{lost[0]} changes as the run goes on and is no declared state: a resumed run "
                f"would go on without it. Declare it in the class, `{lost[0]}: Kept[TYPE]` (fedloom.methods.state), or "
                f"call it `_{lost[0]}` if no number depends on it"
            )

    def load_state(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Take up `state()` again. FedloomError where it is the state of another class, or of another version."""
        _load(type(self), meta, "", arrays, self)

    def rebuild(self, attribute: str) -> Any:
        """The module or optimizer of that name, which the saved state holds and this object has not built yet."""
        raise FedloomError(f"the saved state of {type(self).__name__} holds {attribute!r}, which is not there to load")

    def restored(self) -> None:
        """Called when all is loaded: to renew what follows from it."""


_KEPT: dict[type, dict[str, Any]] = {}


def kept(cls: type) -> dict[str, Any]:
    """The declared state of a class and its bases: attribute to type."""
    if cls in _KEPT:
        return _KEPT[cls]
    hints = get_type_hints(cls, include_extras=True)
    found = {k: get_args(h)[0] for k, h in hints.items() if get_origin(h) is Annotated and "kept" in get_args(h)[1:]}
    for name, hint in found.items():
        if not _can_be_saved(hint):
            raise FedloomError(f"{cls.__name__}.{name}: state of type {hint} cannot be saved; allowed: {ALLOWED}")
    _KEPT[cls] = found
    return found


def write_state(state: State, path: Path) -> None:
    """As one safetensors file, the JSON in its header."""
    from safetensors.numpy import save_file

    arrays, meta = state
    save_file({k: np.asarray(v, order="C") for k, v in arrays.items()}, path, metadata={"state": json.dumps(meta)})


def read_state(path: Path) -> State:
    """What `write_state` wrote."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        meta = parse((file.metadata() or {}).get("state", "{}"), finite=False, halves=True, own=True)
        return {key: file.get_tensor(key) for key in file.keys()}, meta  # noqa: SIM118


# ------------------------------------------------------------------------------------------------------- by type

PLAIN = (bool, int, float, str)
MAPPINGS, SEQUENCES = (dict, Mapping), (list, tuple, set, deque)


def _bare(hint: Any) -> Any:
    """Without Annotated, and without None."""
    if get_origin(hint) is Annotated:
        return _bare(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        options = [a for a in get_args(hint) if a is not type(None)]
        return _bare(options[0]) if len(options) == 1 else hint
    return hint


def _can_be_saved(hint: Any) -> bool:
    hint = _bare(hint)
    origin, args = get_origin(hint) or hint, get_args(hint)
    if origin in MAPPINGS:
        return len(args) == 2 and _is_key(args[0]) and _can_be_saved(args[1])
    if origin in SEQUENCES:
        return bool(args) and all(_can_be_saved(a) for a in args if a is not Ellipsis)
    if origin is Literal or hint in (Tensor, *PLAIN) or origin is np.ndarray or _in_place(hint):
        return True
    if dataclasses.is_dataclass(hint):
        return all(_can_be_saved(h) for h in get_type_hints(hint, include_extras=True).values())
    return isinstance(hint, type) and issubclass(hint, enum.StrEnum)


def _is_key(hint: Any) -> bool:
    return hint in (str, int) or get_origin(hint) is Literal or (isinstance(hint, type) and issubclass(hint, str))


def _in_place(hint: Any) -> bool:
    """Of things that stay where they are: their state is loaded into them."""
    return isinstance(hint, type) and (
        issubclass(hint, Stateful) or all(hasattr(hint, name) for name in ("state_dict", "load_state_dict"))
    )


def _under(name: str, key: object) -> str:
    """The name of a part. A slash in a key would make two names alike."""
    if "/" in str(key):
        raise FedloomError(f"state {name!r} has the key {key!r}: keys may not hold '/'")
    return f"{name}/{key}" if name else str(key)


def _save(hint: Any, value: Any, name: str, arrays: Arrays) -> Any:
    """The JSON of a value; its tensors and arrays go into `arrays`, by names that begin with `name`."""
    hint = _bare(hint)
    if value is None:
        return None
    if hint is Tensor:
        arrays[name] = np.array(value.detach().cpu().numpy(), order="C")
        # The last bits of a convolution depend on how pictures lie in memory.
        return "tensor" if value.ndim != 4 or value.is_contiguous() else "channels_last"
    origin, args = get_origin(hint) or hint, get_args(hint)
    if origin is np.ndarray:
        arrays[name] = np.array(value, order="C")
        return "array"
    if origin in MAPPINGS:
        return {str(k): _save(args[1], v, _under(name, k), arrays) for k, v in value.items()}
    if origin in SEQUENCES:
        items = sorted(value) if origin is set else value
        return [_save(h, v, _under(name, n), arrays) for n, (h, v) in enumerate(zip(_each(args, len(items)), items))]
    if isinstance(value, Stateful):
        return {k: _save(h, getattr(value, k), _under(name, k), arrays) for k, h in kept(type(value)).items()}
    if _in_place(hint):
        return _save_dict(value, name, arrays)
    if dataclasses.is_dataclass(hint):
        hints = get_type_hints(hint, include_extras=True)
        return {k: _save(h, getattr(value, k), _under(name, k), arrays) for k, h in hints.items()}
    return hint(value) if hint in PLAIN else value


def _load(hint: Any, told: Any, name: str, arrays: Mapping[str, NDArray[Any]], current: Any) -> Any:
    """The value that `_save` was called with; current: what stands in its place now, loaded where it is so."""
    hint = _bare(hint)
    if _in_place(hint):
        if told is not None:
            _load_in_place(current, told, name, arrays)
        return current
    if told is None:
        return None
    if hint is Tensor:
        tensor = torch.from_numpy(np.array(arrays[name]))
        return tensor.contiguous(memory_format=torch.channels_last) if told == "channels_last" else tensor
    origin, args = get_origin(hint) or hint, get_args(hint)
    if origin is np.ndarray:
        return np.array(arrays[name])
    if origin in MAPPINGS:
        key = args[0] if isinstance(args[0], type) else str
        now = {str(k): v for k, v in current.items()} if current and _in_place(_bare(args[1])) else {}
        return {key(k): _load(args[1], v, _under(name, k), arrays, now.get(k)) for k, v in told.items()}
    if origin in SEQUENCES:
        hints = _each(args, len(told))
        items = [_load(h, v, _under(name, n), arrays, None) for n, (h, v) in enumerate(zip(hints, told))]
        return deque(items, current.maxlen) if origin is deque else origin(items)
    if dataclasses.is_dataclass(hint):
        fields = get_type_hints(hint, include_extras=True).items()
        made: Any = hint
        return made(**{k: _load(h, told[k], _under(name, k), arrays, None) for k, h in fields})
    return hint(told) if isinstance(hint, type) else told


def _each(args: tuple[Any, ...], n: int) -> list[Any]:
    """The types of n items: tuple[A, B] has one each, all others one for all."""
    return list(args) if len(args) == n and Ellipsis not in args else [args[0]] * n


def _load_in_place(thing: Any, told: Mapping[str, Any], name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    if not isinstance(thing, Stateful):
        _load_dict(thing, told, name, arrays)
        return
    hints = kept(type(thing))
    if told.keys() != hints.keys():
        raise _of_another_class(type(thing), told, hints)
    for key, hint in hints.items():
        current = getattr(thing, key)
        if current is None and told[key] is not None and _in_place(_bare(hint)):
            current = thing.rebuild(key)
        setattr(thing, key, _load(hint, told[key], _under(name, key), arrays, current))
    thing.restored()


def _of_another_class(kind: type, told: Collection[str], declared: Collection[str]) -> FedloomError:
    """The error for a saved state that has other attributes than the class declares."""
    what = f"the saved state of {kind.__name__}"
    if kind.__module__.partition(".")[0] in OURS:
        held, expected = (", ".join(sorted(names)) or "nothing" for names in (told, declared))
        return FedloomError(f"{what} holds {held}, expected {expected}: another version of fedloom has saved it")
    lacking, more = (", ".join(sorted({*a} - {*b})) for a, b in ((declared, told), (told, declared)))
    differs = " and ".join([f"lacks {lacking}"] * bool(lacking) + [f"holds {more}, no longer declared"] * bool(more))
    file = getattr(sys.modules.get(kind.__module__), "__file__", kind.__module__)
    return BadInput(f"{what} {differs}: {file} has changed since. Put it back, or begin a new run")


# -------------------------------------------------------------------------------------- modules and optimizers


def _save_dict(thing: HasStateDict, name: str, arrays: Arrays) -> dict[str, Any]:
    """Numbers of a state_dict as JSON, tensors into `arrays`."""
    if isinstance(thing, torch.optim.Optimizer):
        arrays |= {f"{name}/{k}": v for k, v in optimizer_state(thing).items()}
        return {}
    state = thing.state_dict()
    tensors = {k: v for k, v in state.items() if isinstance(v, Tensor)}
    saved, given = trained(thing, tensors)
    arrays |= {f"{name}/{k}": v.detach().cpu().numpy().copy() for k, v in saved.items()}
    return {k: v for k, v in state.items() if k not in tensors} | ({GIVEN: given} if given else {})


def _load_dict(thing: Any, told: Mapping[str, Any], name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    own = {k.removeprefix(f"{name}/"): v for k, v in arrays.items() if k.startswith(f"{name}/")}
    if isinstance(thing, torch.optim.Optimizer):
        load_optimizer_state(thing, own)
    else:
        rest, given = {k: v for k, v in told.items() if k != GIVEN}, told.get(GIVEN, {})
        tensors = {k: torch.from_numpy(np.array(v)) for k, v in own.items()}
        thing.load_state_dict({**rest, **completed(thing, tensors, given)})


def optimizer_state(optimizer: torch.optim.Optimizer) -> Arrays:
    """The optimizer's state as arrays called `N.key`."""
    return {
        f"{n}.{key}": v.cpu().numpy().copy()
        for n, entry in optimizer.state_dict()["state"].items()
        for key, v in entry.items()
        if v is not None  # SGD without momentum, or before its first step
    }


def load_optimizer_state(optimizer: torch.optim.Optimizer, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Put `optimizer_state` back, each moment in the memory layout of its parameter.

    The fused optimizer pairs moments with parameters as they lie in memory: a channels-last weight with a contiguous
    moment would be stepped wrongly.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in arrays.items():
        n, _, key = name.partition(".")
        like, moment = parameters[int(n)], torch.from_numpy(np.array(value))
        if moment.shape == like.shape:
            moment = torch.empty_like(like, dtype=moment.dtype).copy_(moment)
        state.setdefault(int(n), {})[key] = moment
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
