"""Values: every number that may cross has a bound, declared or not, at both ends."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fedloom.errors import BadInput
from fedloom.federation import ContractBreach, Empty, Number, Tensor, Tensors, WireContract
from fedloom.federation.messages import LIMIT, NUMBER_LIMIT, fields_of
from fedloom.methods.base import load_method
from fedloom.methods.catalogue import CATALOGUE


@dataclass(frozen=True)
class Said:
    z: Annotated[NDArray[Any], Tensor("float32", ("S", "D"))]
    labels: Annotated[NDArray[Any], Tensor("int32", ("S",), low=-1, high=9)]
    sure: Annotated[NDArray[Any], Tensor(("float16", "float32"), ("S",), low=0, high=1)]
    logits: Annotated[NDArray[Any], Tensor("float32", ("S", "C"), finite=False)]
    model: Annotated[Mapping[str, NDArray[Any]], Tensors(("float32", "int64"))]
    samples: Annotated[int, Number(low=0, high=100)]
    loss: float
    share: Annotated[float | None, Number(low=0, high=1)] = None


CONTRACT = WireContract({"say": (Empty, Said)})
GOOD = Said(
    np.full((2, 3), -LIMIT, np.float32),
    np.array([-1, 9], np.int32),
    np.array([0, 1], np.float16),
    np.array([[1, np.nan], [np.inf, -5]], np.float32),
    {"w": np.ones(3, np.float32), "n": np.array([2**60])},
    100,
    1e30,
)


def of(like: NDArray[Any], value: float) -> NDArray[Any]:
    changed = like.copy()
    changed.flat[-1] = value
    return changed


def test_what_is_declared_passes() -> None:
    CONTRACT.check("say", GOOD, "up")
    CONTRACT.check("say", replace(GOOD, share=1.0, logits=np.full((2, 0), 0, np.float32)), "up")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"z": of(GOOD.z, 1e20)}, "Said.z holds 1e+20; declared -1000000 to 1000000"),
        ({"z": of(GOOD.z, np.nan)}, "Said.z holds NaN or infinity in 1 of 6 values; declared finite"),
        ({"labels": of(GOOD.labels, 10)}, "Said.labels holds 10; declared -1 to 9"),
        ({"labels": of(GOOD.labels, -2)}, "Said.labels holds -2; declared -1 to 9"),
        ({"sure": of(GOOD.sure, -0.5)}, "Said.sure holds -0.5; declared 0 to 1"),
        ({"logits": of(GOOD.logits, 1e20)}, "Said.logits holds 1e+20; declared -1000000 to 1000000"),
        ({"model": {"w": np.full(3, 1e20, np.float32)}}, "Said.model[w] holds 1e+20; declared -1000000 to 1000000"),
        ({"samples": -1}, "Said.samples is -1; declared 0 to 100"),
        ({"samples": 2**62}, "Said.samples is 4.61169e+18; declared 0 to 100"),
        ({"loss": 1e300}, "Said.loss is 1e+300; declared -1e+30 to 1e+30"),
        ({"share": 1.5}, "Said.share is 1.5; declared 0 to 1"),
    ],
)
def test_what_is_beyond_is_refused_in_one_line(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ContractBreach) as caught:
        CONTRACT.check("say", replace(GOOD, **change), "up")
    assert str(caught.value) == f"verb 'say' up: {told}"


@dataclass(frozen=True)
class Mistaken:
    text: Annotated[str, Number(low=0)]


def test_a_text_is_no_number() -> None:
    with pytest.raises(BadInput, match=r"Mistaken\.text"):
        WireContract({"say": (Empty, Mistaken)})


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_number_of_every_method_is_bounded(name: str) -> None:
    """Of what clients send; integers with no bound of their own are only those that the receiver compares."""
    method, fixed = load_method(name)
    contract = method.contract(method.settings(**fixed))
    for verb in contract.verbs:
        for field in (f for t in contract.types(verb, "up") for f in fields_of(t)):
            if field.kind in ("text", "texts", "flag") or (field.spec and set(field.spec.dtypes) == {"bool"}):
                continue
            low, high = field.bounds(field.kind == "float" or "float32" in (field.spec.dtypes if field.spec else ()))
            assert math.isfinite(high), (verb, field)
            assert max(abs(low), abs(high)) <= (NUMBER_LIMIT if field.kind == "float" else 2**31), (verb, field)
