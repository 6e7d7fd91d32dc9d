"""FedDAT: dual-adapter teachers on one frozen backbone (AAAI 2024, arXiv 2308.12305).

    down  the mean of all clients' shared adapters A_1 (in the first round: nothing)
    up    A_1, and the number of private samples

Every client holds the same frozen model of both modalities, with an adapter after each block. Three of them:

    A_0  its own, never sent     A_1  shared     A_2  A_1 as it was at the round's start, frozen

    z_1 = the model with A_1           z_D = the model with (A_0 + A_2) / 2, the dual-adapter teacher
    L_1 = (CE(z_1, y) + T^2 KL(z_D || z_1)) / 2  moves A_1     (teachers are taken as they are: no gradient)
    L_0 = (CE(z_D, y) + T^2 KL(z_1 || z_D)) / 2  moves A_0

KL of scores at temperature T = 3, mean over the batch. Heads stay at home and are moved by both. T, the T^2 and the
plain mean of A_0 and A_2 in place of a gate are those of the authors' code (HaokunChen245/FedDAT).

With a generator (`decoder`), as FedMMKT's Table VII has it: the shared adapters are set into the decoder of the
server's UNet, as T2I-Adapter is, between linear maps from and to each block's width; the last one begins at zero.

Ours, because the papers are silent: ViT and BERT under one head in place of ViLT (see LoRA-FL); A_0 and A_1 both begin
as the adapter of the warm start; both losses in one step, where the code steps on L_1 and then on L_0 (which differs
for the head alone); cross-entropy, where the code's tasks have binary cross-entropy; a client is scored with its
teacher; each block of the decoder hears the mean of what all shared adapters say; the UNet stays as it is, and the maps
are trained on the generic part that the generator was pretrained on, since no synthetic data is drawn.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from fedloom.config import ClientsSettings
from fedloom.errors import BadInput
from fedloom.federation.base import Federation
from fedloom.functional.distillation import softened
from fedloom.methods import fedavg
from fedloom.methods.base import Info, Method, ServerContext
from fedloom.methods.context import Inputs
from fedloom.methods.gossip import averages, plain_average
from fedloom.methods.graph import Peers
from fedloom.methods.state import Arrays, Kept
from fedloom.methods.workload import Workload
from fedloom.models.clients.adapters import Adapted, Adds, Bottleneck
from fedloom.models.device import place_of
from fedloom.models.fit import adamw, fit, index_batches, load_arrays
from fedloom.models.pictures import to_float
from fedloom.seeding import global_torch_stream


class FedDATSettings(fedavg.FedAvgSettings):
    """FedAvg's; the adapters' width; how the decoder's maps are trained."""

    secure: Literal[False] = Field(False, description="no: its server needs more than sums")
    rank: int = Field(8, ge=1, description="width of an adapter's bottleneck")
    temperature: float = Field(3.0, gt=0, description="of the KL between teacher and shared adapter")
    decoder: bool = Field(True, description="set the shared adapters into the server's generator")
    tune_steps: int = Field(40, ge=0, description="steps of the maps around them a round")
    tune_batch: int = Field(24, ge=1, description="samples of a step")
    tune_rate: float = Field(2e-4, gt=0, description="Adam's rate")


# ---------------------------------------------------------------------------------------------------- the adapters


class Three(nn.Module):
    """A_0, A_1 and A_2 of one block. `active`: "shared" is A_1; "teacher" is (A_0 + A_2) / 2."""

    def __init__(self, warm: nn.Module) -> None:
        super().__init__()
        self.own, self.shared = copy.deepcopy(warm), warm
        self.frozen = copy.deepcopy(warm).requires_grad_(False)
        self.active: Literal["shared", "teacher"] = "teacher"

    def forward(self, h: Tensor) -> Tensor:
        said: Tensor = self.shared(h) if self.active == "shared" else (self.own(h) + self.frozen(h)) / 2
        return said


