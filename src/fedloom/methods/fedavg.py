"""FedAvg: communication-efficient learning of deep networks from decentralized data (arXiv 1602.05629).

    down  the mean parameters of the clients that have the same architecture (in the first round: nothing)
    up    all parameters after private training, and the number of private samples

**Parameters of clients leave their sites.** FedMMKT's do not; this is the base that parameter methods are compared on.
Ours: clients of different architectures have nothing to average, so each average is taken over the clients whose
parameters have the same names and shapes, by number of samples. Optimisers keep their moments. What is sent besides
weights are the running statistics of normalisation layers.

Multimodal clients (two streams, a fusion head, one architecture) exchange the streams of the modalities that they hold
and the fusion head (FedCMI, arXiv 2401.00894): each parameter is averaged over those who have it. They all start from
the weights that the server starts from (unless clients.warm_steps has them train alone first).

With `settings.secure` the server learns the sums of a group's parameters alone (`secure_average`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn

from fedloom.errors import BadInput
from fedloom.federation.base import Federation
from fedloom.federation.messages import Count, Empty, Tensors
from fedloom.methods.base import Info, Method, Server, ServerContext
from fedloom.methods.context import ClientContext, Inputs
from fedloom.methods.given import prefixes
from fedloom.methods.gossip import averages, plain_average
from fedloom.methods.graph import Peers
from fedloom.methods.private_steps import of_fedavg
from fedloom.methods.robust import (
    RobustSettings,
    SuspectSettings,
    bounded,
    combined_parameters,
    mean_parameters,
    start_of,
)
from fedloom.methods.secure_average import VERBS, SecureAverageClient, known_by, secure_means
from fedloom.methods.sound import WEIGHTING, Weighting, repeatable, weighed, without_faults
from fedloom.methods.state import Arrays, Kept
from fedloom.methods.suspects import Figures, Suspects, of_steps
from fedloom.methods.workload import Workload
from fedloom.models.clients.multimodal import group_of
from fedloom.privacy.secure_sum import check_installed
from fedloom.tasks import ClientTask

JOINT = "joint"  # the group of all multimodal clients, whichever streams they have


class LocalSettings(SuspectSettings):
    """How long clients train between averages."""

    private_steps: int = Field(10, ge=0, description="private steps a round (E_loc)")
    extra_steps: int = Field(40, ge=0, description="more private steps: what others spend on shared samples")
    mu: float = Field(0.0, ge=0, description="weight of the distance to the average; above 0 it is FedProx")
    share: float = Field(
        1.0, gt=0, le=1, description="share of the clients that take part in a round, drawn anew each round"
    )
    weighting: Weighting = Field("samples", description=WEIGHTING)
    secure: bool = Field(False, description="secure sums: the server sees no client's parameters, only their mean")


class FedAvgSettings(LocalSettings, RobustSettings):
    """And how their parameters are averaged."""

    @model_validator(mode="after")
    def _sums_alone(self) -> Self:
        robust = {"aggregate": "mean", "norm_bound": None, "leave_out_after": None, "weighting": "samples"}
        if self.secure and (unlike := [k for k, value in robust.items() if getattr(self, k) != value]):
            raise ValueError(
                f"{unlike[0]} looks at what each client sends; allowed with secure = true: {robust[unlike[0]]}"
            )
        return self


@dataclass(frozen=True)
class FedAvgAverage:
    """Down: mean parameters."""

    parameters: Annotated[Mapping[str, NDArray[Any]], Tensors("float32")]


@dataclass(frozen=True)
class FedAvgUpdate:
    """Up: a client's parameters, on how many samples, and its mean loss (nats)."""

    parameters: Annotated[Mapping[str, NDArray[Any]], Tensors("float32")]
    samples: Count
    loss: float


