"""Who sends to whom: a star around a server, or a graph of peers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fedloom.config.base import Frozen, Seed

Kind = Literal["star", "ring", "regular", "complete"]


class TopologySettings(Frozen):
    """The graph that messages go along; the clients are its peers, in the order of their names' listing."""

    kind: Kind = Field(
        "star", description="star: a server in the middle; without one: ring, regular (random), complete"
    )
    degree: int | None = Field(None, ge=2, description="of kind = regular: neighbours of each peer")
    seed: Seed = Field(0, description="of the random regular graph")
    host: Literal["moves"] | None = Field(
        None, description="moves: the server half, with its generator, goes from peer to peer; null: each has its own"
    )

    @model_validator(mode="after")
    def _fitting(self) -> TopologySettings:
        if (self.kind == "regular") != (self.degree is not None):
            allowed = "2 or more" if self.kind == "regular" else "null"
            raise ValueError(f"degree = {self.degree} with kind = {self.kind}: allowed: {allowed}")
        if self.kind == "star" and self.host:
            raise ValueError("host = moves with kind = star: a star has its server; allowed: ring, regular, complete")
        return self
