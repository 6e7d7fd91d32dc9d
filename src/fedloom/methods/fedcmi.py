"""FedCMI: cross-modal infiltration against modality imbalance (arXiv 2401.00894).

    down  the mean parameters of the groups that a client has data for, and the fusion head
    up    the same after private training, and the number of private samples; what it knows of dominance

In joint training one kind of data dominates: it converges first, and the joint loss stops teaching the other. Each
client's weak kind learns from the *global* model's dominant kind through a projector of its own, and keeps its own
feature in another:

    L = CE(o, y) + lambda_s (CE(o_1^self, y) + CE(o_2^self, y)) + lambda_d L_inf + mu / 2 ||w - w_glob||^2

A class in which the weak kind lags more than on average is taught more sharply (class-wise temperature). Parameters are
averaged by groups, over those who own them. Where a kind is missing, the other's infiltration feature stands in for it.

Taken from what the paper says in its abstract and from a module that its first author left in a later repository
(fanyunfeng-bit/Balanced-Modality-Selection-in-MFL, client/FedCMI.py: temperatures and lesson are its, to the digit);
the paper's tables were not at hand. Ours: `dominance` of a client's whole data or of all clients (there by batch);
temperatures never below 0.1, and 1 where a class is absent; samples that lack a kind, of clients that hold both, are
treated as a client's that holds one; the proximal term stands, as the abstract names it (there behind a switch that is
off).

Whoever teaches has been trained on the very samples that it is asked about, and says of them little that the label does
not. `teacher` offers two others, ours: a moving average of the models received; and, out of fold, F models that travel
beside. A client's samples are cut into F folds; model f learns each kind's cross-entropy from all folds but f, at every
client, and teaches the samples of fold f alone. Cost: F - 1 more passes a sample, F more pairs of streams each way.
(Leave `clients.clip` out with them: a norm over all gradients would let a fold's samples touch its own teacher's step.)
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from fedloom.federation.messages import Count, Empty, Number, Share, Tensors
from fedloom.functional.infiltration import (
    class_means,
    class_temperatures,
    class_weights,
    confidence,
    dominance,
    infiltration_loss,
    weak_of,
)
from fedloom.methods import fedavg
from fedloom.methods.context import ClientContext, Inputs
from fedloom.methods.multimodal_context import MultimodalContext
from fedloom.methods.state import Arrays, Kept
from fedloom.models.clients.multimodal import MultimodalClassifier
from fedloom.models.infiltration import Infiltrated
from fedloom.tasks import ClientTask, Modality


class FedCMISettings(fedavg.FedAvgSettings):
    """FedCMI's losses, and how long clients train between averages."""

    secure: Literal[False] = Field(False, description="no: its server needs more than sums")
    lambda_s: float = Field(2.0, ge=0, description="weight of each kind's own cross-entropy")
    lambda_d: float = Field(1.0, ge=0, description="weight of the infiltration")
    mu: float = Field(1.0, ge=0, description="weight of the distance to the average")
    kappa: float = Field(2.0, ge=0, description="how fast a class's lag sharpens its temperature")
    ratio_mean: Literal["arithmetic", "geometric"] = Field(
        "arithmetic",
        description="mean over classes that a class's ratio is held against; geometric: either kind alike",
    )
    warmup: int = Field(1, ge=0, description="rounds without infiltration at the beginning")
    dominance: Literal["batch", "client", "global"] = Field(
        "batch", description="who is dominant is decided on a batch, a client's data, or all clients' data"
    )
    class_wise: Literal["temperature", "weight", "none"] = Field(
        "temperature", description="what follows a class's lag: its temperature, its samples' weight, nothing"
    )
    temperature: float = Field(1.0, gt=0, description="of all classes, unless class_wise is temperature")
    self_ce: Literal["both", "weak"] = Field(
        "both", description="which kind's own cross-entropy counts: both, or the batch's weak one"
    )
    scale_tau2: bool = Field(False, description="multiply the infiltration of a sample by its temperature squared")
    self_projector: bool = Field(True, description="false: one projector a kind, pure imitation (an ablation)")
    personal_infiltration: bool = Field(
        False, description="infiltration projectors and classifiers stay with the client"
    )
    layers: Literal[0, 1, 3] = Field(1, description="linear layers of a projector; 0: none, the identity")
    teacher: Literal["received", "average", "out-of-fold"] = Field(
        "received",
        description="who teaches: the model received, a moving average of those, models that never saw the sample",
    )
    teacher_decay: float = Field(0.8, ge=0, lt=1, description="weight of the past in the moving average of teachers")
    folds: int = Field(2, ge=2, description="F, parts of a client's samples, where teachers are out of fold")


