"""A study, as `benchmarks/studies/NAME.yaml` declares it."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from evidence.comparisons import study_tree
from evidence.rows import AT, FIRST, LABELS
from fedloom.config.models import Frozen
from fedloom.config.trees import read_tree, validate
from fedloom.config.yaml_core import Tree
from fedloom.errors import BadInput, unknown
from fedloom.runs.folder import flatten

STUDIES = Path(__file__).resolve().parents[1] / "studies"
SCORES = ("image_accuracy", "text_accuracy", "t2i_accuracy", "clip_score", "fid", "inception_score")
BEFORE = " (before)"  # the pseudo arm of what an arm was before its first round


class Claim(Frozen):
    """A headline claim: `arm` is above (below) `reference` in `score`, by `at_least` in the mean, or no worse by
    `margin`."""

    arm: str
    reference: str = Field(description="another arm, `ARM (before)`, or the same arm with another reference_score")
    score: str
    reference_score: str | None = Field(None, description="of the reference; null: the same score")
    direction: Literal["above", "below"] = "above"
    at_least: float = Field(0.0, ge=0, description="smallest mean difference that is worth a claim")
    margin: float = Field(
        0.0, ge=0, description="what `arm` may be worse by: it is compared with `reference` less that"
    )

    @property
    def text(self) -> str:
        """`fedmmkt above standalone in image_accuracy, by 0.02 or more`."""
        other = f"'s {self.reference_score}" if self.reference_score else ""
        by = f", by {self.at_least:g} or more" if self.at_least else ""
        less = f" {'less' if self.direction == 'above' else 'plus'} {self.margin:g}" if self.margin else ""
        return f"{self.arm} {self.direction} {self.reference}{other}{less} in {self.score}{by}"


class Extract(Frozen):
    """A short table of means: names of rows by arm (or `ARM (before)`), and scores by column."""

    rows: dict[str, str]
    scores: dict[str, str]


class Map(Frozen):
    """The gain of the main arm over `reference` in some of the study's scores, cell by cell."""

    reference: str
    scores: tuple[str, ...] = Field(min_length=1)


