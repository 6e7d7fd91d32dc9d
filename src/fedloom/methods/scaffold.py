"""SCAFFOLD: stochastic controlled averaging for federated learning (arXiv 1910.06378).

    down  the mean parameters x, and the server's control variate c (in the first round: nothing)
    up    the parameters y_i after private training, the change of the client's control variate, and the number of
          private samples

Clients of unlike data drift towards their own optima. Each therefore steps along what its own gradient differs from
its own usual direction c_i, plus the usual direction c of all (option II of the paper):

    y_i <- y_i - eta (g_i(y_i) - c_i + c),       K times
    c_i+ = c_i - c + (x - y_i) / (K eta),        x <- x + eta_g mean_i (y_i - x),    c <- c + |S|/N mean_i (c_i+ - c_i)

No code of the authors' was found. Ours: means are by number of samples, as FedAvg's here, of x and of c alike, or the
corrections of a round would not cancel (with equal numbers they are the paper's); clients that have never been heard of
have no part in c. A step of SGD with momentum m moves eta / (1 - m) in total, so that this is eta above: exact once the
velocity is steady, too little in the first steps. The weight decay is part of g_i; what is clipped is the corrected
gradient. Running statistics of normalisation layers are averaged as FedAvg does. Multimodal clients have control
variates of what they own, and the N of each parameter is its owners. The first round's x is the mean itself: nobody
knows yet what to step from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from fedloom.federation.messages import Count, Empty, Tensors
from fedloom.methods import fedavg
from fedloom.methods.base import ServerContext
from fedloom.methods.context import ClientContext
from fedloom.methods.fedavg import JOINT
from fedloom.methods.robust import bounded, combined_parameters
from fedloom.methods.state import Arrays, Kept
from fedloom.models.clients.multimodal import group_of
from fedloom.tasks import ClientTask


class ScaffoldSettings(fedavg.FedAvgSettings):
    """FedAvg's, with the server's step."""

    secure: Literal[False] = Field(False, description="no: its server needs more than sums")
    global_rate: float = Field(1.0, gt=0, description="the server's step towards the mean of the round (eta_g)")


@dataclass(frozen=True)
class ScaffoldTargets:
    """Down: mean parameters x, and c of those that are trained."""

    parameters: Annotated[Mapping[str, NDArray[Any]], Tensors("float32")]
    control: Annotated[Mapping[str, NDArray[Any]], Tensors("float32")]


@dataclass(frozen=True)
class ScaffoldUpdate:
    """Up: a client's parameters y_i, the change c_i+ - c_i, on how many samples, and its mean loss (nats)."""

    parameters: Annotated[Mapping[str, NDArray[Any]], Tensors("float32")]
    control: Annotated[Mapping[str, NDArray[Any]], Tensors("float32")]
    samples: Count
    loss: float


class ScaffoldClient(fedavg.FedAvgClient):
    """Trains along corrected gradients; keeps c_i."""

    settings: ScaffoldSettings
    control: Kept[dict[str, Tensor]]  # c_i; what is not there is 0

    def __init__(self, context: ClientContext, settings: ScaffoldSettings) -> None:
        super().__init__(context, settings)
        self.control = {}

    def fit(self, message: ScaffoldTargets | Empty, *, round: int) -> ScaffoldUpdate:  # type: ignore[override]
        """Private steps from x, and the new c_i."""
        given: Mapping[str, NDArray[Any]] = {}
        if isinstance(message, ScaffoldTargets):
            self.take(message.parameters)
            given = message.control
        x = {n: p.detach().cpu().clone() for n, p in self.trained()}
        c = {n: torch.from_numpy(np.array(given[n])) if n in given else torch.zeros_like(x[n]) for n in x}
        own = {n: self.control.get(n, torch.zeros_like(x[n])) for n in x}
        loss = self.steps(self.objective(), round, self._corrected({n: c[n] - own[n] for n in x}))
        far = self._far()
        change = {
            n: (x[n] - p.detach().cpu()) / far - c[n] if far else torch.zeros_like(c[n]) for n, p in self.trained()
        }
        self.control = {n: own[n] + change[n] for n in x}
        sent = {n: np.ascontiguousarray(v.numpy()) for n, v in change.items()}
        return ScaffoldUpdate(self.parameters(), sent, len(self.context.private_labels), loss)

    def _corrected(self, correction: Mapping[str, Tensor]) -> Callable[[], None]:
        """Adds c - c_i to the gradients; a stream that a batch has nothing of makes no step, and gets nothing."""
        there = [(p, correction[name].to(p.device)) for name, p in self.trained()]

        def adjust() -> None:
            for p, along in there:
                if p.grad is not None:
                    p.grad.add_(along)

        return adjust

    def _far(self) -> float:
        """How far K steps along a gradient of 1 lead: K eta / (1 - m); 0 where there is nothing to train on."""
        s, sgd = self.settings, self.context.optimizer.param_groups[0]
        steps = s.private_steps + s.extra_steps if len(self.context.private_labels) else 0
        return float(steps * sgd["lr"] / (1 - sgd["momentum"]))