@dataclass(frozen=True)
class FedCMITargets:
    """Down: mean parameters, and rho over all clients' data where dominance is global."""

    parameters: Annotated[Mapping[str, NDArray[Any]], Tensors("float32")]
    rho: Annotated[float, Number(low=0, high=1e30)] | None = None


@dataclass(frozen=True)
class FedCMIUpdate:
    """Up: parameters, on how many samples, the mean loss (nats), and what the client knows of dominance.

    first, second: the mean confidence of either kind in the right class, on the client's samples that have both, by the
    model it was sent; None: it has none, or the warm-up is not over. led: share of the batches in which the first kind
    was dominant; flips: share of the batches after the first in which the dominant kind was another than before.
    """

    parameters: Annotated[Mapping[str, NDArray[Any]], Tensors("float32")]
    samples: Count
    loss: float
    first: Share | None = None
    second: Share | None = None
    led: Share | None = None
    flips: Share | None = None


class FedCMIClient(fedavg.FedAvgClient):
    """Trains with infiltration from the model that it was sent."""

    settings: FedCMISettings
    average: Kept[Arrays]  # of the parameters received, where that teaches

    def __init__(self, context: ClientContext, settings: FedCMISettings) -> None:
        super().__init__(context, settings)
        self.average = {}

    def fit(self, message: FedCMITargets | Empty, *, round: int) -> FedCMIUpdate:  # type: ignore[override]
        """A round's private steps."""
        if isinstance(message, FedCMITargets):
            self.take(message.parameters)
            if self.settings.teacher == "average":
                self._average(message.parameters)
        teaches = round > self.settings.warmup
        known = self._self_knowledge() if teaches else None
        rho = message.rho if isinstance(message, FedCMITargets) else None
        objective = _Objective(self, known, rho)
        loss = self.steps(objective, round)
        first, second = known.means if known is not None else (None, None)
        samples = len(self.context.private_labels)
        return FedCMIUpdate(self.parameters(), samples, loss, first, second, objective.led, objective.flips)

    def _average(self, parameters: Mapping[str, NDArray[Any]]) -> None:
        """a <- beta a + (1 - beta) w of what is held; the first w as it is."""
        beta = np.float32(self.settings.teacher_decay)
        new = {k: np.array(v) for k, v in parameters.items() if self.holds(k)}
        self.average = {k: beta * self.average[k] + (1 - beta) * v if k in self.average else v for k, v in new.items()}

    def teacher(self) -> Infiltrated:
        """Who teaches this round, out of training and without gradient."""
        found = copy.deepcopy(cast(Infiltrated, self.context.model)).eval().requires_grad_(False)
        found.load_state_dict({k: torch.from_numpy(v) for k, v in self.average.items()}, strict=False)
        return found

    def fold_of(self) -> Tensor:
        """(N,) which fold each private sample is in: at random, the same in every round."""
        n = len(self.context.private_labels)
        return torch.from_numpy(self.context.rng("folds").permutation(n) % self.settings.folds)

    def shares(self, name: str) -> bool:
        """All that the client holds; not the infiltration's parts, where these are personal."""
        personal = self.settings.personal_infiltration and name.startswith(("infiltration.", "classifiers."))
        return self.holds(name) and not personal

    def _self_knowledge(self) -> _Knowledge | None:
        """What the model just received knows of the client's samples that have both kinds; None where it has none."""
        context = cast(MultimodalContext, self.context)
        model = cast(Infiltrated, context.model)
        both = context.private["present"].all(1)
        if not both.any():
            return None
        h = context.stream_features({k: v[both] for k, v in context.private.items()})
        labels = context.private_labels[both]
        with torch.no_grad():
            q = [confidence(model.own(kind, h[kind]), labels) for kind in model.kinds]
        a, b = (class_means(x, labels, model.classes) for x in q)
        s, ones = self.settings, torch.ones(model.classes)
        tau, weights, geometric = s.temperature * ones, ones, s.ratio_mean == "geometric"
        if s.class_wise == "temperature":
            tau = class_temperatures(a, b, s.kappa, geometric=geometric)
        elif s.class_wise == "weight":
            weights = class_weights(a, b, s.kappa, geometric)
        return _Knowledge(tau, weights, (float(q[0].mean()), float(q[1].mean())))


