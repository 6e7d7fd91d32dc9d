"""DisentAFL: disentangling and gating what clients of unlike modalities share (AAAI 2024).

    down  the mean adapters of the types the client takes part in (in the first round: nothing)
    up    its adapters of the types it shares, and the number of private samples

After the paper; no official code. Knowledge is split by type: what all clients share, what the clients of one modality
share, what is a client's own. Each type has an adapter A_m on the representation z, a gate weighs them, an
orthogonality term keeps them apart, and each is averaged among the clients of its type only:

    g = softmax(W z + b),    h = z + sum_m g_m A_m(z),    L = CE + mu mean_{m<n} cos^2(A_m(z), A_n(z))

Backbones, heads, gates and private adapters never leave.

Open in what is known of the paper, and ours: the encoder's typed parts are bottlenecks on z, since clients' backbones
differ; the residual z + ..., and adapters that say 0 at first, so that round 0 equals Standalone's; W and b zero at
first, so that all types weigh the same; the shared adapters' first weights are the same at all clients, as means of
unlike beginnings mean little. With one modality its type equals "all", and is left out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from fedloom.config.models import Frozen
from fedloom.federation.base import Federation
from fedloom.federation.exchange import Reply
from fedloom.federation.messages import Count, Empty, Tensors
from fedloom.methods.base import Client, Info, Method, Server, ServerContext
from fedloom.methods.context import ClientContext, Inputs
from fedloom.methods.sound import WEIGHTING, Weighting, repeatable, weighed, without_faults
from fedloom.methods.state import Arrays, Kept
from fedloom.methods.workload import Workload
from fedloom.models.clients.adapters import Bottleneck, put
from fedloom.models.clients.client_model import export_weights
from fedloom.seeding import global_torch_stream

log = logging.getLogger(__name__)

Type = Literal["all", "modality", "private"]


class DisentAFLSettings(Frozen):
    """The adapters, what keeps them apart, and how long clients train between averages."""

    types: tuple[Type, ...] = Field(
        ("all", "modality", "private"), min_length=1, description="kinds of knowledge, an adapter each"
    )
    rank: int = Field(16, ge=1, description="width of an adapter's bottleneck")
    mu: float = Field(0.5, ge=0, description="weight of the orthogonality term")
    private_steps: int = Field(10, ge=0, description="private steps a round (E_loc)")
    extra_steps: int = Field(40, ge=0, description="more private steps: what others spend on shared samples")
    weighting: Weighting = Field("samples", description=WEIGHTING)

    @model_validator(mode="after")
    def _once(self) -> DisentAFLSettings:
        if len(set(self.types)) < len(self.types):
            raise ValueError(f"types names one twice: {', '.join(self.types)}")
        return self

    @property
    def shared(self) -> tuple[Type, ...]:
        """The types whose adapters leave the site."""
        return tuple(t for t in self.types if t != "private")


@dataclass(frozen=True)
class DisentAFLAverage:
    """Down: the mean adapter of each shared type, as one vector (2 d rank + rank + d,)."""

    adapters: Annotated[Mapping[str, NDArray[Any]], Tensors("float32")]


@dataclass(frozen=True)
class DisentAFLUpdate:
    """Up: a client's adapters of the shared types, on how many samples, and its mean loss (nats)."""

    adapters: Annotated[Mapping[str, NDArray[Any]], Tensors("float32")]
    samples: Count
    loss: float


