"""What crosses the wire in FedMMKT: the messages M1 to M3 of a round. S samples, M of them kept, C classes, width D."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from numpy.typing import NDArray

from fedloom.federation.messages import Tensor as Wire
from fedloom.methods.base import Done
from fedloom.methods.fedmmkt_settings import FedMMKTSettings

Array = NDArray[Any]


@dataclass(frozen=True)
class FedMMKTPictures:
    """M1 to image clients: the round's synthetic pictures. `view_seed` makes all clients see the same views (u-)."""

    images: Annotated[Array, Wire("uint8", ("S", "H", "W", 3))]
    view_seed: int


@dataclass(frozen=True)
class FedMMKTCaptions:
    """M1 to text clients: their captions, in the same order."""

    texts: tuple[str, ...]
    view_seed: int


@dataclass(frozen=True)
class FedMMKTOutputs:
    """M2: r_i, argmax label (-1: no finite answer) and entropy in nats."""

    representations: Annotated[Array, Wire("float32", ("S", "D"))]
    labels: Annotated[Array, Wire("int32", ("S",))]
    entropies: Annotated[Array, Wire("float32", ("S",))]


@dataclass(frozen=True)
class FedMMKTViewedOutputs:
    """M2 of u-FedMMKT: as `Opinion`, with r'_i of an augmented view."""

    representations: Annotated[Array, Wire("float32", ("S", "D"))]
    augmented: Annotated[Array, Wire("float32", ("S", "D"))]
    labels: Annotated[Array, Wire("int32", ("S",))]
    entropies: Annotated[Array, Wire("float32", ("S",))]


@dataclass(frozen=True)
class FedMMKTLogits:
    """M2 of l-FedMMKT. A row that is not finite is no answer."""

    logits: Annotated[Array, Wire("float32", ("S", "C"), finite=False)]


@dataclass(frozen=True)
class FedMMKTTargets:
    """M3: which samples were kept, their labels and, except in l-FedMMKT, their fused representations R_i."""

    kept: Annotated[Array, Wire("bool", ("S",))]
    labels: Annotated[Array, Wire("int32", ("M",))]
    representations: Annotated[Array, Wire("float32", ("M", "D"))] | None = None


_OPINION = {"full": FedMMKTOutputs, "u": FedMMKTViewedOutputs, "l": FedMMKTLogits}


def verbs(settings: FedMMKTSettings) -> Mapping[str, tuple[Any, Any]]:
    """Verb to what goes down and what comes up, for the variant that is set."""
    return {
        "infer": ((FedMMKTPictures, FedMMKTCaptions), _OPINION[settings.variant]),
        "retrain": (FedMMKTTargets, Done),
    }
