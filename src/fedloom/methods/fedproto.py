"""FedProto: federated prototype learning across heterogeneous clients (arXiv 2105.00243).

    down  of each class that anybody has, the mean prototype (in the first round: nothing)
    up    of each class that the client has, its prototype and on how many samples

A prototype is the mean representation of a class. Clients of different models can share prototypes where they cannot
share parameters; each is drawn towards everybody's:

    L = CE + lambda mean over (i, m) of |h_m(x_i) - C_m[y_i]|^2 / d,    C_m[j] = mean over k of C_km[j]

A multimodal client has prototypes of each kind of data it holds (features h_m, of the samples that have it), and the
means over m add up; any other client has those of its representations z, which are averaged within a modality. A sample
whose class nobody has adds 0 to the mean, and is counted in it. `parameters` averages parameters besides, as works on
several kinds of data do; without it models are personal, as in the paper, and no model is shared.

The code's (yuetan031/FedProto): every client that has the class weighs the same. The paper's formula weighs by number
of samples and divides by the number of clients once more: `weigh="samples"`, without that. Squares are averaged over
the components, and over all samples of the batch.

Ours: prototypes of untouched samples after training, in evaluation mode (the code: of the training views of the last
epoch, as the model then was); clients are scored by their heads, one of the code's two scores (the other: the nearest
prototype); a class that nobody sent this round keeps its prototype (in the code all clients answer).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Self, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from fedloom.federation.base import Federation
from fedloom.federation.messages import MOST_CLASSES, Count, Empty, Tensors
from fedloom.functional.robust import clip_to_median
from fedloom.methods import fedavg
from fedloom.methods.base import ServerContext
from fedloom.methods.context import ClientContext, Inputs
from fedloom.methods.gossip import averages, plain_average
from fedloom.methods.graph import Peers
from fedloom.methods.multimodal_context import MultimodalContext
from fedloom.methods.robust import combined_parameters
from fedloom.methods.state import Arrays, Kept
from fedloom.models.clients.multimodal import MultimodalClassifier
from fedloom.tasks import ClientTask


class FedProtoSettings(fedavg.FedAvgSettings):
    """FedAvg's, with the weight of the prototypes."""

    secure: Literal[False] = Field(False, description="no: its server needs more than sums")
    lambda_p: float = Field(1.0, ge=0, description="weight of the distance to the prototypes (lambda)")
    weigh: Literal["clients", "samples"] = Field(
        "clients", description="clients' say in a prototype: the same for all (the code), or by samples (the paper)"
    )
    parameters: bool = Field(False, description="average parameters besides; false: models are personal")

    @model_validator(mode="after")
    def _drawn_to_something(self) -> Self:
        if self.mu and not self.parameters:
            raise ValueError(f"mu = {self.mu} holds clients near an average, which parameters = False does not make")
        return self


@dataclass(frozen=True)
class FedProtoTargets:
    """Down: of each kind the prototypes (K, d) of classes (K,); mean parameters, where they are averaged."""

    prototypes: Annotated[Mapping[str, NDArray[Any]], Tensors("float32")]
    classes: Annotated[Mapping[str, NDArray[Any]], Tensors("int32", low=0, high=MOST_CLASSES - 1)]
    parameters: Annotated[Mapping[str, NDArray[Any]], Tensors("float32")]


@dataclass(frozen=True)
class FedProtoUpdate:
    """Up: of each kind a client's prototypes (K, d) of its classes (K,), of how many samples (K,).

    parameters: where they are averaged. samples: of the client; loss: its mean (nats).
    """

    prototypes: Annotated[Mapping[str, NDArray[Any]], Tensors("float32")]
    classes: Annotated[Mapping[str, NDArray[Any]], Tensors("int32", low=0, high=MOST_CLASSES - 1)]
    counts: Annotated[Mapping[str, NDArray[Any]], Tensors("int32", low=1, high=2**31 - 1)]
    parameters: Annotated[Mapping[str, NDArray[Any]], Tensors("float32")]
    samples: Count
    loss: float


