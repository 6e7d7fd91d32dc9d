"""FedAvg's round where the server learns sums alone (`settings.secure`): what crosses, and both halves' part.

    fit_masked     down  the average, and shares   up  samples times parameters, samples, loss: masked words

The rest of the exchange is `secure_sums`'. Clients of one architecture make a sum of their own. A sum in fixed point
differs from FedAvg's own by about 1e-7.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedloom.errors import FedloomError
from fedloom.federation.base import Federation
from fedloom.federation.messages import Tensor, Tensors
from fedloom.methods.secure_sums import SecureClient, SecureSum, no_sum, rows_of, secure_sums, secure_verbs
from fedloom.methods.state import Arrays
from fedloom.privacy.secure_sum import SEALED_BYTES
from fedloom.strict_json import parse

Parameters = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class SecureFit:
    """Down: mean parameters (None: none yet), and the shares that others have sealed for this client."""

    names: tuple[str, ...]
    sealed: Annotated[NDArray[Any], Tensor("uint8", ("K", SEALED_BYTES))]
    parameters: Annotated[Mapping[str, NDArray[Any]], Tensors("float32")] | None = None


@dataclass(frozen=True)
class SecureUpdate:
    """Up: samples, loss and samples times parameters, in fixed point under masks."""

    words: Annotated[NDArray[Any], Tensor("uint64", ("W",))]


VERBS: Mapping[str, tuple[Any, Any]] = secure_verbs("fit_masked", SecureFit, SecureUpdate)


class Update(Protocol):
    """What a client would send in the clear."""

    @property
    def parameters(self) -> Parameters: ...
    @property
    def samples(self) -> int: ...
    @property
    def loss(self) -> float: ...


class SecureAverageClient(SecureClient):
    """A client whose parameters leave it under masks."""

    def parameters(self) -> Arrays:
        """What is exchanged."""
        raise NotImplementedError

    def trained_from(self, parameters: Parameters | None, round: int) -> Update:
        """The round's training from the average, or from where the client stands."""
        raise NotImplementedError

    def layout(self) -> str:
        """Names and shapes of the parameters."""
        return layout_of(self.parameters())

    def fit_masked(self, message: SecureFit, *, round: int) -> SecureUpdate:
        """Trains, and gives what the sum is made of."""
        update = self.trained_from(message.parameters, round)
        n = max(update.samples, 0)
        parts = [n * update.parameters[k].astype(np.float64).ravel() for k in sorted(update.parameters)]
        return SecureUpdate(self.masked(np.concatenate([[n, update.loss], *parts]), message))


# ---------------------------------------------------------------------------------------------------- the server


@dataclass(frozen=True)
class SecureMean:
    """The mean parameters of the clients called `members`, by number of samples, and the mean of their losses."""

    members: tuple[str, ...]
    parameters: Arrays
    loss: float


def secure_means(
    federation: Federation, averages: Mapping[str, Parameters | None], timeout: float | None
) -> dict[str, SecureMean]:
    """Layout -> mean of the clients that have it. averages: client -> what it is sent.

    A group that has become too small, or whose mean cannot be sent, has none, which is logged: of single clients
    nothing is known that could be checked. Where all answer, who is the only one of its layout is left out, and noted.

    Raises:
        BadInput: in round 1 all answer, and each is the only one of its layout: its sum would be its own parameters.
    """
    who = "client of its architecture that answers, so that its sum would be its parameters"

    def order(client: str, names: tuple[str, ...], sealed: NDArray[np.uint8]) -> SecureFit:
        return SecureFit(names, sealed, averages[client])

    found = {}
    for total in secure_sums(federation, averages, "fit_masked", order, timeout, who):
        try:
            mean = _mean(total)
            federation.contract.check("fit_masked", SecureFit(*rows_of({}, SEALED_BYTES), mean.parameters), "down")
        except (FedloomError, ValueError, TypeError) as error:
            no_sum(federation, total.members, error)
        else:
            found[total.layout] = mean
    return found


def _mean(total: SecureSum) -> SecureMean:
    """ValueError where the numbers are no sum of what the layout says."""
    numbers = total.numbers
    shapes = [(str(name), tuple(int(n) for n in shape)) for name, shape in parse(total.layout.encode())]
    samples, ends = numbers[0], np.cumsum([2, *(int(np.prod(shape)) for _, shape in shapes)])
    if ends[-1] != len(numbers) or samples <= 0:
        raise ValueError(f"{len(numbers)} numbers of {samples:g} samples are no sum of {ends[-1]}")
    means = {
        name: (numbers[a:b] / samples).reshape(shape).astype(np.float32)
        for (name, shape), a, b in zip(shapes, ends, ends[1:])
    }
    return SecureMean(total.senders, means, float(numbers[1]) / len(total.senders))


def layout_of(parameters: Parameters) -> str:
    """Names and shapes, in the order of names."""
    return json.dumps([(k, list(parameters[k].shape)) for k in sorted(parameters)])


def known_by(parameters: Parameters) -> str:
    """What clients of the same architecture have in common: a digest of names and shapes."""
    return blake2b(layout_of(parameters).encode(), digest_size=8).hexdigest()
