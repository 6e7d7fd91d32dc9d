"""The scores of a run as people read them: names, units, which way is better, before and after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedloom.tasks import CLIENT_TASKS, MODALITIES, ClientTask, Modality

Row = Mapping[str, Any]
LARGEST = 1e30  # that is drawn and compared; a loss may be larger


@dataclass(frozen=True)
class Score:
    """A score: its key in `summary.json` and `metrics.jsonl`, its name, and how to say it.

    share: a share, or a sum of shares, said with three decimals. what: of the values, for the heading of a plot.
    """

    key: str
    name: str
    note: str
    share: bool = False
    lower_is_better: bool = False
    what: str = ""
    group: str = ""  # the mapping of summary and rows that has the key; "": these themselves

    @property
    def path(self) -> tuple[str, ...]:
        """The keys that lead to it in `summary.json` and in a row of `metrics.jsonl`."""
        return (self.group, self.key) if self.group else (self.key,)

    @property
    def decimals(self) -> int:
        """Of the value as it is said."""
        return 3 if self.share or self.group or self.key == "clip_score" else 2

    @property
    def heading(self) -> str:
        """`Image clients accuracy`."""
        parts = (
            f" {self.what}" if self.what else "",
            " (lower is better)" if self.lower_is_better else "",
        )
        return self.name + "".join(parts)

    def say(self, value: float | None) -> str:
        """The value as text; an en dash where there is none."""
        if value is None:
            return "–"
        return f"{value:.{self.decimals}f}"

    def say_change(self, before: float | None, after: float | None) -> str:
        """The change with its sign."""
        if before is None or after is None:
            return "–"
        return f"{after - before:+.{self.decimals}f}".replace("-", "−")

    def improved(self, before: float | None, after: float | None) -> bool | None:
        """Whether `after` is better than `before`; None where they are equal as said or one is missing."""
        if before is None or after is None or self.say(before) == self.say(after):
            return None
        return (after < before) == self.lower_is_better


def least_of(key: str) -> float:
    """Where the axis of a score begins: at what it cannot fall below, a cosine excepted."""
    return 1.0 if key.endswith("inception_score") else 0.0


_ACC = "accuracy"
KIND_NAMES: Mapping[Modality, tuple[str, str]] = {  # one, and many
    Modality.AUDIO: ("sound", "sounds"),
    Modality.IMAGE: ("picture", "pictures"),
    Modality.TEXT: ("text", "texts"),
}
STREAM_VIEWS = {  # of the model that multimodal clients share
    "own": "by the shared model's classifier of that kind alone, of",
    "zeros": "by the fused classifier with zeros in the other's place, of",
    "filled": "by the fused classifier with the method's substitute in the other's place, of",
    "probe": "by a linear probe on the shared model's features, of",
}
SCORES = (
    Score("image_accuracy", "Image clients", "accuracy on held-out images, mean over clients", True, what=_ACC),
    Score("text_accuracy", "Text clients", "accuracy on held-out texts, mean over clients", True, what=_ACC),
    Score(
        "pair_recall",
        "Image-text clients",
        "R@1 of retrieval on held-out pairs, mean of both directions and over clients",
        share=True,
        what="R@1",
    ),
    Score(
        "server_recall",
        "Server recall sum",
        "R@1 image to text plus R@1 text to image of the server's model; 2 at most",
        share=True,
    ),
    Score(
        "joint_accuracy",
        "Multimodal clients",
        "accuracy by what a client holds, mean over clients",
        True,
        what=_ACC,
    ),
    Score(
        "server_accuracy",
        "Shared model",
        "accuracy of the clients' average by both kinds of data",
        True,
        what=_ACC,
    ),
    Score(
        "server_spread",
        "Class spread",
        "standard deviation of the shared model's accuracies of classes; lower is better",
        share=True,
        lower_is_better=True,
    ),
    *(
        Score(f"{kind}_{view}", f"{one.capitalize()}, {view}", f"{note} {many}", share=True, what=_ACC)
        for kind, (one, many) in KIND_NAMES.items()
        for view, note in STREAM_VIEWS.items()
    ),
    Score("t2i_accuracy", "T2I accuracy", "share of generated pictures that the judge recognises", True),
    Score("clip_score", "CLIP score", "how well picture and prompt agree; higher is better"),
    Score("fid", "FID", "distance from real pictures; lower is better", lower_is_better=True),
    Score("inception_score", "Inception score", "clear and varied pictures; higher is better"),
    Score("generic_clip_score", "Generic CLIP score", "agreement with general descriptions; higher is better"),
    Score(
        "generic_fid",
        "Generic FID",
        "distance from what it learned first; lower is better",
        lower_is_better=True,
    ),
    Score("generic_inception_score", "Generic Inception score", "of general descriptions; higher is better"),
)


USUAL = ("image_accuracy", "text_accuracy", "t2i_accuracy", "clip_score")  # said to be missing where they are
RECALLS = ("pair_recall", "server_recall")  # shown where they are, else not spoken of
OWN = tuple(f"{kind}_own" for kind in MODALITIES)
KIND_SCORES = tuple(f"{kind}_{view}" for kind in MODALITIES for view in STREAM_VIEWS)
DETAILS = frozenset(KIND_SCORES).difference(OWN)  # drawn in pictures of their own, not told with the others
STREAMS = ("joint_accuracy", "server_accuracy", "server_spread", *KIND_SCORES)  # of runs with multimodal clients


TOLD = tuple(score for score in SCORES if score.key not in DETAILS)


def told(summary: Row) -> tuple[Score, ...]:
    """The scores that are told of a run: fedloom's, and the metrics that were added to it."""
    added = summary.get("metrics")
    if not isinstance(added, Mapping):
        return TOLD
    return *TOLD, *(_added(name, spec) for name, spec in added.items() if isinstance(spec, Mapping))