class FedAvgClient(SecureAverageClient):
    """Takes up the average, trains on private data, gives its parameters.

    Methods on a part of the parameters define `shares`; those with another loss define `objective`.
    """

    settings: FedAvgSettings

    def fit(self, message: FedAvgAverage | Empty, *, round: int) -> FedAvgUpdate:
        """Private steps from the average."""
        return self.trained_from(message.parameters if isinstance(message, FedAvgAverage) else None, round)

    def trained_from(self, parameters: Mapping[str, NDArray[Any]] | None, round: int) -> FedAvgUpdate:
        """Private steps from these, or from where the client stands."""
        if parameters is not None:
            self.take(parameters)
        loss = self.steps(self.objective(), round)
        return FedAvgUpdate(self.parameters(), self.context.weight(), loss)

    def steps(
        self,
        objective: Callable[[Inputs, Tensor], Tensor],
        round: int,
        adjust: Callable[[], None] | None = None,
    ) -> float:
        """A round's private steps; their mean loss (nats). adjust: may change each step's gradients."""
        context, s = self.context, self.settings
        steps = s.private_steps + s.extra_steps
        return context.fit(context.private, steps, objective, round, "private", adjust=adjust) or 0.0

    def objective(self) -> Callable[[Inputs, Tensor], Tensor]:
        """The loss of a round's steps: cross-entropy + mu / 2 ||w - w_average||^2 (FedProx, arXiv 1812.06127)."""
        context, distance = self.context, self.proximal()
        if distance is None:
            return context.task_loss
        return lambda inputs, i: context.task_loss(inputs, i) + distance()

    def proximal(self) -> Callable[[], Tensor] | None:
        """mu / 2 ||w - w_now||^2 over the shared parameters, from where they stand now; None where mu = 0."""
        mu = self.settings.mu
        if not mu:
            return None
        trained = [p for _, p in self.trained()]
        start = [p.detach().clone() for p in trained]
        return lambda: mu / 2 * torch.stack([(p - a).square().sum().cpu() for p, a in zip(trained, start)]).sum()

    def trained(self) -> list[tuple[str, nn.Parameter]]:
        """The parameters that are both trained and shared."""
        named = self.context.model.named_parameters()
        return [(n, p) for n, p in named if p.requires_grad and self.shares(n)]

    def shares(self, name: str) -> bool:
        """Whether the parameter or statistic called `name` is exchanged: here all that the client holds."""
        return self.holds(name)

    def holds(self, name: str) -> bool:
        """Whether it is of a stream that the client has data for, or of none; no library's weights, which all have."""
        owned = getattr(self.context, "owned", None)
        mine = owned is None or (kind := group_of(name)) is None or kind in owned
        return mine and not name.startswith(prefixes(self.context.model))

    def parameters(self) -> Arrays:
        """What is exchanged: of what `shares` says, whatever is a number with a fraction."""
        state = self.context.model.state_dict()
        shared = {k: v for k, v in state.items() if v.dtype == torch.float32 and self.shares(k)}
        return {k: v.detach().cpu().numpy().copy() for k, v in shared.items()}

    def take(self, parameters: Mapping[str, NDArray[Any]]) -> None:
        """Go on from these; a stream that is new here may be absent. ValueError: they are another architecture's."""
        known = {k: v.shape for k, v in parameters.items() if self.holds(k)}
        sent = {group_of(k) for k in known}
        if {k: v.shape for k, v in self.parameters().items() if group_of(k) in sent} != known or not known:
            raise ValueError(f"{self.context.name} was sent the parameters of another architecture")
        given = {k: torch.from_numpy(np.array(parameters[k])) for k in known}
        self.context.model.load_state_dict(given, strict=False)  # counters of batches stay one's own


