"""What vote and fusion do where they do not do what they are for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedloom.reporting.health.facts import Facts, RunWarning, listing, percent
from fedloom.reporting.scores import number, series

# A filter that lets all but one sample in fifty pass removes nothing that training would notice.
KEEPS_ALL = 0.98
MOSTLY_RIGHT = 0.9  # of the kept labels: where that many are right, there is little that a filter should drop
# With fewer kept samples than one in fifty of those that were drawn for it, a class is as good as absent.
CLASS_DROPPED = 0.02
CLASS_DRAWN = 5  # samples drawn of a class; with fewer, none may be kept by bad luck
# Of the votes. Classes are drawn evenly: half of the votes for one of three or more is a collapse. With two classes
# half is what it should be, so also half as much again as was drawn of it.
ONE_CLASS, ONE_CLASS_OF_DRAWN = 0.5, 1.5
# Of the entropy of fusion weights over that of equal ones: of ten clients each has between 0.07 and 0.13 of the say.
PLAIN_MEAN = 0.995


def vote_keeps_nothing(f: Facts) -> RunWarning | None:
    """Rounds in which no sample passed the vote: nothing was learned from them."""
    known = [row for row in f.labels if number(row.get("kept")) is not None]
    empty = [row for row in known if row["kept"] == 0]
    if not empty:
        return None
    everywhere = len(empty) == len(known)
    return RunWarning(
        "vote-keeps-nothing",
        f"the vote kept no sample in {len(empty)} of {len(known)} rounds, so nothing was learned from them",
        "Lower the quorum (settings.gamma; of fedmmkt-pate settings.threshold), or train clients longer before round 1 "
        "(clients.warm_steps).",
        "serious" if everywhere else "caution",
    )


def vote_keeps_everything(f: Facts) -> RunWarning | None:
    """A filter of labels that filters nothing. Methods without such a filter keep all by design."""
    if f.setting("settings.labvote") is not True:
        return None
    samples, kept = _sum(f.labels, "samples"), _sum(f.labels, "kept")
    if not samples or kept < KEEPS_ALL * samples:
        return None
    right = number(f.labels[-1].get("kept_accuracy"))
    if right is not None and right >= MOSTLY_RIGHT:
        return None
    judged = f"; by the judge {percent(right)} of their labels are right" if right is not None else ""
    gamma = number(f.setting("settings.gamma"))
    now = f", now {gamma:g}" if gamma is not None else ""
    return RunWarning(
        "vote-keeps-everything",
        f"the vote kept {kept:.0f} of {samples:.0f} samples, so the filter does nothing{judged}",
        f"Raise the quorum (settings.gamma{now}).",
    )


def vote_drops_class(f: Facts) -> RunWarning | None:
    """Classes that were drawn and are not among the labels of what was kept."""
    drawn, kept = _counts(f, "drawn_classes"), _counts(f, "kept_classes")
    if not sum(kept):  # vote-keeps-nothing says it
        return None
    gone = [c for c, (n, k) in enumerate(zip(drawn, kept)) if n >= CLASS_DRAWN and k <= CLASS_DROPPED * n]
    if not gone:
        return None
    names = listing([f.class_name(c) for c in gone])
    return RunWarning(
        "vote-drops-class",
        f"no kept sample, or next to none, for {len(gone)} of {len(drawn)} classes: {names}",
        "See whether any client has these classes (split.json) and the generator draws them; lower settings.gamma.",
        "serious" if 2 * len(gone) >= len(drawn) else "caution",
    )


def vote_one_class(f: Facts) -> RunWarning | None:
    """One class that gets most of the votes."""
    drawn, voted = _counts(f, "drawn_classes"), _counts(f, "voted_classes")
    if not (votes := sum(voted)) or len(voted) < 2 or len(drawn) != len(voted):
        return None
    top = max(range(len(voted)), key=voted.__getitem__)
    share, fair = voted[top] / votes, drawn[top] / max(1, sum(drawn))
    if share <= max(ONE_CLASS, ONE_CLASS_OF_DRAWN * fair):
        return None
    return RunWarning(
        "vote-one-class",
        f"{percent(share)} of {votes} labels by vote are {f.class_name(top)}; {percent(fair)} were drawn for it",
        "Train clients longer before round 1 (clients.warm_steps), or split less skewed (data.alpha).",
        "serious",
    )


def fusion_plain_mean(f: Facts) -> RunWarning | None:
    """Weights of fusion that weigh nothing: all clients have the same say in each round."""
    told = series(f.rows, "facts", "weight_entropy")[1]
    if not told or min(told) <= PLAIN_MEAN:
        return None
    now = number(f.setting("settings.contrast_temperature"))
    advice = "Lower settings.contrast_temperature" + (f", now {now:g}" if now is not None else "")
    advice += ", or set settings.scored=raw" if f.setting("settings.scored") != "raw" else ""
    return RunWarning(
        "fusion-plain-mean",
        f"fusion is a plain mean of the clients' representations: the entropy of its weights is at least "
        f"{min(told):.4f} of the highest possible in all rounds",
        f"{advice}.",
    )


def tuning_undone(f: Facts) -> RunWarning | None:
    """Rounds after which the clients no longer knew what the generator drew, or it drew less: they were undone."""
    t, undone = series(f.rows, "facts", "rolled_back")
    where = [str(round) for round, value in zip(t, undone) if value]
    if not where:
        return None
    return RunWarning(
        "tuning-undone",
        f"the generator collapsed in round {listing(where)}, and was put back to where it was before",
        "Lower settings.tune_rate or settings.tune_steps, or raise settings.public_share.",
        "serious" if len(where) == len(t) else "caution",
    )


def _sum(rows: Sequence[Any], key: str) -> float:
    return sum(number(row.get(key)) or 0.0 for row in rows)


def _counts(f: Facts, key: str) -> list[int]:
    """Samples of each class over all rounds; [] where rounds do not tell."""
    told = [row[key] for row in f.labels if isinstance(row.get(key), list)]
    return [sum(int(number(n) or 0) for n in column) for column in zip(*told)]


CHECKS = (vote_keeps_nothing, vote_one_class, vote_drops_class, vote_keeps_everything, fusion_plain_mean, tuning_undone)