def _added(name: str, spec: Row) -> Score:
    unit, lower = str(spec.get("unit") or ""), spec.get("higher_is_better") is False
    title = str(spec.get("title") or name) + (f", {unit}" if unit not in ("", "%") else "")
    note = str(spec.get("note") or ("lower is better" if lower else "higher is better"))
    return Score(name, title, note, unit == "%", lower, group="metrics")


def wanted(there: Iterable[str]) -> tuple[str, ...]:
    """The scores that are said to be missing where they are, of a run that has those of `there`."""
    return () if frozenset(STREAMS).intersection(there) else USUAL


def kinds_of(rows: Sequence[Row]) -> tuple[Modality, ...]:
    """The kinds of data that a shared model was scored by, in the order of its streams."""
    return tuple(kind for kind in MODALITIES if series(rows, f"{kind}_own")[0])


def client_score(modality: str) -> str:
    """The key of the mean over clients of a modality, '' for one that is none; their own values are in `per_client`."""
    return ClientTask(modality).spec.metric if modality in list(ClientTask) else ""


def number(value: Any) -> float | None:
    """`value` if it is a number, at most LARGEST either way, else None."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    return float(max(-LARGEST, min(LARGEST, value)))


def before_after(score: Score, summary: Row, rounds: Sequence[Row]) -> tuple[float | None, float | None]:
    """A score before the first round and after the last: from the summary, else from the rounds."""
    entry: Any = summary
    for key in score.path:
        entry = entry.get(key) if isinstance(entry, Mapping) else None
    if isinstance(entry, Mapping):
        return number(entry.get("before")), number(entry.get("after"))
    values = series(rounds, *score.path)[1]
    return (values[0], values[-1]) if values else (None, None)


def series(rows: Sequence[Row], *keys: str) -> tuple[list[int], list[float]]:
    """The rounds and values of a (nested) key, rounds without a value left out."""
    pairs = []
    for row in rows:
        value: Any = row
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if (v := number(value)) is not None:
            pairs.append((int(row.get("round", 0)), v))
    return [r for r, _ in pairs], [v for _, v in pairs]


def end_of(client: str, clients: Mapping[str, Any]) -> str:
    """The modality of a client: by the summary's lists, else by the beginning of its name, else ''."""
    for modality, names in clients.items():
        if isinstance(names, Sequence) and client in names:
            return str(modality)
    return next((m for m in CLIENT_TASKS if client.startswith(m)), "")
