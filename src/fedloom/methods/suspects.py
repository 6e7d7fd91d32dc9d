"""Who stands out in a round, as metrics.jsonl and the report tell it; nobody is left out unless a setting says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from fedloom.functional.suspects import label_agreement, row_agreement, row_distances, row_norms, stands_out
from fedloom.methods.base import Standing
from fedloom.methods.replies import ClientOutputs
from fedloom.methods.robust import Parameters, distances, start_of, step_agreement
from fedloom.methods.state import Kept, Stateful

ALIKE = 0.05  # shares of agreement that differ by less are alike


class Figures(NamedTuple):
    """Of one client: see `Standing`. group: of the clients whose norms and distances it is compared with."""

    group: str
    norm: float | None
    agreement: float | None
    distance: float | None


class Suspects(Stateful):
    """Counts the rounds in which each client stood out.

    Args:
        after: so many and it is left out; None: never.
    """

    rounds: Kept[dict[str, int]]

    def __init__(self, after: int | None) -> None:
        self.after, self.rounds = after, {}

    @property
    def left_out(self) -> frozenset[str]:
        """The clients whose answers are no longer used."""
        return frozenset(k for k, n in self.rounds.items() if self.after is not None and n >= self.after)

    def standings(self, found: Mapping[str, Figures]) -> dict[str, Standing]:
        """A round's table, in the order of the clients' names; counts who stands out.

        Norms and distances are compared as factors, within a group; agreements as differences, among all.
        """
        out = {k: Standing(None, None, None, left_out=True) for k in self.left_out}
        names = sorted(found)
        marks: dict[str, list[str]] = {k: [] for k in names}
        for group in dict.fromkeys(found[k].group for k in names):
            own = [k for k in names if found[k].group == group]
            for k, far in zip(own, stands_out([found[k].norm for k in own], "both", relative=True)):
                marks[k] += ["norm"] * far
            for k, far in zip(own, stands_out([found[k].distance for k in own], "high", relative=True)):
                marks[k] += ["distance"] * far
        for k, alone in zip(names, stands_out([found[k].agreement for k in names], "low", least=ALIKE)):
            marks[k] += ["agreement"] * alone
        for k in names:
            self.rounds[k] = self.rounds.get(k, 0) + bool(marks[k])
            out[k] = Standing(*found[k][1:], tuple(sorted(marks[k])))
        return {k: out[k] for k in sorted(out)}


def of_outputs(outputs: ClientOutputs, classes: int) -> dict[str, Figures]:
    """Of answers about shared samples: logits or representations within a modality, and labels where there are any."""
    rows = outputs.logits if outputs.logits.numel() else outputs.representations
    labelled = bool((outputs.labels >= 0).any())
    agreed = label_agreement(outputs.labels, classes) if labelled else None
    found = {}
    for group in dict.fromkeys(outputs.modalities):
        own = [k for k, m in enumerate(outputs.modalities) if m == group]
        here = outputs.present[own]
        by_row = row_agreement(rows[own], here)
        for k, norm, distance, alike in zip(own, row_norms(rows[own], here), row_distances(rows[own], here), by_row):
            agreement = agreed[k] if agreed is not None else alike
            found[outputs.replies[k].client] = Figures(str(group), norm, agreement, distance)
    return found


def of_steps(kind: str, sent: Mapping[str, Parameters], before: Parameters, now: Parameters) -> dict[str, Figures]:
    """Of parameters by client, as steps from the average `before`: length, the others' direction, the average `now`.

    Where there was no average yet, nobody knows what clients stepped from: there is the distance alone.
    """
    each = list(sent.values())
    known = {k: v for k, v in before.items() if any(k in one for one in each)}
    norms: list[float | None] = [None] * len(each)
    agreed = list(norms)
    if known or not now:
        start = start_of(each, known)
        norms = distances(each, start)
        agreed = step_agreement(each, start) if known else agreed
    told = zip(sent, norms, agreed, distances(each, start_of(each, now)))
    return {k: Figures(kind, *numbers) for k, *numbers in told}


def of_views(views: Mapping[str, Any], kinds: Mapping[str, Sequence[str]]) -> dict[str, Figures]:
    """Of representations (P, D), attributes by kind; a client is compared by the first of its `kinds`."""
    found: dict[str, Figures] = {}
    for kind in dict.fromkeys(kinds[k][0] for k in views):
        own = [k for k in views if kinds[k][0] == kind]
        rows = torch.stack([torch.from_numpy(getattr(views[k], kind)) for k in own])
        here = rows.any(-1)
        each = zip(own, row_norms(rows, here), row_agreement(rows, here), row_distances(rows, here))
        found |= {k: Figures(kind, *numbers) for k, *numbers in each}
    return found