@dataclass(frozen=True)
class _Knowledge:
    """tau, weights (C,); means: of both kinds' confidences."""

    tau: Tensor
    weights: Tensor
    means: tuple[float, float]


class _Objective:
    """The loss of a round's batches. Counts who was dominant."""

    def __init__(self, client: FedCMIClient, known: _Knowledge | None, rho: float | None) -> None:
        self.context, self.s, self.known = client.context, client.settings, known
        self.model = cast(Infiltrated, client.context.model)
        self.distance = client.proximal()
        self.rho: float | None = None  # what all batches go by; None: each by its own
        if self.s.dominance != "batch" and known is not None:
            own = known.means[0] / (known.means[1] + 1e-8)
            self.rho = rho if self.s.dominance == "global" and rho is not None else own
        self.teacher: Infiltrated | None = None
        if known is not None and self.s.lambda_d:
            self.teacher = client.teacher()
        self.fold_of = client.fold_of() if len(self.model.folds) else None
        self.dominant: list[Modality] = []

    def __call__(self, inputs: Inputs, index: Tensor) -> Tensor:
        """L of a batch."""
        model, labels = self.model, self.context.private_labels[index]
        present = inputs["present"]
        h = model.features(**inputs)
        p = model.project(h)
        loss = F.cross_entropy(model.classify(model.fuse(p, present)), labels)
        both = present.all(1)
        folds = self.fold_of[index] if self.fold_of is not None else None
        if both.any():
            loss = loss + self._imbalance(inputs, h, p.infiltrated, labels, both, folds)
        if folds is not None:
            loss = loss + self.model.folds.loss(inputs, labels, folds)
        return loss if self.distance is None else loss + self.distance()

    def _lesson(self, inputs: Inputs, kind: Modality, folds: Tensor | None) -> Tensor:
        """What the teacher says of samples by one kind alone: logits (B, C), without gradient."""
        assert self.teacher is not None
        seen = {**inputs, "present": inputs["present"].clone()}
        seen["present"][:, 1 - self.model.kinds.index(kind)] = False  # it need not look at the other
        with torch.no_grad():
            if folds is None:
                return self.teacher.own(kind, self.teacher.features(**seen)[kind])
            return self.teacher.folds.own(seen, kind, folds)

    def _imbalance(
        self,
        inputs: Inputs,
        h: Mapping[Any, Tensor],
        u: Mapping[Any, Tensor],
        labels: Tensor,
        both: Tensor,
        folds: Tensor | None = None,
    ) -> Tensor:
        """What the samples that have both kinds add: each kind's own loss, and the weak kind's infiltration."""
        s, model, y = self.s, self.model, labels[both]
        own = {kind: model.own(kind, h[kind][both]) for kind in model.kinds}
        q = [confidence(own[kind].detach(), y) for kind in model.kinds]
        rho = self.rho if self.rho is not None else float(dominance(q[0], q[1]))
        dominant, weak = weak_of(rho, model.kinds)
        self.dominant.append(dominant)
        counted: tuple[Modality, ...] = model.kinds if s.self_ce == "both" else (weak,)
        total = h[model.kinds[0]].new_zeros(())
        if s.lambda_s:
            total = total + s.lambda_s * torch.stack([F.cross_entropy(own[k], y) for k in counted]).sum()
        if self.teacher is not None and self.known is not None:
            seen = {k: v[both] for k, v in inputs.items()}
            taught = self._lesson(seen, dominant, None if folds is None else folds[both])
            student = model.classifiers[weak](u[weak][both])
            total = total + s.lambda_d * infiltration_loss(
                student, taught, y, self.known.tau, weights=self.known.weights, scale_tau2=s.scale_tau2
            )
        return total

    @property
    def led(self) -> float | None:
        """Share of the batches in which the first kind was dominant."""
        return float(np.mean([d == self.model.kinds[0] for d in self.dominant])) if self.dominant else None

    @property
    def flips(self) -> float | None:
        """Share of the batches, after the first, in which the dominant kind was another than before."""
        pairs = list(zip(self.dominant, self.dominant[1:]))
        return float(np.mean([a != b for a, b in pairs])) if pairs else None


