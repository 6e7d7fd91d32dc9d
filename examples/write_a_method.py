"""A method of your own in one file: clients are drawn towards everybody's class prototypes. python write_a_method.py"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field

import fedloom
from fedloom.config.base import Frozen
from fedloom.federation.messages import Empty, Tensor
from fedloom.methods.base import Client, Done, Info, Method, Server


class Settings(Frozen):
    steps: int = Field(20, ge=0, description="private steps of a client a round")
    weight: float = Field(0.1, ge=0, description="weight of the distance to the prototypes")


@dataclass(frozen=True)
class Prototypes:  # up: of a client; down: their mean
    means: Annotated[np.ndarray, Tensor("float32", ("C", "D"))]
    counts: Annotated[np.ndarray, Tensor("int64", ("C",))]  # samples of each class


class PrototypeClient(Client):
    def prototypes(self, message: Empty, *, round: int) -> Prototypes:
        z, logits = self.context.look(self.context.private)  # (N, D), (N, C)
        member = F.one_hot(self.context.private_labels, logits.shape[1]).float()  # (N, C)
        means = member.T @ z / member.sum(0).clamp(min=1)[:, None]
        return Prototypes(means.numpy(), member.sum(0).long().numpy())

    def fit(self, message: Prototypes, *, round: int) -> Done:
        model, labels, means = self.context.model, self.context.private_labels, torch.from_numpy(message.means)

        def objective(inputs, index):
            z, y = model.encode(**inputs), labels[index]
            return F.cross_entropy(model.classify(z), y) + self.settings.weight * F.mse_loss(z, means[y])

        return Done(self.context.fit(self.context.private, self.settings.steps, objective, round, "fit") or 0.0)


class PrototypeServer(Server):
    def round(self, federation) -> Info:
        sent = [reply.message for reply in federation.ask("prototypes", Empty()) if reply.ok]
        if not sent:  # nobody answered
            return Info()
        counts = np.sum([m.counts for m in sent], axis=0)
        means = np.sum([m.means * m.counts[:, None] for m in sent], axis=0) / np.maximum(counts, 1)[:, None]
        replies = federation.ask("fit", Prototypes(means.astype(np.float32), counts))
        return Info(losses={reply.client: reply.message.loss for reply in replies if reply.ok})


VERBS = {"prototypes": (Empty, Prototypes), "fit": (Prototypes, Done)}  # all that may cross the wire
METHOD = Method("prototypes", Settings, PrototypeClient, PrototypeServer, lambda settings: VERBS)

if __name__ == "__main__":
    print(fedloom.compare([METHOD, "standalone"], plan={"base": {"preset": "smoke"}}, jobs=2, out="runs/own-method"))
