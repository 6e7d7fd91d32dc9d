"""What the checks know of a run, and all of them one after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from fedloom.reporting.scores import SCORES, before_after, end_of, number

Row = Mapping[str, Any]
Level = Literal["serious", "caution"]
BY_KEY = {score.key: score for score in SCORES}


@dataclass(frozen=True)
class RunWarning:
    """One warning.

    name: kebab-case and stable, for programs. message: what was found, in one sentence without a stop. advice: what to
    do. level: `serious` where scores cannot mean anything, `caution` where they are to be read with care.
    """

    name: str
    message: str
    advice: str
    level: Level = "caution"

    def tree(self) -> dict[str, str]:
        """As summary.json holds it."""
        return {"name": self.name, "level": self.level, "message": self.message, "advice": self.advice}


@dataclass(frozen=True)
class Facts:
    """A run as far as its folder tells. Whatever is not there, or not of the kind expected, is None or empty."""

    config: Mapping[str, Any]
    rows: Sequence[Row]
    summary: Mapping[str, Any]

    def setting(self, path: str) -> Any:
        """A value of the configuration by its dotted key."""
        value: Any = self.config
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def told(self, group: str, key: str) -> float | None:
        """A number in a group of the summary."""
        return number(_mapping(self.summary.get(group)).get(key))

    def ends(self, key: str) -> tuple[float | None, float | None]:
        """A score before the first round and after the last."""
        return before_after(BY_KEY[key], self.summary, self.rows)

    def after(self, key: str) -> float | None:
        """A score after the last round."""
        return self.ends(key)[1]

    def test_set(self, name: str) -> tuple[int, float] | None:
        """Samples and chance level of a test set: image, text, pair, joint, server, generator; None: not told.

        Of clients that have test sets of their own, the smallest.
        """
        held = _mapping(_mapping(self.summary.get("test_sets")).get(name))
        own = [scored[1] for client in self.clients.get(name, ()) if (scored := self.of_client(client))]
        samples, chance = min(own, default=number(held.get("samples"))), number(held.get("chance"))
        return (int(samples), chance) if samples and chance is not None else None

    @cached_property
    def clients(self) -> dict[str, list[str]]:
        """Names by modality, of the clients that were ever scored."""
        listed = _mapping(self.summary.get("clients"))
        found: dict[str, list[str]] = {}
        for name in dict.fromkeys(n for row in self.rows for n in _mapping(row.get("per_client"))):
            found.setdefault(end_of(name, listed), []).append(name)
        return found

    def of_client(self, name: str) -> tuple[float, int] | None:
        """A client's last score, and on how many test samples it was taken; None where either is not told."""
        for row in reversed(self.rows):
            value = number(_mapping(row.get("per_client")).get(name))
            if value is not None:
                samples = number(_mapping(row.get("tested")).get(name))
                return (value, int(samples)) if samples else None
        return None

    @cached_property
    def labels(self) -> list[Mapping[str, Any]]:
        """What became of the labels of synthetic samples, of each round that had such; `round` is in it."""
        return [
            {**_mapping(row["labels"]), "round": row.get("round")}
            for row in self.rows
            if isinstance(row.get("labels"), Mapping)
        ]

    def class_name(self, label: int) -> str:
        """A class by its number, as far as the summary names classes."""
        names = self.summary.get("class_names")
        known = isinstance(names, Sequence) and not isinstance(names, str) and label < len(names)
        return str(names[label]) if known and names is not None else f"class {label}"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def listing(names: Sequence[str], most: int = 4) -> str:
    """`a, b, c, d and 3 more`."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def percent(share: float) -> str:
    """`42%`; a decimal where the whole number would hide that it is not 0 or 100."""
    whole = f"{100 * share:.0f}%"
    return f"{100 * share:.1f}%" if whole in ("0%", "100%") and share not in (0.0, 1.0) else whole