class FedCMIServer(fedavg.FedAvgServer):
    """Averages by groups; of dominance, the mean over clients by their samples."""

    settings: FedCMISettings
    rho: Kept[float | None]  # over all clients' data

    def __init__(self, context: Any, settings: FedCMISettings) -> None:
        super().__init__(context, settings)
        self.rho = None

    def message(self, client: str, modality: str) -> FedCMITargets | Empty:  # type: ignore[override]
        """The average of what the client has, and who is dominant where all clients decide that."""
        average = super().message(client, modality)
        if isinstance(average, Empty):
            return average
        return FedCMITargets(average.parameters, self.rho if self.settings.dominance == "global" else None)

    def observe(self, updates: Mapping[str, FedCMIUpdate]) -> dict[str, float | None]:
        """Takes up what clients say of dominance; how often the first kind led, and how often that flipped."""
        told = [updates[k] for k in sorted(updates)]
        knowing = [(u.samples, u.first, u.second) for u in told if u.first is not None and u.second is not None]
        if knowing:
            first, second = (sum(row[0] * row[i] for row in knowing) for i in (1, 2))
            self.rho = float(first / (second + 1e-8))
        found: dict[str, float | None] = {"dominance": self.rho}
        for name in ("led", "flips"):
            values = [v for u in told if (v := getattr(u, name)) is not None]
            found[name] = float(np.mean(values)) if values else None
        return found

    def wrap_model(self, model: nn.Module) -> nn.Module:
        """Projectors and classifiers."""
        return wrap_model(model, self.settings)


def wrap_model(model: nn.Module, settings: FedCMISettings) -> nn.Module:
    """The model with projectors and classifiers, whose first weights are the same wherever they are made."""
    from fedloom.seeding import global_torch_stream

    with global_torch_stream(0, "fedcmi"):
        folds = settings.folds if settings.teacher == "out-of-fold" else 0
        bare, own = cast(MultimodalClassifier, model), settings.self_projector
        return Infiltrated(bare, settings.layers, self_projector=own, folds=folds)


def _verbs(settings: FedCMISettings) -> dict[str, tuple[Any, Any]]:
    return {"fit": ((FedCMITargets, Empty), FedCMIUpdate)}


METHOD = replace(
    fedavg.METHOD,
    name="fedcmi",
    settings=FedCMISettings,
    client=FedCMIClient,
    server=FedCMIServer,
    verbs=_verbs,
    wrap_model=wrap_model,
    tasks=frozenset({ClientTask.MULTIMODAL_CLASSIFICATION}),
    needs_server="its server finds which kind of data leads, over all clients",
)
