"""FedAvg: communication-efficient learning of deep networks from decentralized data (arXiv 1602.05629).

    down  the mean parameters of the clients that have the same architecture (in the first round: nothing)
    up    all parameters after private training, and the number of private samples

**Parameters of clients leave their sites.** FedMMKT's do not; this is the base that parameter methods are compared on.
Ours: clients of different architectures have nothing to average, so each average is taken over the clients whose
parameters have the same names and shapes, by number of samples. Optimisers keep their moments. What is sent besides
weights are the running statistics of normalisation layers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from fedloom.federation.base import Federation
from fedloom.federation.messages import Empty, Tensors
from fedloom.methods.base import ClientHalf, Info, Method, ServerHalf, Tools
from fedloom.methods.site import Inputs
from fedloom.models.settings import Frozen

Arrays = dict[str, NDArray[Any]]


class Settings(Frozen):
    """How long clients train between averages."""

    private_steps: int = Field(10, ge=0, description="private steps a round (E_loc)")
    extra_steps: int = Field(40, ge=0, description="more private steps: what others spend on shared samples")
    mu: float = Field(0.0, ge=0, description="weight of the distance to the average; above 0 it is FedProx")


@dataclass(frozen=True)
class Average:
    """Down: mean parameters."""

    parameters: Annotated[Mapping[str, NDArray[Any]], Tensors("float32")]


@dataclass(frozen=True)
class Update:
    """Up: a client's parameters, on how many samples, and its mean loss (nats)."""

    parameters: Annotated[Mapping[str, NDArray[Any]], Tensors("float32")]
    samples: int
    loss: float


class Client(ClientHalf):
    """Takes up the average, trains on private data, gives its parameters.

    Methods on a part of the parameters define `shares`; those with another loss define `objective`.
    """

    settings: Settings

    def fit(self, message: Average | Empty, *, round: int) -> Update:
        """Private steps from the average."""
        site, s = self.site, self.settings
        if isinstance(message, Average):
            self._take(message.parameters)
        objective = self.objective()
        loss = site.fit(site.private, s.private_steps + s.extra_steps, objective, round, "private")
        return Update(self.parameters(), len(site.private_labels), loss or 0.0)

    def objective(self) -> Callable[[Inputs, Tensor], Tensor]:
        """The loss of a round's steps: cross-entropy + mu / 2 ||w - w_average||^2 (FedProx, arXiv 1812.06127)."""
        site, mu = self.site, self.settings.mu
        trained = {n: p for n, p in site.learner.named_parameters() if p.requires_grad and self.shares(n)}
        start = {n: p.detach().clone() for n, p in trained.items()} if mu else {}

        def loss(inputs: Inputs, i: Tensor) -> Tensor:
            known = site.task_loss(inputs, i)
            if not mu:
                return known
            return (
                known
                + mu / 2 * torch.stack([(p - start[n]).square().sum() for n, p in trained.items()]).sum()
            )

        return loss

    def shares(self, name: str) -> bool:
        """Whether the parameter or statistic called `name` is exchanged. Here all are."""
        return True

    def parameters(self) -> Arrays:
        """What is exchanged: of what `shares` says, whatever is a number with a fraction."""
        state = self.site.learner.state_dict()
        shared = {k: v for k, v in state.items() if v.dtype == torch.float32 and self.shares(k)}
        return {k: v.detach().numpy().copy() for k, v in shared.items()}

    def _take(self, parameters: Mapping[str, NDArray[Any]]) -> None:
        if {k: v.shape for k, v in self.parameters().items()} != {k: v.shape for k, v in parameters.items()}:
            raise ValueError(f"{self.site.name} was sent the parameters of another architecture")
        given = {k: torch.from_numpy(np.array(v)) for k, v in parameters.items()}
        self.site.learner.load_state_dict(given, strict=False)  # counters of batches stay one's own


def mean_parameters(updates: Mapping[str, Update]) -> Arrays:
    """Mean by number of samples, over clients in the order of their names. ValueError where nobody has a sample."""
    total = sum(u.samples for u in updates.values())
    if total <= 0:
        raise ValueError("an average over no samples")
    first, *others = (updates[k] for k in sorted(updates))
    found = {k: v.astype(np.float64) * (first.samples / total) for k, v in first.parameters.items()}
    for u in others:
        for k, v in u.parameters.items():
            found[k] += v * (u.samples / total)
    return {k: np.asarray(v, dtype=np.float32) for k, v in found.items()}  # also of numbers without an axis


class Server(ServerHalf):
    """An average for each architecture. A client that is away for a round keeps its group's."""

    settings: Settings

    def __init__(self, tools: Tools, settings: Settings) -> None:
        super().__init__(tools, settings)
        self.groups: dict[str, Arrays] = {}  # by what the architecture is known by
        self.members: dict[str, str] = {}  # client -> its group

    def round(self, federation: Federation) -> Info:
        """Averages out, updates in."""
        messages = {
            k: Average(self.groups[self.members[k]]) if k in self.members else Empty()
            for k in federation.clients
        }
        replies = federation.ask("fit", messages, timeout=self.tools.timeout, quorum=self.tools.quorum)
        updates: dict[str, Update] = {r.client: r.message for r in replies if r.ok and r.message.samples > 0}
        fresh: dict[str, dict[str, Update]] = {}
        for client in sorted(updates):
            kind = known_by(updates[client].parameters)
            fresh.setdefault(kind, {})[client] = updates[client]
            self.members[client] = kind
        self.groups |= {kind: mean_parameters(group) for kind, group in fresh.items()}
        losses = [updates[k].loss for k in sorted(updates)]
        return Info(losses={"clients": float(np.mean(losses)) if losses else None})

    def state(self) -> Arrays:
        """The averages, and who has which."""
        kinds = sorted(self.groups)
        found = {f"{n} {k}": v for n, kind in enumerate(kinds) for k, v in self.groups[kind].items()}
        said = json.dumps({"kinds": kinds, "members": self.members}, sort_keys=True)
        return found | {"groups": np.frombuffer(said.encode(), np.uint8).copy()}

    def load_state(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Both again."""
        said = json.loads(np.asarray(tensors["groups"]).tobytes())
        self.members, self.groups = said["members"], {kind: {} for kind in said["kinds"]}
        for name, value in tensors.items():
            if name != "groups":
                n, _, key = name.partition(" ")
                self.groups[said["kinds"][int(n)]][key] = np.array(value)


def known_by(parameters: Mapping[str, NDArray[Any]]) -> str:
    """What clients of the same architecture have in common: names and shapes."""
    from hashlib import blake2b

    facts = json.dumps([(k, parameters[k].shape) for k in sorted(parameters)])
    return blake2b(facts.encode(), digest_size=8).hexdigest()


def _verbs(settings: Settings) -> dict[str, tuple[Any, Any]]:
    return {"fit": ((Average, Empty), Update)}


METHOD = Method("fedavg", Settings, Client, Server, _verbs, pairs=True, one_task=False)
