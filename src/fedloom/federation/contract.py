"""The wire contract of a method: which message each verb takes down and brings up, and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from fedloom.errors import BadInput
from fedloom.federation.codec import LARGEST, Described, describe, receive
from fedloom.federation.messages import ContractBreach, check_structure, check_values, fields_of
from fedloom.references import load_reference, reference_of

Direction = Literal["down", "up"]
RESERVED = ("state", "load_state")


class WireContract:
    """`verbs`: verb -> (request type or tuple of request types, reply type), each a message class.

    `common`: those of them that every client answers, which a method has not declared. A verb is the name of the
    client's method that answers it. Raises BadInput for a verb that is not a public method name and for a message
    class that is not well declared.

    `largest`: bytes that a message may have at most, in either direction; the two ends may differ.
    """

    largest: int = LARGEST

    def __init__(self, verbs: Mapping[str, tuple[type | tuple[type, ...], type]], common: Collection[str] = ()) -> None:
        self._own = tuple(verb for verb in verbs if verb not in common)
        self._types: dict[str, dict[Direction, tuple[type, ...]]] = {}
        for verb, (request, reply) in verbs.items():
            if not verb.isidentifier() or verb.startswith("_") or verb in RESERVED:
                raise BadInput(f"verb {verb!r} cannot be a client's method: give a public name, not one of {RESERVED}")
            self._types[verb] = {
                "down": request if isinstance(request, tuple) else (request,),
                "up": (reply,),
            }
        names: dict[str, type] = {}
        for message_type in (t for by in self._types.values() for types in by.values() for t in types):
            fields_of(message_type)
            if names.setdefault(message_type.__name__, message_type) is not message_type:
                raise BadInput(f"two message classes of one contract are called {message_type.__name__}")

    @property
    def verbs(self) -> tuple[str, ...]:
        return tuple(self._types)

    def types(self, verb: str, direction: Direction) -> tuple[type, ...]:
        """The message classes declared for a verb, down to a client or up from it. Raises ContractBreach."""
        if verb not in self._types:
            raise self._lacks(verb)
        return self._types[verb][direction]

    def receive(self, verb: str, payload: bytes, direction: Direction) -> tuple[Any, Described]:
        """The message in bytes that came from the other end, checked, and what it holds. Raises ContractBreach."""
        message, described = receive(payload, self.types(verb, direction), self.largest)
        self.check(verb, message, direction)
        return message, described

    def describe(self, verb: str, payload: bytes, direction: Direction, *, own: bool = False) -> Described:
        """What whole bytes of a declared message hold; own: they were encoded here. Raises ContractBreach."""
        return describe(payload, self.types(verb, direction), self.largest, own=own)

    def check(self, verb: str, message: Any, direction: Direction) -> None:
        """Raises ContractBreach unless `message` is of a declared type and each field is as declared."""
        allowed = self.types(verb, direction)
        if type(message) not in allowed:
            if direction == "down" and verb not in self._own:  # meant for a verb that the method forgot to declare
                raise self._lacks(verb)
            names = " or ".join(t.__name__ for t in allowed)
            raise ContractBreach(f"verb {verb!r} {direction}: message is {type(message).__name__}; declared {names}")
        try:
            check_structure(message)
            check_values(message)
        except ContractBreach as breach:
            raise ContractBreach(f"verb {verb!r} {direction}: {breach}") from None

    def _lacks(self, verb: str) -> ContractBreach:
        return ContractBreach(f"the contract has no verb {verb!r}, allowed: {', '.join(self._own) or 'none'}")

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """What may cross, for people: (verb, direction, message, field, declared)."""
        return [
            (verb, direction, t.__name__, field.name, str(field))
            for verb, by in self._types.items()
            for direction, types in by.items()
            for t in types
            for field in fields_of(t)
        ]

    def to_names(self) -> dict[str, dict[str, list[str]]]:
        """The contract as importable names, for another process. Raises BadInput for a class without one."""
        return {
            verb: {direction: [reference_of(t, "message") for t in types] for direction, types in by.items()}
            for verb, by in self._types.items()
        }

    @classmethod
    def from_names(cls, names: Mapping[str, Mapping[str, list[str]]]) -> WireContract:
        """The contract that `to_names` wrote."""
        return cls({verb: (tuple(map(_imported, by["down"])), _imported(by["up"][0])) for verb, by in names.items()})


def _imported(name: str) -> type:
    found = load_reference(name, "message")
    assert isinstance(found, type)
    return found
