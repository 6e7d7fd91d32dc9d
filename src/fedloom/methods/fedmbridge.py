"""FedMBridge: a hypernetwork that knows the clients' architectures bridges their models (ICML 2024).

    up    once: the client's architecture, its blocks' kinds and widths
    down  theta_k, all weights of the client's adapters, made for it by the server's hypernetwork
    up    the weights after private training

After the paper; no official code. A graph network on a client's architecture gives a code z_v for each block v, and a
generator makes that block's adapter from z_v and the client's code c_k. The server never averages weights; what clients
have in common is in the hypernetwork (phi), which goes where their training went:

    theta_k = HN(graph_k, c_k; phi),    Delta_k = theta~_k - theta_k
    phi <- phi + eta mean_k J_phi^T Delta_k,    c_k <- c_k + eta_c J_c^T Delta_k          (pFedHN, arXiv 2103.04628)

Backbones and heads never leave.

Open in what is known of the paper, and ours: adapters are generated, not whole blocks, whose weights would be out of
reach of a generator; the graph is the chain of blocks from the input to the output, and its features are the kind, the
width and the depth of each; two layers of mean aggregation; the generator makes an adapter for the widest block there
may be (`widest`), and narrower blocks take its first rows and columns; its last layer holds a common adapter (its bias)
whose `up` is zero, and makes no `up` at first, so that round 0 equals Standalone's. A client trains all it has, from
the adapters it was sent. One that is away for a round changes nothing, and keeps its code.

Rates: the best of {0, 0.03, 0.1, 0.3, 1}, one run each on flora at seed 7, where all lay within three points.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Annotated, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from fedloom.config.models import Frozen
from fedloom.errors import BadInput
from fedloom.federation.base import Federation
from fedloom.federation.exchange import Reply
from fedloom.federation.messages import Empty
from fedloom.federation.messages import Tensor as Wire
from fedloom.methods.base import Client, Info, Method, Server, ServerContext
from fedloom.methods.sound import without_faults
from fedloom.methods.state import Kept
from fedloom.methods.workload import Workload
from fedloom.models.clients.adapters import Adapted, put
from fedloom.models.hypernetwork import Graph, Hypernetwork, architecture
from fedloom.seeding import global_torch_stream

log = logging.getLogger(__name__)


class FedMBridgeSettings(Frozen):
    """The hypernetwork, the adapters, and how long clients train between its steps."""

    rank: int = Field(8, ge=1, description="r, width of an adapter's bottleneck")
    widest: int = Field(768, ge=1, description="width of the widest block that an adapter can be made for")
    latent: int = Field(32, ge=1, description="numbers in a block's code z_v")
    code: int = Field(16, ge=1, description="numbers in a client's code c_k")
    hidden: int = Field(64, ge=1, description="width of the generator's hidden layer")
    eta: float = Field(0.3, ge=0, description="the hypernetwork's rate")
    eta_code: float = Field(0.3, ge=0, description="eta_c, the client codes' rate")
    private_steps: int = Field(10, ge=0, description="private steps a round (E_loc)")
    extra_steps: int = Field(40, ge=0, description="more private steps: what others spend on shared samples")


# ------------------------------------------------------------------------------------------------------- messages


@dataclass(frozen=True)
class FedMBridgeArchitecture:
    """Up: what a client's model is made of, node by node: `models.hypernetwork.KINDS`, and width."""

    kinds: Annotated[NDArray[Any], Wire("int32", ("V",), low=0, high=1_000_000)]
    widths: Annotated[NDArray[Any], Wire("int32", ("V",), low=0, high=1_000_000)]


@dataclass(frozen=True)
class FedMBridgeAdapters:
    """Down: theta_k, block by block: weight and bias of `down`, weight and bias of `up`."""

    values: Annotated[NDArray[Any], Wire("float32", ("W",))]


@dataclass(frozen=True)
class FedMBridgeUpdate:
    """Up: theta~_k in the same order, and the client's mean loss (nats)."""

    values: Annotated[NDArray[Any], Wire("float32", ("W",))]
    loss: float


# --------------------------------------------------------------------------------------------------------- client


def wrap_model(model: nn.Module, settings: FedMBridgeSettings) -> nn.Module:
    """The model with an adapter after each block, which says nothing at first."""
    if isinstance(model, Adapted):
        raise BadInput(
            "FedMBridge puts in its own adapters, tune = 'adapters' leaves no place for them; allowed: all, lora, bias"
        )
    return Adapted(model, settings.rank)


class FedMBridgeClient(Client):
    """Trains from the adapters that it is sent."""

    settings: FedMBridgeSettings

    def describe(self, message: Empty, *, round: int) -> FedMBridgeArchitecture:
        """The architecture of this client's model."""
        model = cast(Adapted, self.context.model)
        kinds, widths = architecture(model.bare, self.context.modality)
        return FedMBridgeArchitecture(kinds, widths)

    def fit(self, message: FedMBridgeAdapters, *, round: int) -> FedMBridgeUpdate:
        """Private steps of backbone, head and adapters from theta_k: cross-entropy."""
        context, s = self.context, self.settings
        adapters = cast(Adapted, context.model).adapters
        own = sum(p.numel() for p in adapters.parameters())
        if len(message.values) != own:
            raise ValueError(f"{context.name} was sent {len(message.values)} numbers for adapters of {own}")
        put(adapters, torch.from_numpy(message.values))

        loss = context.train_private(s.private_steps + s.extra_steps, round)
        values = parameters_to_vector(adapters.parameters()).detach().numpy().copy()
        return FedMBridgeUpdate(values, loss or 0.0)


# ----------------------------------------------------------------------------------------------------------- step