class Disentangled(nn.Module):
    """A model whose representation is z + sum_m g_m A_m(z), with one adapter A_m a type. `bare` keeps its names."""

    def __init__(self, bare: nn.Module, types: Sequence[str], rank: int) -> None:
        super().__init__()
        self.bare = bare
        head: Any = getattr(bare, "bare", bare).head
        width: int = head.in_features
        self.adapters = nn.ModuleDict({t: _beginning(t, width, rank) for t in types})
        self.gate = nn.Linear(width, len(types))
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def parts(self, z: Tensor) -> Tensor:
        """A_m(z) (M, B, D) of representations z (B, D), in the order of the types."""
        return torch.stack([adapter(z) for adapter in self.adapters.values()])

    def mix(self, z: Tensor, parts: Tensor) -> Tensor:
        """h = z + sum_m g_m A_m(z) (B, D)."""
        g = self.gate(z).softmax(-1)  # (B, M)
        return z + torch.einsum("bm,mbd->bd", g, parts)

    def encode(self, **inputs: Tensor) -> Tensor:
        """Representations h (B, D)."""
        z: Tensor = self.bare.encode(**inputs)  # type: ignore[operator]
        return self.mix(z, self.parts(z))

    def classify(self, h: Tensor) -> Tensor:
        """Logits (B, C) of representations h (B, D)."""
        return self.bare.classify(h)  # type: ignore[operator, no-any-return]

    def forward(self, **inputs: Tensor) -> Tensor:
        """Logits (B, C)."""
        return self.classify(self.encode(**inputs))

    def export(self, folder: Path, class_names: tuple[str, ...]) -> None:
        """Write all weights with their names and sizes; no class of transformers has a gate and adapters like these."""
        export_weights(self, folder, class_names, f"gated adapters on z: {', '.join(self.adapters)}")


def _beginning(kind: str, width: int, rank: int) -> Bottleneck:
    """An adapter that says 0. A shared type's is the same wherever it is made; a private one's is the site's own."""
    if kind == "private":
        return Bottleneck(width, rank)
    with global_torch_stream(0, "disentafl", kind):
        return Bottleneck(width, rank)


def wrap_model(model: nn.Module, settings: DisentAFLSettings) -> nn.Module:
    """The model with gate and adapters: at first it says what it said without them."""
    return Disentangled(model, settings.types, settings.rank)


def overlap(parts: Tensor) -> Tensor:
    """Mean over pairs m < n and over the batch of cos^2(A_m(z), A_n(z)), for parts (M, B, D); 0 where M = 1.

    The cosine of a zero vector is 0, and so is the gradient.
    """
    units = F.normalize(parts, dim=-1, eps=1e-8)
    m, n = torch.triu_indices(len(parts), len(parts), offset=1)
    if not len(m):
        return parts.new_zeros(())
    return (units[m] * units[n]).sum(-1).square().mean()


class DisentAFLClient(Client):
    """Takes up the averages of its types, trains on private data, gives the adapters that it shares."""

    settings: DisentAFLSettings

    def fit(self, message: DisentAFLAverage | Empty, *, round: int) -> DisentAFLUpdate:
        """Private steps from the averages: cross-entropy + mu times the overlap of the types."""
        context, s = self.context, self.settings
        model = cast(Disentangled, context.model)
        if isinstance(message, DisentAFLAverage):
            self._take(message.adapters)

        def objective(inputs: Inputs, i: Tensor) -> Tensor:
            z = model.bare.encode(**inputs)  # type: ignore[operator]
            parts = model.parts(z)
            logits = model.classify(model.mix(z, parts))
            return F.cross_entropy(logits, context.private_labels[i]) + s.mu * overlap(parts)

        loss = context.fit(context.private, s.private_steps + s.extra_steps, objective, round, "private")
        return DisentAFLUpdate(adapters_of(context, s), len(context.private_labels), loss or 0.0)

    def _take(self, adapters: Mapping[str, NDArray[Any]]) -> None:
        own, model = adapters_of(self.context, self.settings), cast(Disentangled, self.context.model)
        for kind, values in adapters.items():
            if kind not in own or values.shape != own[kind].shape:
                raise ValueError(f"{self.context.name} was sent an adapter {kind!r} that it does not have")
        for kind, values in adapters.items():
            put(model.adapters[kind], torch.from_numpy(np.array(values)))


def adapters_of(context: ClientContext, settings: DisentAFLSettings) -> Arrays:
    """The shared types' adapters, each as one vector."""
    model = cast(Disentangled, context.model)
    return {
        kind: parameters_to_vector(model.adapters[kind].parameters()).detach().numpy().copy()
        for kind in settings.shared
    }