def wrap_model(model: nn.Module, settings: FedDATSettings) -> nn.Module:
    """Each block's adapter becomes three. ValueError for a model without adapters (clients' `tune`)."""
    if not isinstance(model, Adapted):
        raise ValueError("FedDAT needs a model with adapters: tune = 'adapters'")
    for i, warm in enumerate(model.adapters):
        model.adapters[i] = Three(warm)
    return model


def use_adapters(model: Any, which: Literal["shared", "teacher"]) -> None:
    """Have the model's blocks use the shared adapters, or the teacher's two."""
    for three in model.adapters:
        three.active = which


# ------------------------------------------------------------------------------------------------------ the client


class FedDATClient(fedavg.FedAvgClient):
    """Trains A_0 and A_1 against one another; gives A_1."""

    settings: FedDATSettings

    def shares(self, name: str) -> bool:
        """A_1."""
        return ".shared." in name

    def objective(self) -> Callable[[Inputs, Tensor], Tensor]:
        """L_0 + L_1, from a new A_2."""
        context, t = self.context, self.settings.temperature
        for three in context.model.adapters:  # type: ignore[union-attr]
            assert isinstance(three, Three)
            three.frozen.load_state_dict(three.shared.state_dict())

        def loss(inputs: Inputs, i: Tensor) -> Tensor:
            use_adapters(context.model, "shared")
            z1 = context.model(**inputs)
            use_adapters(context.model, "teacher")
            return dual_loss(z1, context.model(**inputs), context.private_labels[i], t)

        return loss