class Study(Frozen):
    """Arms x seeds. Settings are dotted keys, or trees."""

    name: str
    title: str = ""
    preset: str | None = None
    base: dict[str, Any] = Field(default_factory=dict, description="settings of every run")
    others: dict[str, Any] = Field(default_factory=dict, description="settings of every arm but `main`")
    seeded: tuple[str, ...] = Field(
        ("seed", "server.seed", "data.options.seed"), description="settings that take the seed's number"
    )
    main: str = Field(description="the arm that differences are to")
    arms: dict[str, dict[str, Any]]
    without_clients: tuple[str, ...] = Field((), description="arms that need no client")
    bounds: tuple[str, ...] = Field((), description="arms that know what no method may: oracle bounds")
    scores: dict[str, str] = Field(
        default_factory=lambda: {s: s.replace("_", " ") for s in SCORES},
        description="scores of summary.json -> heading",
    )
    claims: tuple[Claim, ...] = ()
    tables: dict[str, Extract] = Field(default_factory=dict, description="short tables by name")
    grid: dict[str, dict[str, dict[str, Any]]] = Field(
        default_factory=dict, description="axis -> value -> its settings; every arm is run in every cell"
    )
    map: Map | None = Field(None, description="of a study with a grid: what its figure shows")
    lines: dict[str, str] = Field(
        default_factory=dict, description="the same without a map: scores, or labels' scores -> heading of a panel"
    )

    @field_validator("base", "others", "scores", mode="before")
    @classmethod
    def _flat(cls, given: Any) -> Any:
        return flat(given) if isinstance(given, Mapping) else given

    @field_validator("arms", mode="before")
    @classmethod
    def _flat_arms(cls, given: Any) -> Any:
        return {arm: flat(settings or {}) for arm, settings in given.items()} if isinstance(given, Mapping) else given

    @model_validator(mode="after")
    def _whole(self) -> Study:
        named = [("main", self.main)]
        named += [(key, arm) for key in ("without_clients", "bounds") for arm in getattr(self, key)]
        for claim in self.claims:
            named += [("claims", name.removesuffix(BEFORE)) for name in (claim.arm, claim.reference)]
            allowed = {*self.scores, *(f"{s}_before" for s in self.scores), *LABEL_SCORES}
            for score in filter(None, (claim.score, claim.reference_score)):
                if score not in allowed:
                    raise ValueError(f"claims: unknown score {score!r}. Allowed: {', '.join(sorted(allowed))}.")
        if odd := [score for score in self.lines if score not in (*self.scores, *LABEL_SCORES)]:
            allowed = sorted({*self.scores, *LABEL_SCORES})
            raise ValueError(f"lines: unknown score {odd[0]!r}. Allowed: {', '.join(allowed)}.")
        named += [("tables", arm.removesuffix(BEFORE)) for table in self.tables.values() for arm in table.rows]
        if self.map:
            named.append(("map", self.map.reference))
            if odd := [score for score in self.map.scores if score not in self.scores]:
                raise ValueError(f"map: unknown score {odd[0]!r}. Allowed: {', '.join(self.scores)}.")
        there = {*self.arms, *map(bare, self.arms)}
        for where, arm in named:
            if arm not in there:
                raise ValueError(f"{where}: unknown arm {arm!r}. Allowed: {', '.join(self.arms)}.")
        if taken := [key for arm in self.arms.values() for key in (*self.base, *arm) if key in self.seeded]:
            raise ValueError(
                f"{taken[0]} takes the seed's number and cannot be set; leave it out of `seeded` to set it"
            )
        return self

    def settings(self, arm: str, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Those of an arm, without what takes the seed's number: base, `others`, arm, `extra`; later ones win.

        An arm with another method keeps no `settings.` key of the base: they are of the base's method.
        """
        own, base = self.arms[arm], {**self.base, **({} if bare(arm) == self.main else self.others)}
        if "method" in own:
            base = {key: value for key, value in base.items() if not key.startswith("settings.")}
        return {**base, **own, **(extra or {})}

    def settings_text(self, arm: str, extra: Mapping[str, Any] | None = None) -> str:
        """Preset and settings in one line, as a row keeps them."""
        parts = [f"{key}={compact(value)}" for key, value in sorted(self.settings(arm, extra).items())]
        return "; ".join([*([f"preset={self.preset}"] if self.preset else []), *parts])

    def overrides(self, arm: str, seed: int, extra: Mapping[str, Any] | None = None) -> list[str]:
        """All settings of a run over the preset, `KEY=VALUE`; $NAME is an environment variable's value."""
        pairs = {**self.settings(arm, extra), **dict.fromkeys(self.seeded, seed)}
        return [f"{key}={_expanded(compact(value))}" for key, value in pairs.items()]


LABEL_SCORES = tuple(f"{label}_{when}" for label in LABELS for when in ("round1", "mean"))


def bare(arm: str) -> str:
    """An arm's name without its cell of the grid."""
    return arm.partition(AT)[0]


def cells(grid: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Every cell of a grid by its name, `classes=10 alpha=0.1`: the value of each axis."""
    values = itertools.product(*grid.values())
    found = [dict(zip(grid, cell)) for cell in values]
    return {" ".join(f"{axis}={value}" for axis, value in cell.items()): cell for cell in found}


def axes_of(grid: Any) -> dict[str, dict[str, dict[str, Any]]]:
    """The axes of a grid as a file has them, each a list of {value, set}: axis -> value -> its settings.

    Raises:
        BadInput: it is something else.
    """
    axes = {}
    for name, values in grid.items() if isinstance(grid, Mapping) else [("grid", grid)]:
        whole = isinstance(values, list) and all(isinstance(v, Mapping) and set(v) == {"value", "set"} for v in values)
        if not whole or not values or not all(isinstance(v["set"], Mapping) for v in values):
            raise BadInput(f"grid: {name} = {values!r}, expected a list of {{value: NAME, set: SETTINGS}}")
        axes[name] = {str(v["value"]): flat(v["set"]) for v in values}
    return axes


def over_grid(arms: Mapping[str, Any], grid: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Every arm in every cell, `ARM @ CELL`: with the settings of the cell, and its own over them."""
    found: dict[str, dict[str, Any]] = {}
    for cell, values in cells(grid).items():
        below = {key: v for axis, value in values.items() for key, v in grid[axis][value].items()}
        for arm, own in arms.items():
            found[f"{arm}{AT}{cell}"] = {**below, **flat(own or {})}
    return found


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Trees as dotted keys; lists stay whole."""
    return dict(flatten(settings))


def compact(value: Any) -> str:
    """A value as YAML reads it, in one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _expanded(text: str) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise BadInput(f"{text!r} needs ${match[1]}, which is not set in the environment")
        return os.environ[match[1]]

    return re.sub(r"\$(\w+)", value, text)


def load(name: str | Path) -> Study:
    """The study of a name, or of a file; laid over the comparison that it is `like`, its arms added.

    Raises:
        BadInput: there is none, or it is not valid; one line.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = STUDIES / f"{name}.yaml"
        if not path.is_file():
            raise unknown("study", str(name), names())
    tree = read_tree(path, "study")
    if (like := tree.pop("like", None)) is not None:
        below = study_tree(like)
        arms = {**below["arms"], **(tree.get("arms") or {})}
        tree = Tree({**below, **tree, "arms": arms}, places=tree.places)
    tree["name"] = path.stem
    if tree.get("grid"):
        tree["grid"] = axes_of(tree["grid"])
        tree["arms"] = over_grid(tree.get("arms") or {}, tree["grid"])
    study: Study = validate(Study, tree)
    return study


def names() -> list[str]:
    """The studies that are there."""
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


def chosen_arms(study: Study, arms: str) -> list[str]:
    """Arms by name, comma between, of a grid also all of an arm or of a cell; all for ''.

    Raises:
        BadInput: one that the study has not.
    """
    found: dict[str, None] = {}
    for wanted in filter(None, (arm.strip() for arm in arms.split(","))):
        fitting = [arm for arm in study.arms if wanted in (arm, bare(arm), arm.partition(AT)[2])]
        if not fitting:
            raise unknown("arm", wanted, study.arms)
        found |= dict.fromkeys(fitting)
    return list(found or study.arms)


def overrides(given: Iterable[str]) -> dict[str, Any]:
    """`--set key=value` of the command line. Raises BadInput for one without a `=`, or that is a row's own."""
    out = {}
    for text in given:
        key, sign, value = text.partition("=")
        if not sign or not key or key in FIRST:
            raise BadInput(f"--set {text}: expected KEY=VALUE, KEY a setting other than {', '.join(FIRST)}")
        out[key] = value
    return out