class FedAvgServer(Server):
    """An average for each architecture. A client that is away for a round keeps its group's."""

    settings: FedAvgSettings
    groups: Kept[dict[str, Arrays]]  # averages, by what the architecture is known by
    members: Kept[dict[str, str]]  # client -> its group
    owned: Kept[dict[str, list[str]]]  # multimodal client -> the streams that it has sent, "" the fusion head
    suspects: Kept[Suspects]

    @classmethod
    def workload(cls, settings: FedAvgSettings, batch: int) -> Workload:
        """Private steps."""
        return Workload(private_steps=settings.private_steps + settings.extra_steps)

    def __init__(self, context: ServerContext, settings: FedAvgSettings) -> None:
        super().__init__(context, settings)
        if settings.secure:
            check_installed()
        self.groups, self.members, self.owned = {}, {}, {}
        self.suspects = Suspects(settings.leave_out_after)
        self._model: ClientContext | None = None

    def round(self, federation: Federation) -> Info:
        """Averages out, updates in."""
        if self.settings.secure:
            return self.secure_round(federation)
        for client in self.context.gaining(federation.round):  # they are sent all, as those that are new
            self.owned.pop(client, None)
        messages = {k: self.message(k, federation.modality(k)) for k in self.chosen(federation)}
        replies = federation.ask("fit", messages, timeout=self.context.timeout, quorum=self.context.quorum)
        good = [r for r in replies if r.ok and r.client not in self.suspects.left_out]
        updates: dict[str, Any] = {r.client: r.message for r in good if r.message.samples > 0}
        return self.taken(federation, updates)

    def taken(self, federation: Federation, updates: dict[str, Any]) -> Info:
        """What is made of updates: averages, without those that spoil them."""

        def combine(some: Mapping[str, Any]) -> tuple[Info, dict[str, Figures]]:
            return self.combine(federation, some)

        counted = weighed(self.fitting(federation, updates), self.settings.weighting)
        info, figures = without_faults(federation, "fit", counted, repeatable(combine, self))
        return replace(info, suspects=self.suspects.standings(figures))

    def fitting(self, federation: Federation, updates: dict[str, Any]) -> dict[str, Any]:
        """The updates that can be averaged with the others; the rest is moved to `federation.missing`."""
        return updates

    def combine(self, federation: Federation, updates: Mapping[str, FedAvgUpdate]) -> tuple[Info, dict[str, Figures]]:
        """Updates into averages, which can be sent; how clients compare. Raises ContractBreach where they cannot."""
        fresh: dict[str, dict[str, FedAvgUpdate]] = {}
        for client in sorted(updates):
            kind = self.kind(federation.modality(client), updates[client])
            fresh.setdefault(kind, {})[client] = updates[client]
            self.members[client] = kind
            if kind == JOINT:
                self.owned[client] = sorted({group_of(n) or "" for n in updates[client].parameters})
        figures: dict[str, Figures] = {}
        for kind, group in fresh.items():  # what nobody sent stays as it was
            before = self.groups.get(kind, {})
            self.groups[kind] = {**before, **self.aggregate(kind, self.shortened(group, before))}
            figures |= self.figures(kind, group, before)
        mean = float(np.mean([updates[k].loss for k in sorted(updates)])) if updates else None
        info = Info(losses={"clients": mean}, facts=self.observe(updates))
        for client in {(self.members[k], *self.owned.get(k, ())): k for k in sorted(updates)}.values():
            federation.contract.check("fit", self.message(client, federation.modality(client)), "down")
        return info, figures

    def kind(self, modality: str, update: Any) -> str:
        """The group that an update is averaged in."""
        return JOINT if modality == ClientTask.MULTIMODAL_CLASSIFICATION else known_by(update.parameters)

    def secure_round(self, federation: Federation) -> Info:
        """Averages out, sums in."""
        messages = {k: self.message(k, federation.modality(k)) for k in self.chosen(federation)}
        averages = {k: m.parameters if isinstance(m, FedAvgAverage) else None for k, m in messages.items()}
        found = secure_means(federation, averages, self.context.timeout)
        joint = {k for k in federation.clients if federation.modality(k) == ClientTask.MULTIMODAL_CLASSIFICATION}
        if len([mean for mean in found.values() if {*mean.members} & joint]) > 1:
            raise BadInput("settings.secure = true: multimodal clients of which some lack a modality, allowed: false")
        for mean in found.values():
            kind = JOINT if mean.members[0] in joint else known_by(mean.parameters)
            self.groups[kind] = mean.parameters
            self.members |= dict.fromkeys(mean.members, kind)
        losses = [mean.loss for mean in found.values() for _ in mean.members]
        mean_loss = float(np.mean(losses)) if losses else None
        return Info(losses={"clients": mean_loss}, facts={"summed": float(len(losses))})

    def aggregate(self, kind: str, updates: Mapping[str, Any]) -> Arrays:
        """What replaces the average of the clients called `kind`, of what they sent this round."""
        return self.average(updates)

    def average(self, updates: Mapping[str, Any]) -> Arrays:
        """The mean by number of samples, or what the setting `aggregate` puts in its place."""
        s = self.settings
        if s.aggregate == "mean":
            return mean_parameters(updates, self.say)
        return combined_parameters([updates[k].parameters for k in sorted(updates)], s.aggregate, s.byzantine)

    def shortened(self, updates: Mapping[str, Any], before: Arrays) -> Mapping[str, Any]:
        """Updates whose steps from the average `before` are no longer than `norm_bound` allows."""
        factor, names = getattr(self.settings, "norm_bound", None), sorted(updates)
        if factor is None:
            return updates
        sent = [updates[k].parameters for k in names]
        short = bounded(sent, start_of(sent, before), factor)
        return {k: replace(updates[k], parameters=p) for k, p in zip(names, short)}

    def figures(self, kind: str, updates: Mapping[str, Any], before: Arrays) -> dict[str, Figures]:
        """How each client's step from the average `before` compares."""
        sent = {k: self.compared(updates[k]) for k in sorted(updates)}
        return of_steps(kind, sent, before, self.groups[kind])

    def compared(self, update: Any) -> Mapping[str, NDArray[Any]]:
        """What of an update shows whether a client stands out."""
        return cast(Mapping[str, NDArray[Any]], update.parameters)

    def observe(self, updates: Mapping[str, Any]) -> dict[str, float | None]:
        """Take up what clients said besides parameters; what of the round a reader of the run may want to know."""
        return {}

    def chosen(self, federation: Federation) -> list[str]:
        """The clients of this round: all, or as many as `share` says."""
        number = max(1, round(self.settings.share * len(federation.clients)))
        if number >= len(federation.clients):
            return list(federation.clients)
        drawn = self.context.rng(federation.round, "chosen").permutation(len(federation.clients))[:number]
        names = sorted(federation.clients)  # the order in which they are listed may not matter
        return [names[i] for i in sorted(drawn)]

    def message(self, client: str, modality: str) -> FedAvgAverage | Empty:
        """What a client is sent: the parameters that it is known to have; a joint one that is new gets all."""
        group = self.members.get(client, JOINT if modality == ClientTask.MULTIMODAL_CLASSIFICATION else "")
        if group not in self.groups:
            return Empty()
        known = self.groups[group]
        if client in self.owned:
            known = {k: v for k, v in known.items() if (group_of(k) or "") in self.owned[client]}
        return FedAvgAverage(known)

    def shared_model(self) -> ClientContext | None:
        """The multimodal clients' average; before the first round the weights that they all start from."""
        if ClientTask.MULTIMODAL_CLASSIFICATION not in self.context.modalities or self.context.models is None:
            return None
        if self._model is None:
            self._model = self.context.models(ClientTask.MULTIMODAL_CLASSIFICATION)
            self._model.attach(self.wrap_model)
        given = {k: torch.from_numpy(np.array(v)) for k, v in self.groups.get(JOINT, {}).items()}
        self._model.model.load_state_dict(given, strict=False)
        return self._model

    def wrap_model(self, model: nn.Module) -> nn.Module:
        """The method's own parts on the shared model."""
        return model


def _verbs(settings: FedAvgSettings) -> Mapping[str, tuple[Any, Any]]:
    """With secure sums no verb brings parameters in the clear."""
    return VERBS if settings.secure else {"fit": ((FedAvgAverage, Empty), FedAvgUpdate)}


METHOD = Method(
    "fedavg",
    FedAvgSettings,
    FedAvgClient,
    FedAvgServer,
    _verbs,
    uses=frozenset({"models"}),
    tasks=frozenset(ClientTask),
    label_space="per task",
    private_steps=(FedAvgClient, of_fedavg),
    peers=Peers(FedAvgServer, averages, refuses=plain_average),
)