def dual_loss(z1: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """L_1 + L_0 of logits (B, C) of the shared adapter and of the teacher, labels (B,): a scalar, in nats."""
    known = F.cross_entropy(z1, labels) + F.cross_entropy(teacher, labels)
    return (known + softened(z1, teacher, temperature) + softened(teacher, z1, temperature)) / 2


# ------------------------------------------------------------------------------------------------------ the server


class Decoder(nn.Module):
    """The shared adapters (width W) in a UNet's decoder: h + out(mean over adapters of A(in(h))) after each block."""

    def __init__(self, unet: nn.Module, adapters: int, width: int, rank: int) -> None:
        super().__init__()
        ups: Any = unet.up_blocks
        channels = [block.resnets[-1].out_channels for block in ups]
        self.enter = nn.ModuleList([nn.Linear(c, width) for c in channels])
        self.leave = nn.ModuleList([nn.Linear(width, c) for c in channels])
        for leave in self.leave:
            nn.init.zeros_(leave.weight)  # type: ignore[arg-type]
            nn.init.zeros_(leave.bias)  # type: ignore[arg-type]
        self.adapters = nn.ModuleList([Bottleneck(width, rank) for _ in range(adapters)]).requires_grad_(False)
        says = [_Says(self, i) for i in range(len(channels))]
        self._says = says  # hooks own no module, and neither does a list
        for i, block in enumerate(ups):
            block.register_forward_hook(Adds(says, i))

    def say(self, i: int, h: Tensor) -> Tensor:
        """What is added to the output h (..., C) of block i."""
        entered = self.enter[i](h)
        said: Tensor = self.leave[i](torch.stack([a(entered) for a in self.adapters]).mean(0))
        return said


class _Says:
    def __init__(self, decoder: Decoder, i: int) -> None:
        self.decoder, self.i = decoder, i

    def __call__(self, h: Tensor) -> Tensor:
        return self.decoder.say(self.i, h)


class FedDATServer(fedavg.FedAvgServer):
    """Averages A_1; sets the average into the generator."""

    settings: FedDATSettings
    decoder: Kept[Decoder | None]
    optimizer: Kept[torch.optim.Optimizer | None]

    @classmethod
    def workload(cls, settings: FedDATSettings, batch: int) -> Workload:  # type: ignore[override]
        """Private steps, and those of the maps in the generator."""
        steps = settings.tune_steps if settings.decoder else 0
        return replace(super().workload(settings, batch), generator_steps=steps, generator_batch=settings.tune_batch)

    def __init__(self, context: ServerContext, settings: FedDATSettings) -> None:
        super().__init__(context, settings)
        self.decoder, self.optimizer = None, None
        if settings.decoder and context.public is None:
            raise BadInput("FedDAT's decoder learns from the generic part, and this data set has none: decoder=false")
        if settings.decoder and (family := getattr(context.generator, "family", "pixel")) != "pixel":
            raise BadInput(
                f"FedDAT's decoder is for the embedded kind of generator, this one is {family}: decoder=false"
            )

    def round(self, federation: Federation) -> Info:
        """FedAvg of A_1, then the decoder's maps."""
        info = super().round(federation)
        average = self._shared()
        if not self.settings.decoder or average is None:
            return info
        self._set(average)
        return replace(info, losses={**info.losses, "generator": self._tune(federation.round)})

    def _shared(self) -> Arrays | None:
        """A_1, averaged: of the architecture that most clients have, should silos bring several."""
        if not self.groups:
            return None
        members = list(self.members.values())
        return self.groups[max(sorted(self.groups), key=members.count)]

    def _set(self, average: Mapping[str, NDArray[Any]]) -> None:
        """The generator's decoder with these adapters; its maps are made at the first call."""
        if self.decoder is None:
            self.decoder = self._build(average)
        load_arrays(self.decoder.adapters, _plain(average))

    def _build(self, average: Mapping[str, NDArray[Any]]) -> Decoder:
        plain = _plain(average)
        downs = [v for k, v in plain.items() if k.endswith("down.weight")]  # (rank, W) each
        if len({v.shape for v in downs}) != 1:
            raise BadInput("FedDAT's decoder needs adapters of one width in all blocks: decoder=false")
        rank, width = downs[0].shape
        self.context.generator.touched()
        unet = self.context.generator.unet.requires_grad_(False)
        with global_torch_stream(self.context.seed, "server", "decoder"):
            decoder = Decoder(unet, len(downs), width, rank).to(place_of(unet))
        self.optimizer = adamw([*decoder.enter.parameters(), *decoder.leave.parameters()], self.settings.tune_rate, 0.0)
        return decoder

    def _tune(self, t: int) -> float | None:
        """Steps of the maps on the generic part: its pictures under their captions."""
        s, context, generic = self.settings, self.context, self.context.public
        rng, draws = context.rng(t, "decoder"), context.draws(t, "decoder")

        def objective(index: NDArray[np.int64]) -> Tensor:
            texts = [generic.captions[i] for i in index]
            loss: Tensor = context.generator.loss(to_float(generic.images[index]), texts, draws)
            return loss

        assert self.optimizer is not None  # made with the decoder
        batches = index_batches(len(generic), s.tune_batch, s.tune_steps, rng)
        return fit(self.optimizer, batches, objective, name=f"decoder, round {t}")

    def rebuild(self, attribute: str) -> Any:
        """The decoder and its optimizer, which need to know the adapters' sizes."""
        if self.decoder is None and (average := self._shared()) is not None:
            self._set(average)
        return getattr(self, attribute)


def _plain(average: Mapping[str, NDArray[Any]]) -> Arrays:
    """adapters.I.shared.PART -> I.PART"""
    return {k.removeprefix("adapters.").replace(".shared.", "."): np.asarray(v) for k, v in average.items()}


def _models(settings: FedDATSettings, clients: ClientsSettings) -> ClientsSettings:
    return clients.alike("adapters", settings.rank)


def _tools(settings: FedDATSettings) -> frozenset[str]:
    return frozenset({"generator", "public"}) if settings.decoder else frozenset()


def _needs_server(settings: FedDATSettings) -> str:
    """The generator's decoder, or what FedAvg needs one for."""
    decoder = "settings.decoder = true: it is in a server's generator; allowed: false" if settings.decoder else ""
    return decoder or plain_average(settings)


METHOD = Method(
    "feddat",
    FedDATSettings,
    FedDATClient,
    FedDATServer,
    fedavg.METHOD.verbs,
    _tools,
    models=_models,
    wrap_model=wrap_model,
    peers=Peers(FedDATServer, averages, refuses=_needs_server),
)