def follow(
    hypernetwork: nn.Module,
    graphs: Mapping[str, Any],
    codes: Mapping[str, Tensor],
    moved: Mapping[str, Tensor],
    eta: float,
    eta_code: float,
) -> None:
    """One step of phi and of the codes, in place, towards where the clients' training went.

    hypernetwork: (graph, code) -> theta (P,); moved: client -> Delta_k (P,), of those who answered.
    """
    parameters, names = list(hypernetwork.parameters()), sorted(moved)
    if not names:
        return
    live = {k: codes[k].detach().clone().requires_grad_() for k in names}
    along = torch.stack([hypernetwork(graphs[k], live[k]) @ moved[k] for k in names]).sum()
    pulls = torch.autograd.grad(along, [*parameters, *live.values()])
    with torch.no_grad():
        for p, pull in zip(parameters, pulls):
            p.add_(eta / len(names) * pull)
        for k, pull in zip(names, pulls[len(parameters) :], strict=True):
            codes[k].add_(eta_code * pull)


# --------------------------------------------------------------------------------------------------------- server


class FedMBridgeServer(Server):
    """The hypernetwork, and each client's architecture and code."""

    settings: FedMBridgeSettings
    hypernetwork: Kept[Hypernetwork]
    architectures: Kept[dict[str, FedMBridgeArchitecture]]
    codes: Kept[dict[str, Tensor]]

    @classmethod
    def workload(cls, settings: FedMBridgeSettings, batch: int) -> Workload:
        """Private steps."""
        return Workload(private_steps=settings.private_steps + settings.extra_steps)

    def __init__(self, context: ServerContext, settings: FedMBridgeSettings) -> None:
        super().__init__(context, settings)
        with global_torch_stream(context.seed, "server", "hypernetwork"):
            s = settings
            self.hypernetwork = Hypernetwork(s.rank, s.widest, s.latent, s.code, s.hidden)
        self.architectures, self.codes = {}, {}
        self.graphs: dict[str, Graph] = {}

    def round(self, federation: Federation) -> Info:
        """New clients' architectures in; adapters out, trained adapters in; one step."""
        self._meet(federation)
        sent = {k: self.adapters(k) for k in federation.clients if k in self.graphs}
        if not sent:
            return Info(losses={"clients": None})
        messages = {k: FedMBridgeAdapters(theta.numpy()) for k, theta in sent.items()}
        quorum = None if self.context.quorum is None else min(self.context.quorum, len(sent))
        replies = federation.ask("fit", messages, timeout=self.context.timeout, quorum=quorum)
        updates = {r.client: r.message for r in replies if r.ok and _fits(r, len(sent[r.client]))}
        start = deepcopy((self.hypernetwork.state_dict(), self.codes))

        def combine(some: Mapping[str, FedMBridgeUpdate]) -> float | None:
            self.hypernetwork.load_state_dict(start[0])
            self.codes = deepcopy(start[1])
            return self._step(federation, {k: some[k] for k in sorted(some)}, sent)

        return Info(losses={"clients": without_faults(federation, "fit", updates, combine)})

    def _step(
        self, federation: Federation, updates: Mapping[str, FedMBridgeUpdate], sent: Mapping[str, Tensor]
    ) -> float | None:
        """One step from what was sent; the mean loss. ContractBreach where no adapters could be sent after it."""
        moved = {k: torch.from_numpy(update.values) - sent[k] for k, update in updates.items()}
        follow(self.hypernetwork, self.graphs, self.codes, moved, self.settings.eta, self.settings.eta_code)
        for client in sent:
            federation.contract.check("fit", FedMBridgeAdapters(self.adapters(client).numpy()), "down")
        losses = [update.loss for update in updates.values()]
        return float(np.mean(losses)) if losses else None

    @torch.no_grad()
    def adapters(self, client: str) -> Tensor:
        """theta_k (P,) of a client whose architecture is known."""
        theta: Tensor = self.hypernetwork(self.graphs[client], self.codes[client])
        return theta

    def _meet(self, federation: Federation) -> None:
        """Ask those whose architecture is unknown: in the first round all, later who was away."""
        new = {k: Empty() for k in federation.clients if k not in self.graphs}
        if not new:
            return
        for r in federation.ask("describe", new, timeout=self.context.timeout):
            if r.ok:
                try:
                    self._know(r.client, r.message)
                except BadInput as error:
                    log.warning("round %d: %s is left out: %s", r.round, r.client, error)

    def _know(self, client: str, said: FedMBridgeArchitecture) -> None:
        self.graphs[client] = self._graph(said)
        self.architectures[client] = said
        self.codes[client] = torch.randn(self.settings.code, generator=self.context.draws("code", client))

    def _graph(self, said: FedMBridgeArchitecture) -> Graph:
        return Graph(said.kinds, said.widths, self.settings.rank, self.settings.widest)

    def restored(self) -> None:
        """Graphs follow from the architectures."""
        self.graphs = {k: self._graph(said) for k, said in self.architectures.items()}


def _fits(reply: Reply, numbers: int) -> bool:
    got = len(reply.message.values)
    if got != numbers:
        log.warning("round %d: %s sent %d numbers, expected %d", reply.round, reply.client, got, numbers)
    return got == numbers


def _verbs(settings: FedMBridgeSettings) -> dict[str, tuple[Any, Any]]:
    return {"describe": (Empty, FedMBridgeArchitecture), "fit": (FedMBridgeAdapters, FedMBridgeUpdate)}


METHOD = Method(
    "fedmbridge",
    FedMBridgeSettings,
    FedMBridgeClient,
    FedMBridgeServer,
    _verbs,
    wrap_model=wrap_model,
    needs_server="a hypernetwork on its server makes everybody's adapters",
)
