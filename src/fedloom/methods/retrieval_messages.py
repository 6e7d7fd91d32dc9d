"""What crosses the wire in the methods on representations of public pairs, and what can be set in all of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated, Any

from numpy.typing import NDArray
from pydantic import Field

from fedloom.config.models import Frozen
from fedloom.federation.messages import Tensor as Wire
from fedloom.functional.similarity import Distance
from fedloom.methods.robust import AggregateSettings
from fedloom.tasks import SINGLE_MODALITY, ClientTask, Modality

Array = NDArray[Any]
MODALITIES = (Modality.IMAGE, Modality.TEXT)
TASKS = frozenset({*SINGLE_MODALITY, ClientTask.RETRIEVAL})  # of the clients that these methods serve


class RetrievalSettings(Frozen):
    """How large the public set is, and how long everybody learns in a round."""

    public: int = Field(600, ge=2, description="P, public pairs (as many as the data has, if fewer)")
    private_steps: int = Field(30, ge=0, description="client steps on private data a round")
    shared_steps: int = Field(20, ge=0, description="client steps on public pairs a round")
    server_steps: int = Field(30, ge=0, description="the server's matching steps a round")
    distill_steps: int = Field(20, ge=0, description="the server's distillation steps a round")
    server_rate: float = Field(1e-3, gt=0, description="AdamW's rate at the server")
    gamma: float = Field(0.4, ge=0, description="gamma, weight of the distillation")
    together: bool = Field(
        True,
        description="each distillation step is a matching step too; false: distillation alone, as in the papers",
    )
    spread: float = Field(
        0.5, ge=0, description="weight of the term that spreads the classes' weights, at clients that classify"
    )
    margin: float = Field(0.0, ge=0, description="what the true class's logit is lowered by in training, there")
    distance: Distance = Field(
        "mse", description="of the distillation: mse over all elements (the authors' code), or l2 a sample"
    )


class EnsembleSettings(RetrievalSettings, AggregateSettings):
    """Of the methods that put clients' representations together."""


# ------------------------------------------------------------------------------------------------------ messages


@dataclass(frozen=True)
class PublicSet:
    """Down, once: the public pairs, or the side of them that a client has a model for; name: what they are known by."""

    name: str
    images: Annotated[Array, Wire("uint8", ("P", "H", "W", 3))] | None = None
    texts: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Views:
    """Up: the client's representations of the public set called `public`, and the mean loss (nats) of its own task."""

    public: str
    loss: float
    image: Annotated[Array, Wire("float32", ("P", "D"))] | None = None
    text: Annotated[Array, Wire("float32", ("P", "D"))] | None = None


@dataclass(frozen=True)
class GlobalRepresentations:
    """Down: representations of the public set that the client is to learn from; None: there are none of that kind."""

    public: str
    image: Annotated[Array, Wire("float32", ("P", "D"))] | None = None
    text: Annotated[Array, Wire("float32", ("P", "D"))] | None = None


def kinds_of(modality: str) -> tuple[Modality, ...]:
    """What a client of that modality has encoders for."""
    return ClientTask(modality).spec.reads


def partner(m: Modality) -> Modality:
    """The modality of a pair's other part."""
    return Modality.TEXT if m == Modality.IMAGE else Modality.IMAGE


def name_of(pairs: Any) -> str:
    """What a public set is known by: a digest of its pictures and texts, in their order."""
    digest = hashlib.sha256(pairs.images.tobytes())
    digest.update("\x1f".join(pairs.texts).encode())
    return digest.hexdigest()[:16]