class ScaffoldServer(fedavg.FedAvgServer):
    """An average and a control variate for each architecture."""

    settings: ScaffoldSettings
    controls: Kept[dict[str, Arrays]]  # c, by what the architecture is known by
    heard: Kept[dict[str, int]]  # client -> number of its samples, of all that have ever sent a change

    def __init__(self, context: ServerContext, settings: ScaffoldSettings) -> None:
        super().__init__(context, settings)
        self.controls, self.heard = {}, {}

    def message(self, client: str, modality: str) -> ScaffoldTargets | Empty:  # type: ignore[override]
        """x and c of what the client has."""
        average = super().message(client, modality)
        if isinstance(average, Empty):
            return average
        control = self.controls[self.members.get(client, JOINT)]
        return ScaffoldTargets(average.parameters, {k: v for k, v in control.items() if k in average.parameters})

    def aggregate(self, kind: str, updates: Mapping[str, Any]) -> Arrays:
        """x + eta_g (mean of y_i - x); takes up c on the way."""
        self._take_up(kind, updates)
        mean, x, eta = self.average(updates), self.groups.get(kind, {}), self.settings.global_rate
        if eta == 1:
            return mean
        stepped = self.controls[kind].keys() & x.keys()  # statistics are no place to overshoot
        return {k: _step(x[k], v, eta) if k in stepped else v for k, v in mean.items()}

    def shortened(self, updates: Mapping[str, Any], before: Arrays) -> Mapping[str, Any]:
        """Changes of control variates are no longer than the bound either."""
        short, factor = super().shortened(updates, before), self.settings.norm_bound
        if factor is None:
            return short
        names, nothing = sorted(short), {k: np.zeros_like(v) for u in short.values() for k, v in u.control.items()}
        controls = bounded([short[k].control for k in names], nothing, factor)
        return {k: replace(short[k], control=c) for k, c in zip(names, controls)}

    def _take_up(self, kind: str, updates: Mapping[str, ScaffoldUpdate]) -> None:
        """c <- c + sum over S of n_i (c_i+ - c_i) / sum over N of n_i: it stays the mean of all c_i."""
        c = self.controls.setdefault(kind, {})
        before = dict(self.heard)
        self.heard |= {k: updates[k].samples for k in sorted(updates)}
        s, robust = self.settings, dict[str, NDArray[Any]]()
        if s.aggregate != "mean":
            sent = [updates[k].control for k in sorted(updates)]
            robust = combined_parameters(sent, s.aggregate, s.byzantine)
        for name in dict.fromkeys(n for k in sorted(updates) for n in updates[k].control):
            senders = [updates[k] for k in sorted(updates) if name in updates[k].control]
            total: Any
            if robust:
                total = np.float64(sum(u.samples for u in senders)) * robust[name]
            else:
                total = sum((u.control[name].astype(np.float64) * u.samples for u in senders), np.float64(0))
            if name in c:
                total = total + c[name].astype(np.float64) * self._samples(kind, name, before)
            c[name] = np.asarray(total / self._samples(kind, name, self.heard), dtype=np.float32)

    def _samples(self, kind: str, name: str, heard: Mapping[str, int]) -> int:
        """Of all clients in `heard` that have the parameter called `name`."""
        stream = group_of(name) or ""
        return sum(n for k, n in heard.items() if self.members[k] == kind and stream in self.owned.get(k, (stream,)))

    def observe(self, updates: Mapping[str, ScaffoldUpdate]) -> dict[str, float | None]:
        """||c||, over all architectures."""
        squares = [float(np.square(v, dtype=np.float64).sum()) for c in self.controls.values() for v in c.values()]
        return {"control": math.sqrt(math.fsum(squares))}  # exact, whatever order a checkpoint has them in


def _step(x: NDArray[Any], mean: NDArray[Any], eta: float) -> NDArray[Any]:
    """x + eta (mean - x)."""
    return np.asarray(x + eta * (mean.astype(np.float64) - x), dtype=np.float32)


def _verbs(settings: ScaffoldSettings) -> dict[str, tuple[Any, Any]]:
    return {"fit": ((ScaffoldTargets, Empty), ScaffoldUpdate)}


METHOD = replace(
    fedavg.METHOD,
    name="scaffold",
    settings=ScaffoldSettings,
    client=ScaffoldClient,
    server=ScaffoldServer,
    verbs=_verbs,
    optimizers=("sgd",),
    tasks=fedavg.METHOD.tasks - {ClientTask.RETRIEVAL},
    needs_server="its control variate is a mean over all clients",
)
