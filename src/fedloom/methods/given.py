"""Weights of a library that no method trains: a saved state names them by digest instead of holding them.

A model that is built again has them already. Without this, each round of six clients on MiniLM and EfficientNet-lite
would write 350 MB.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from fedloom.errors import FedloomError

GIVEN = "weights as given"  # in a module's state: the names' beginnings, and the digests


def trained(thing: Any, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Of a module's tensors by name: those that are to be saved, and the digests of backbones that are not.

    A backbone whose weights are no longer those it was given, as after averaging, is saved.
    """
    unchanged = {at: part.given for at, part in _parts(thing) if part.backbone_digest() == part.given}
    return {k: v for k, v in tensors.items() if not k.startswith(tuple(unchanged))}, unchanged


def completed(thing: Any, tensors: Mapping[str, Tensor], digests: Mapping[str, str]) -> dict[str, Tensor]:
    """What `trained` left, with the weights that the module has been given now.

    Raises:
        FedloomError: they are others.
    """
    given = {at: part.given for at, part in _parts(thing)}
    for at, digest in digests.items():
        if given.get(at) != digest:
            raise FedloomError(
                f"the saved state stands on weights {digest[:12]} in {at}, and this model has "
                f"{given.get(at, 'none')[:12]}: `fedloom fetch` has brought other weights since. Begin a new run"
            )
    own = {k: v for k, v in thing.state_dict().items() if k.startswith(tuple(digests))} if digests else {}
    return {**own, **tensors}


def prefixes(thing: Any) -> tuple[str, ...]:
    """What the names of tensors begin with that are a library's weights, the same for everybody."""
    return tuple(at for at, _ in _parts(thing))


def _parts(thing: Any) -> Iterator[tuple[str, Any]]:
    """Backbones with given weights: what the names of their tensors begin with, and the part that knows the digest."""
    if not isinstance(thing, nn.Module):
        return
    for name, part in thing.named_modules():
        if getattr(part, "given", ""):
            yield f"{name}.backbone." if name else "backbone.", part
