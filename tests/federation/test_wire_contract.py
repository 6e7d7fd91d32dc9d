from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from test_wire_codec import everything, opinion
from toy_clients import CONTRACT, Empty, Everything, Opinion, Probe, Wish

from fedloom.errors import BadInput
from fedloom.federation import ContractBreach, Tensor, Tensors, WireContract
from fedloom.federation.messages import fields_of

PROBE = Probe(np.zeros((2, 4, 4, 3), np.uint8))
ALL = WireContract({"show": (Everything, Opinion)})


def test_declared_messages_pass() -> None:
    CONTRACT.check("infer", PROBE, "down")
    CONTRACT.check("infer", opinion(), "up")
    CONTRACT.check("echo", Empty(), "down")  # one of two
    ALL.check("show", everything(noisy=np.array([np.nan], np.float32)), "down")


@pytest.mark.parametrize(
    ("verb", "message", "direction", "says"),
    [
        ("infr", PROBE, "down", "the contract has no verb 'infr', allowed: infer, "),
        ("infer", PROBE, "up", "message is Probe; declared Opinion"),
        ("echo", PROBE, "down", "message is Probe; declared Blob or Empty"),
        ("infer", {"images": 1}, "down", "message is dict"),
        ("infer", Probe([1]), "down", "Probe.images is list [1]; declared uint8 (S, 4, 4, 3)"),  # type: ignore[arg-type]
        ("infer", Probe(np.zeros((2, 4, 4, 3))), "down", "is float64 (2, 4, 4, 3); declared uint8"),
        ("infer", Probe(np.zeros((2, 4, 5, 3), np.uint8)), "down", "has shape (2, 4, 5, 3); declared uint8"),
        ("infer", Probe(np.zeros((2, 4, 4), np.uint8)), "down", "has shape (2, 4, 4); declared"),
        (
            "infer",
            Opinion(opinion().representations, opinion(99).labels, opinion().entropies),
            "up",
            "Opinion.labels has S = 99 in shape (99,), but Opinion.representations has S = 100",
        ),
        ("infer", replace(opinion(), entropies=np.full(100, np.nan, np.float32)), "up", "in 100 of 100"),
        ("retrain", Wish(3), "down", "Wish.what is int 3; declared str"),  # type: ignore[arg-type]
        ("retrain", Wish("", float("inf")), "down", "Wish.seconds is float inf; declared finite float"),
        ("retrain", Wish("", 1), "down", "Wish.seconds is int 1"),
        ("retrain", Wish(None), "down", "Wish.what is NoneType"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_breaches_are_one_line_that_names_all(verb: str, message: Any, direction: Any, says: str) -> None:
    with pytest.raises(ContractBreach) as caught:
        CONTRACT.check(verb, message, direction)
    assert says in str(caught.value)
    assert repr(verb) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_verb_of_every_client_is_none_that_the_method_declares() -> None:
    """Asked with another message than its own it was meant for a verb that is missing; an answer is judged as any."""
    contract = WireContract({"train": (Wish, Empty), "fit": (Probe, Empty)}, common=["train"])
    contract.check("train", Wish("more"), "down")
    for verb in ("train", "fitt"):
        with pytest.raises(ContractBreach, match=f"^the contract has no verb '{verb}', allowed: fit$"):
            contract.check(verb, Empty(), "down")
    with pytest.raises(ContractBreach, match="message is Wish; declared Empty"):
        contract.check("train", Wish("more"), "up")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": {"w": np.zeros(2)}}, "dict {'w': float64 (2,)}; declared float32 or int64 arrays by name"),
        ({"model": {1: np.zeros(2, np.float32)}}, "arrays by name"),
        (
            {"model": {"w": np.full(2, np.inf, np.float32)}},
            "Everything.model[w] holds NaN or infinity in 2 of 2",
        ),
        ({"captions": ["a"]}, "list ['a']; declared tuple of str"),
        ({"captions": ("a", 1)}, "declared tuple of str"),
        ({"count": True}, "bool True; declared int"),
        ({"count": 2**63}, "declared int"),
        ({"last": 1}, "int 1; declared bool"),
        ({"note": 5}, "declared str or None"),
        ({"extra": np.arange(3)}, "N = 3"),
        ({"scalar": np.float64(1.0)}, "declared float64 ()"),
        ({"mask": np.zeros(11, np.int64)}, "declared bool (N,)"),
    ],
)
def test_every_kind_is_checked(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ContractBreach) as caught:
        ALL.check("show", everything(**changes), "down")
    assert says in str(caught.value)


@dataclass
class Thawed:
    text: str


@dataclass(frozen=True)
class Loose:
    array: NDArray[Any]


@dataclass(frozen=True)
class Anything:
    value: Any


@dataclass(frozen=True)
class Mixed:
    value: str | int


@dataclass(frozen=True)
class Mistaken:
    value: Annotated[Mapping[str, NDArray[Any]], Tensor("float32", ("N",))]


@dataclass(frozen=True)
class Untyped:
    values: Annotated[dict[str, NDArray[Any]], Tensors("float32")]
    others: dict[str, float]


@pytest.mark.parametrize("bad", [Thawed, Loose, Anything, Mixed, Mistaken, Untyped, int])
def test_what_may_not_cross_fails_at_declaration(bad: type) -> None:
    with pytest.raises(BadInput, match=bad.__name__):
        WireContract({"go": (bad, Empty)})


@pytest.mark.parametrize("verb", ["state", "load_state", "_go", "__init__", "a b", ""])
def test_verbs_are_public_methods(verb: str) -> None:
    with pytest.raises(BadInput, match="verb"):
        WireContract({verb: (Empty, Empty)})


def test_unknown_dtype_fails_at_declaration() -> None:
    with pytest.raises(BadInput, match="bfloat16"):
        Tensor("bfloat16", ("N",))
    with pytest.raises(BadInput, match="object"):
        Tensors("object")


def test_two_classes_of_one_name_are_refused() -> None:
    other = type("Wish", (Wish,), {})
    with pytest.raises(BadInput, match="Wish"):
        WireContract({"a": (Wish, Empty), "b": (other, Empty)})


def test_declared_fields_are_derived_once() -> None:
    assert fields_of(Everything) is fields_of(Everything)
    assert [f.name for f in fields_of(Everything) if f.optional] == ["extra", "note", "noisy"]


def test_names_and_rows() -> None:
    again = WireContract.from_names(CONTRACT.to_names())
    assert again.rows() == CONTRACT.rows()
    assert ("infer", "up", "Opinion", "labels", "int32 (S,)") in CONTRACT.rows()

    @dataclass(frozen=True)
    class Local:
        text: str

    with pytest.raises(BadInput, match="Local"):
        WireContract({"go": (Local, Empty)}).to_names()