class DisentAFLServer(Server):
    """An average for "all" and one for each modality. A client that is away for a round finds its types' newest."""

    settings: DisentAFLSettings
    averages: Kept[Arrays]  # by group: "all", or the modality

    @classmethod
    def workload(cls, settings: DisentAFLSettings, batch: int) -> Workload:
        """Private steps."""
        return Workload(private_steps=settings.private_steps + settings.extra_steps)

    def __init__(self, context: ServerContext, settings: DisentAFLSettings) -> None:
        super().__init__(context, settings)
        self.averages = {}

    def round(self, federation: Federation) -> Info:
        """Averages out, updates in."""
        messages = {k: self._for(federation.modality(k)) for k in federation.clients}
        replies = federation.ask("fit", messages, timeout=self.context.timeout, quorum=self.context.quorum)
        fitting = [r for r in replies if r.ok and r.message.samples > 0 and self._fits(r)]
        fitting.sort(key=lambda r: r.client)  # neither order of arrival nor of listing may matter
        updates = weighed({r.client: r.message for r in fitting}, self.settings.weighting)

        def combine(some: Mapping[str, DisentAFLUpdate]) -> float | None:
            return self._average(federation, some)

        return Info(losses={"clients": without_faults(federation, "fit", updates, repeatable(combine, self))})

    def _average(self, federation: Federation, updates: Mapping[str, DisentAFLUpdate]) -> float | None:
        """Updates into averages; their mean loss. Raises ContractBreach where an average cannot be sent."""
        modalities = {k: federation.modality(k) for k in updates}
        for kind in self.settings.shared:
            groups: dict[str, list[DisentAFLUpdate]] = {}
            for client, update in updates.items():
                groups.setdefault(_group(kind, modalities[client]), []).append(update)
            self.averages |= {group: mean_adapter(kind, members) for group, members in groups.items()}
        for modality in {*modalities.values()}:
            federation.contract.check("fit", self._for(modality), "down")
        losses = [update.loss for update in updates.values()]
        return float(np.mean(losses)) if losses else None

    def _for(self, modality: str) -> DisentAFLAverage | Empty:
        """What a client of that modality is sent."""
        groups = {kind: _group(kind, modality) for kind in self.settings.shared}
        known: Arrays = {kind: self.averages[g] for kind, g in groups.items() if g in self.averages}
        return DisentAFLAverage(known) if known else Empty()

    def _fits(self, reply: Reply) -> bool:
        d, r = self.context.width, self.settings.rank
        wanted = dict.fromkeys(self.settings.shared, (2 * d * r + r + d,))
        got = {k: v.shape for k, v in reply.message.adapters.items()}
        if got != wanted:
            log.warning("round %d: %s sent adapters %s, expected %s", reply.round, reply.client, got, wanted)
        return got == wanted


def _group(kind: Type, modality: str) -> str:
    """Among whom a type is averaged."""
    return modality if kind == "modality" else kind


def mean_adapter(kind: str, updates: Sequence[DisentAFLUpdate]) -> NDArray[Any]:
    """The mean of that type's adapters by number of samples, in the order given. All have samples."""
    total = sum(u.samples for u in updates)
    weighed = [u.adapters[kind].astype(np.float64) * (u.samples / total) for u in updates]
    return np.asarray(sum(weighed), dtype=np.float32)


def _resolve(settings: DisentAFLSettings, modalities: Sequence[str]) -> DisentAFLSettings:
    """Without a second modality, the type of the modality is that of all."""
    if len(set(modalities)) > 1 or "all" not in settings.types:
        return settings
    return settings.model_copy(update={"types": tuple(t for t in settings.types if t != "modality")})


def _verbs(settings: DisentAFLSettings) -> dict[str, tuple[Any, Any]]:
    return {"fit": ((DisentAFLAverage, Empty), DisentAFLUpdate)}


METHOD = Method(
    "disentafl",
    DisentAFLSettings,
    DisentAFLClient,
    DisentAFLServer,
    _verbs,
    resolve=_resolve,
    wrap_model=wrap_model,
    needs_server="its server averages each adapter over all whom it concerns",
)
