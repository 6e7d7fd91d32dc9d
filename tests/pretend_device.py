"""The tensors of a pretended device, and what happens where they meet: see `pretend`."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = "lazy:0"
OTHER = "lazy:1"
CPU = torch.device("cpu")

# Beside what torch calls elementwise, these take a CPU tensor without axes.
ELEMENTWISE = {"fill_", "index_put", "index_put_", "_index_put_impl_", "masked_fill", "masked_fill_"}
ANYWHERE = {
    "copy_",
    "_to_copy",
    "_pack_padded_sequence",
    "_pad_packed_sequence",
}  # may mix devices as they like
INDEXING = {
    "index",
    "index_put",
    "index_put_",
    "_index_put_impl_",
    "_unsafe_index",
}  # CPU indices are allowed
_Generator = torch.Generator


class Pretended(Tensor):
    """A tensor that says it is on a pretended device; `held` is the CPU's, with the numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor, device: torch.device) -> Pretended:
        new: Pretended = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=device,
        )
        new.held = held
        return new

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(function, args, kwargs or {})

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError(f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() first")
        return self.held.numpy(force=True)

    def tolist(self) -> Any:
        return self.held.tolist()

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, other: Tensor) -> None:
        replace(self, other)

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def untyped_storage(self) -> Any:
        return self.held.untyped_storage()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            new = Pretended(self.held.clone(), self.device).requires_grad_(self.requires_grad)
            new.__dict__.update({name: value for name, value in vars(self).items() if name != "held"})
            new.grad = None if self.grad is None else self.grad.clone()
            memo[id(self)] = new
        return memo[id(self)]


# ------------------------------------------------------------------------------------------------- one operation


def mapped(change: Callable[[Tensor], Any], tree: Any) -> Any:
    """What an operation is given or gives, its tensors changed. Torch's own `tree_map` takes most of a test's time."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, tuple):
        return tuple([mapped(change, leaf) for leaf in tree])
    if isinstance(tree, list):
        return [mapped(change, leaf) for leaf in tree]
    if isinstance(tree, dict):
        return {key: mapped(change, leaf) for key, leaf in tree.items()}
    return tree


def computed(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation on held tensors; its results are where the device would have put them."""
    name = function.overloadpacket.__name__
    tensors: list[Tensor] = []
    mapped(tensors.append, (args, kwargs))
    place = place_of(function, name, tensors)
    if kwargs.get("device") is not None:
        place = known(torch.device(kwargs["device"]))
    if place.type == "lazy" and "device" in kwargs:
        kwargs = kwargs | {"device": CPU} | ({"pin_memory": None} if "pin_memory" in kwargs else {})
    check_generator(kwargs.get("generator"), place)
    homes = {id(t.held): t for t in tensors if isinstance(t, Pretended)}
    held = mapped(lambda t: t.held if isinstance(t, Pretended) else t, (args, kwargs))
    found = function(*held[0], **held[1])
    if place.type != "lazy":
        return found

    def home(leaf: Tensor) -> Tensor:
        own = homes.get(id(leaf))  # an operation in place gives its argument back
        if own is not None and own.shape != leaf.shape:
            raise NotImplementedError(f"{function} changes the shape in place; no pretended device does that")
        return Pretended(leaf, place) if own is None else own

    if name in ("_pack_padded_sequence", "_pad_packed_sequence"):  # the lengths stay with the CPU
        return home(found[0]), found[1]
    if name == "copy_" and not isinstance(args[0], Pretended):
        return args[0]
    return mapped(home, found)


def place_of(function: Any, name: str, tensors: list[Tensor]) -> torch.device:
    """Where an operation on these tensors happens. RuntimeError where a GPU would not do it."""
    places = {t.device for t in tensors}
    away = sorted((place for place in places if place.type == "lazy"), key=str)
    if name in ANYWHERE:
        return tensors[0].device
    if torch.device("meta") in places:
        return torch.device("meta")  # torch decides
    if len(away) > 1:
        raise mixed(function, places)
    if not away:
        return CPU
    if CPU in places and name in INDEXING:
        if tensors[0].device == CPU:
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
    elif CPU in places:
        elementwise = torch.Tag.pointwise in function.tags or name.startswith("_foreach") or name in ELEMENTWISE
        if not elementwise or any(t.ndim for t in tensors if t.device == CPU):
            raise mixed(function, places)
    return away[0]


def mixed(function: Any, places: set[torch.device]) -> RuntimeError:
    names = " and ".join(sorted(map(str, places)))
    return RuntimeError(f"Expected all tensors to be on the same device, but {function} got {names}")


def known(device: torch.device) -> torch.device:
    """`device` with its number. RuntimeError for one that is not there."""
    if device.type != "lazy":
        return device
    if (device.index or 0) > 1:
        raise RuntimeError(f"invalid device ordinal: {device}; there are {DEVICE} and {OTHER}")
    return torch.device("lazy", device.index or 0)


def check_generator(generator: Any, place: torch.device) -> None:
    if generator is None:
        return
    own = Generator.alive.get(generator._cdata)  # torch hands the operation another object for the same generator
    device = CPU if own is None else own.device
    if device.type != place.type:
        raise RuntimeError(f"Expected a '{place.type}' device type for generator but found '{device.type}'")


def replace(tensor: Tensor, other: Tensor) -> None:
    """`tensor.data = other`, also across devices: the object stays, and so do its gradient and attributes."""
    with torch.no_grad():
        new = other.detach().requires_grad_(tensor.requires_grad)
        vars(new).update({name: value for name, value in vars(tensor).items() if name != "held"})
        gradient, tensor.grad = tensor.grad, None
        torch.utils.swap_tensors(tensor, new)
        if gradient is not None and gradient.device == tensor.device:
            tensor.grad = gradient


class Dispatched(TorchDispatchMode):
    """Sees operations that have no pretended argument: factories and `.to(device)`."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(function, args, kwargs or {})


# --------------------------------------------------------------------------------------------------- generators


class _AnyGenerator(type(_Generator)):
    def __instancecheck__(cls, thing: object) -> bool:
        return isinstance(thing, _Generator)


class Generator(_Generator, metaclass=_AnyGenerator):
    """`torch.Generator`, for pretended devices too. One of those draws the CPU's numbers."""

    alive: ClassVar[weakref.WeakValueDictionary[int, Generator]] = weakref.WeakValueDictionary()

    def __new__(cls, device: Any = "cpu") -> Any:
        place = known(torch.device(device))
        if place.type != "lazy":
            return _Generator(device)
        new = _Generator.__new__(cls)
        new.place = place
        cls.alive[new._cdata] = new
        return new

    @property
    def device(self) -> torch.device:
        return self.place
