"""What can be set against hostile clients by methods that average, and robust averages of models' parameters.

Every rule but the mean gives clients the same say, or one that the server has worked out itself: a number of samples
is what a client says of itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from fedloom.config.models import Frozen
from fedloom.functional.ensemble import grouped
from fedloom.functional.robust import Rule, clip_to_median, combine, middle
from fedloom.functional.similarity import weight_entropy
from fedloom.methods.state import Arrays

BY_COMPONENT = ("median", "trimmed")  # rules that need no more than a tensor at a time
Parameters = Mapping[str, NDArray[Any]]


class SuspectSettings(Frozen):
    """What becomes of clients that stand out."""

    leave_out_after: int | None = Field(
        None, ge=1, description="leave a client out once it has stood out in so many rounds; null: it is only told"
    )


class AggregateSettings(SuspectSettings):
    """How what clients send is put together."""

    aggregate: Rule = Field(
        "mean", description="how clients' answers are averaged; all but the mean withstand some hostile ones"
    )
    byzantine: float = Field(
        0.25,
        ge=0,
        lt=0.5,
        description="largest share of clients that may be hostile: cut off at either end (trimmed), left out "
        "(multi_krum)",
    )


class RobustSettings(AggregateSettings):
    """And how large it may be."""

    norm_bound: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="shorten what is longer than this many times the clients' median norm of the round; null: nothing",
    )


def combined(settings: AggregateSettings, values: Tensor, weights: Tensor) -> Tensor:
    """Clients' rows (K, N, D) put together as `aggregate` says, with weights (K, N) that sum to 1 or 0: (N, D)."""
    if settings.aggregate == "mean":
        return grouped(values, weights)
    return combine(values, settings.aggregate, weights=weights, byzantine=settings.byzantine)


def weighed(settings: AggregateSettings, values: Tensor, weights: Tensor) -> tuple[Tensor, float]:
    """The same with any weights (K, N) that are not negative, zero where all are; and their mean entropy (nats)."""
    share = weights / weights.sum(0).clamp(min=1e-12)
    return combined(settings, values, share), float(weight_entropy(share).mean())


def mean_parameters(updates: Mapping[str, Any], say: Mapping[str, float] | None = None) -> Arrays:
    """Mean by number of samples, or by `say`, of each parameter over those who have it, in the order of their names.

    Raises:
        ValueError: nobody has a sample.
    """
    if sum(u.samples for u in updates.values()) <= 0:
        raise ValueError("an average over no samples")
    everybody = [(updates[k].samples if say is None else say[k], updates[k].parameters) for k in sorted(updates)]
    found = {}
    for name in dict.fromkeys(name for _, sent in everybody for name in sent):
        owners = [(weight, sent) for weight, sent in everybody if name in sent]
        total = sum(weight for weight, _ in owners)
        weighed = (sent[name].astype(np.float64) * (weight / total) for weight, sent in owners)
        found[name] = np.asarray(sum(weighed), dtype=np.float32)  # also of numbers without an axis
    return found


def combined_parameters(sent: Sequence[Parameters], rule: Rule, byzantine: float) -> Arrays:
    """Parameters of K clients put together, each over those who have it, in the order of their names.

    Rules that go by distances see all that the same clients have as one vector, in memory at once.
    """
    blocks: dict[Any, list[str]] = {}
    for name in dict.fromkeys(name for each in sent for name in each):
        owners = tuple(k for k, each in enumerate(sent) if name in each)
        blocks.setdefault((owners, name if rule in BY_COMPONENT else ""), []).append(name)
    found: Arrays = {}
    for (owners, _), names in blocks.items():
        rows = [np.concatenate([np.asarray(sent[k][name]).ravel() for name in names]) for k in owners]
        block = combine(torch.from_numpy(np.stack(rows))[:, None], rule, byzantine=byzantine)[0].numpy()
        cuts = np.cumsum([sent[owners[0]][name].size for name in names])[:-1]
        for name, part in zip(names, np.split(block, cuts)):
            found[name] = np.asarray(part.reshape(sent[owners[0]][name].shape), dtype=np.float32)
    return found


def start_of(sent: Sequence[Parameters], known: Parameters) -> Arrays:
    """What clients are taken to have begun from: `known`, and of what is not in it their median."""
    new = [{k: v for k, v in each.items() if k not in known} for each in sent]
    return {**{k: np.asarray(v) for k, v in known.items()}, **combined_parameters(new, "median", 0.0)}


def distances(sent: Sequence[Parameters], start: Parameters) -> list[float | None]:
    """Root mean square over a client's parameters of how far each is from `start`; None of a client without any."""
    found: list[float | None] = []
    for each in sent:
        squares = sum(float(np.square(v.astype(np.float64) - start[k]).sum()) for k, v in each.items())
        size = sum(v.size for v in each.values())
        found.append(float(np.sqrt(squares / size)) if size else None)
    return found


def bounded(sent: Sequence[Parameters], start: Parameters, factor: float) -> list[Arrays]:
    """Each client's step from `start` shortened to `factor` times the clients' median step (root mean square)."""
    norms = [0.0 if d is None else d for d in distances(sent, start)]
    bound = factor * float(middle(torch.tensor(norms)[:, None], torch.ones(len(norms), 1).bool()))
    return [
        {k: np.asarray(v if d <= bound else start[k] + (v - start[k]) * (bound / d), np.float32) for k, v in p.items()}
        for p, d in zip(sent, norms)
    ]


def step_agreement(sent: Sequence[Parameters], start: Parameters) -> list[float | None]:
    """Cosine of a client's step from `start` with the sum of the others' steps, each of unit length."""
    squares = np.zeros(len(sent))
    for name in start:
        for k, step in _steps(sent, start, name):
            squares[k] += float(np.square(step).sum())
    lengths = np.sqrt(np.where(squares > 0, squares, 1.0))
    dots, rests = np.zeros(len(sent)), np.zeros(len(sent))
    for name in start:
        steps = [(k, step / lengths[k]) for k, step in _steps(sent, start, name)]
        total = sum((step for _, step in steps), np.zeros(start[name].shape))
        for k, step in steps:
            dots[k] += float((step * (total - step)).sum())
            rests[k] += float(np.square(total - step).sum())
    return [float(d / np.sqrt(r)) if r > 0 and n > 0 else None for d, r, n in zip(dots, rests, squares)]


def _steps(sent: Sequence[Parameters], start: Parameters, name: str) -> list[tuple[int, NDArray[np.float64]]]:
    return [(k, each[name].astype(np.float64) - start[name]) for k, each in enumerate(sent) if name in each]


def shortened(values: Tensor, groups: Sequence[str], present: Tensor, factor: float) -> Tensor:
    """Rows (K, N, D) bounded within each group of clients by the median length that it has of the sample."""
    out = values.clone()
    for group in dict.fromkeys(groups):
        own = [k for k, g in enumerate(groups) if g == group]
        out[own] = clip_to_median(values[own], factor, present[own])
    return out