def class_prototypes(h: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Mean of h (N, d) over the samples of each class (C, d), NaN for a class that is absent; and how many (C,)."""
    counts = torch.bincount(labels, minlength=classes)
    total = torch.zeros(classes, h.shape[1], dtype=torch.float64).index_add(0, labels, h.double())
    return (total / counts[:, None]).float(), counts


def prototype_loss(h: Tensor, labels: Tensor, prototypes: Tensor) -> Tensor:
    """Mean over samples of |h - C[y]|^2 / d, for h (B, d), C (C, d); 0 for samples whose class is NaN there."""
    target = prototypes[labels]
    known = torch.isfinite(target).all(1)
    if not known.any():
        return h.new_zeros(())
    return F.mse_loss(h[known], target[known], reduction="sum") / h.numel()


class FedProtoClient(fedavg.FedAvgClient):
    """Trains near the prototypes; gives its own."""

    settings: FedProtoSettings

    def fit(self, message: FedProtoTargets | Empty, *, round: int) -> FedProtoUpdate:  # type: ignore[override]
        """Private steps, then prototypes."""
        drawn: dict[str, Tensor] = {}
        if isinstance(message, FedProtoTargets):
            if message.parameters:
                self.take(message.parameters)
            drawn = {k: self._spread(v, message.classes[k]) for k, v in message.prototypes.items()}
        loss = self.steps(self._near(drawn), round)
        prototypes, classes, counts = self._own()
        return FedProtoUpdate(prototypes, classes, counts, self.parameters(), len(self.context.private_labels), loss)

    def shares(self, name: str) -> bool:
        """All that the client holds, or nothing."""
        return self.settings.parameters and self.holds(name)

    def _near(self, drawn: Mapping[str, Tensor]) -> Callable[[Inputs, Tensor], Tensor]:
        """The loss, for prototypes (C, d) by kind."""
        context, weight, distance = self.context, self.settings.lambda_p, self.proximal()

        def objective(inputs: Inputs, index: Tensor) -> Tensor:
            labels = context.private_labels[index]
            seen, logits = self._look(inputs)
            loss = F.cross_entropy(logits, labels)
            if weight:
                for kind, (h, there) in seen.items():
                    if kind in drawn:
                        loss = loss + weight * prototype_loss(h[there], labels[there], drawn[kind])
            return loss if distance is None else loss + distance()

        return objective

    def _look(self, inputs: Inputs) -> tuple[dict[str, tuple[Tensor, Tensor]], Tensor]:
        """Representations (B, d) of each kind and which samples have it (B,); logits (B, C)."""
        if self.context.modality == ClientTask.MULTIMODAL_CLASSIFICATION:
            model, present = cast(MultimodalClassifier, self.context.model), inputs["present"]
            h = model.features(**inputs)
            seen = {_joint(kind): (h[kind], present[:, i]) for i, kind in enumerate(model.kinds)}
            return seen, model.classify(model.joined(h, present))
        bare: Any = self.context.model
        z = bare.encode(**inputs)
        return {self.context.modality: (z, torch.ones(len(z), dtype=torch.bool))}, bare.classify(z)

    def _own(self) -> tuple[Arrays, Arrays, Arrays]:
        """The client's prototypes (K, d), their classes (K,) and numbers of samples (K,), by kind."""
        context = self.context
        if not len(context.private_labels):
            return {}, {}, {}
        if isinstance(context, MultimodalContext):
            kinds = cast(MultimodalClassifier, context.model).kinds
            h = context.stream_features(context.private)
            there = {_joint(kind): (h[kind], context.private["present"][:, i]) for i, kind in enumerate(kinds)}
        else:
            everybody = torch.ones(len(context.private_labels), dtype=torch.bool)
            there = {context.modality: (context.encode(context.private), everybody)}
        prototypes, classes, counts = {}, {}, {}
        for kind, (rows, has) in there.items():
            labels = context.private_labels[has]
            if not len(labels):
                continue
            means, numbers = class_prototypes(rows[has], labels, int(labels.max()) + 1)
            known = torch.nonzero(numbers)[:, 0]
            prototypes[kind] = means[known].numpy()
            classes[kind], counts[kind] = (v.numpy().astype(np.int32) for v in (known, numbers[known]))
        return prototypes, classes, counts

    def _spread(self, prototypes: NDArray[Any], classes: NDArray[Any]) -> Tensor:
        """Prototypes (K, d) of classes (K,) as (C, d), NaN where there is none; C reaches to the client's last."""
        own = int(self.context.private_labels.max()) + 1 if len(self.context.private_labels) else 0
        found = torch.full((max(own, int(classes.max()) + 1), prototypes.shape[1]), torch.nan)
        found[torch.from_numpy(classes.astype(np.int64))] = torch.from_numpy(np.array(prototypes))
        return found


def _joint(kind: str) -> str:
    """The name of the prototypes of one stream: not those of clients of that modality, which live elsewhere."""
    return f"joint {kind}"


class FedProtoServer(fedavg.FedAvgServer):
    """Mean prototypes by kind and class."""

    settings: FedProtoSettings
    prototypes: Kept[dict[str, dict[int, NDArray[Any]]]]  # kind -> class -> (d,)
    kinds: Kept[dict[str, list[str]]]  # client -> the kinds that it has sent

    def __init__(self, context: ServerContext, settings: FedProtoSettings) -> None:
        super().__init__(context, settings)
        self.prototypes, self.kinds = {}, {}

    def message(self, client: str, modality: str) -> FedProtoTargets | Empty:  # type: ignore[override]
        """The prototypes of the kinds that the client has; a joint one that is new gets both kinds'."""
        average = super().message(client, modality)
        joint = [k for k in self.prototypes if k.startswith(_joint(""))]
        kinds = self.kinds.get(client, joint if modality == ClientTask.MULTIMODAL_CLASSIFICATION else [modality])
        known = {k: self.prototypes[k] for k in kinds if k in self.prototypes}
        if isinstance(average, Empty) and not known:
            return average
        return FedProtoTargets(
            {k: np.stack([v[c] for c in sorted(v)]) for k, v in known.items()},
            {k: np.array(sorted(v), dtype=np.int32) for k, v in known.items()},
            {} if isinstance(average, Empty) else average.parameters,
        )

    def observe(self, updates: Mapping[str, FedProtoUpdate]) -> dict[str, float | None]:
        """Takes up prototypes; how many there are."""
        s, by_samples = self.settings, self.settings.weigh == "samples"
        sent: dict[tuple[str, int], list[tuple[float, NDArray[Any]]]] = {}
        for client in sorted(updates):
            u = updates[client]
            self.kinds[client] = sorted(u.prototypes)
            for kind in sorted(u.prototypes):
                for row, c, n in zip(u.prototypes[kind], u.classes[kind], u.counts[kind]):
                    say = (min(int(n), u.samples) if by_samples else 1) * (self.say or {}).get(client, 1)
                    sent.setdefault((kind, int(c)), []).append((say, row.astype(np.float64)))
        for (kind, c), rows in sent.items():
            if s.norm_bound is not None:
                each = torch.from_numpy(np.stack([row for _, row in rows]))[:, None]
                rows = [(n, z.numpy()) for (n, _), z in zip(rows, clip_to_median(each, s.norm_bound)[:, 0])]
            if s.aggregate == "mean":
                mean = sum(n * row for n, row in rows) / sum(n for n, _ in rows)
            else:
                mean = combined_parameters([{"": row} for _, row in rows], s.aggregate, s.byzantine)[""]
            self.prototypes.setdefault(kind, {})[c] = np.asarray(mean, dtype=np.float32)
        return {"prototypes": float(sum(map(len, self.prototypes.values())))}

    def fitting(self, federation: Federation, updates: dict[str, Any]) -> dict[str, Any]:
        """Those with as many classes and counts as prototypes, and these of the width that most of their kind have."""
        widths: dict[str, Counter[int]] = {}
        for u in updates.values():
            for kind, sent in u.prototypes.items():
                widths.setdefault(kind, Counter())[sent.shape[-1] if sent.ndim else 0] += 1
        usual = {kind: n.most_common(1)[0][0] for kind, n in widths.items()}
        usual |= {kind: own for kind, n in widths.items() if n[own := self.context.width] == n[usual[kind]]}
        found = {}
        for client, u in updates.items():
            for kind, sent in u.prototypes.items():
                rows = (len(sent),) if sent.ndim else ()
                shapes = [getattr(part.get(kind), "shape", None) for part in (u.prototypes, u.classes, u.counts)]
                if shapes != [(*rows, usual[kind]), rows, rows]:
                    why = f"prototypes, classes and counts of {kind[:60]!r} have shapes {shapes}"
                    federation.reject(client, "fit", f"{why}, expected width {usual[kind]}, and as many of each")
                    break
            else:
                found[client] = u
        return found

    def compared(self, update: FedProtoUpdate) -> Arrays:
        """Parameters, and prototypes by kind and class."""
        own = {f"{k}/{c}": row for k, p in update.prototypes.items() for c, row in zip(update.classes[k], p)}
        return {**update.parameters, **own}

    def shared_model(self) -> ClientContext | None:
        """The average, where there is one."""
        return super().shared_model() if self.settings.parameters else None


def _verbs(settings: FedProtoSettings) -> dict[str, tuple[Any, Any]]:
    return {"fit": ((FedProtoTargets, Empty), FedProtoUpdate)}


METHOD = replace(
    fedavg.METHOD,
    name="fedproto",
    settings=FedProtoSettings,
    client=FedProtoClient,
    server=FedProtoServer,
    verbs=_verbs,
    tasks=fedavg.METHOD.tasks - {ClientTask.RETRIEVAL},
    peers=Peers(FedProtoServer, averages, refuses=plain_average),
)
