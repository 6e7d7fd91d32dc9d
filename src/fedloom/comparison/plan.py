"""What a comparison consists of, as validated types: YAML file, preset and command line all end here. Light."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from fedloom.comparison.measures import MEASURES, TARGETS, TO_TARGET
from fedloom.comparison.plan_tree import comparisons, plan_tree
from fedloom.config import presets
from fedloom.config.base import Seed
from fedloom.config.models import Frozen
from fedloom.config.trees import merged, validate
from fedloom.errors import BadInput, nearest, unknown
from fedloom.registry import METHODS

# Cells differ in these by the plan alone, and all run on one engine, so that they are comparable.
RESERVED = ("method", "seed", "engine")
DEFAULT_SCORES = ("image_accuracy", "text_accuracy", "t2i_accuracy")
JOINT_SCORES = (
    "joint_accuracy",
    "server_accuracy",
    "server_spread",
)  # in their place where all clients are joint


class Row(Frozen):
    """A method, or a variant of one."""

    name: str = Field("", description="default: the method's name")
    method: str
    set: dict[str, Any] = Field(default_factory=dict, description="configuration tree of this row")
    only: tuple[str, ...] | None = Field(None, description="names of the columns it takes part in; null: all")

    @field_validator("method", mode="before")
    @classmethod
    def _method(cls, given: Any) -> Any:
        return METHODS.lenient(given) if isinstance(given, str) else given


class Column(Frozen):
    """A setting that every row is run in."""

    name: str = ""
    set: dict[str, Any] = Field(default_factory=dict, description="configuration tree of this column")


class TargetScore(Frozen):
    """A score and the value that it is to reach: how many rounds that takes is then a column of the tables."""

    score: str
    value: float


MOST_SEEDS = 1_000


class ComparisonPlan(Frozen):
    """A comparison: rows x columns x seeds."""

    title: str = ""
    note: str = ""
    seeds: tuple[Seed, ...] = (0,)
    reference: str | None = Field(None, description="row that the others are paired with, seed by seed")
    scores: tuple[str, ...] = DEFAULT_SCORES
    target: TargetScore | None = None
    base: dict[str, Any] = Field(default_factory=dict, description="configuration tree under every cell")
    pretraining: Literal["one", "each seed"] = Field(
        "one",
        description="one pretraining of server models and backbones for all cells, or one a seed (server.seed)",
    )
    rows: tuple[Row, ...]
    columns: tuple[Column, ...] = (Column(),)

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, tree: Any) -> Any:
        """A row without a name has its method's; with a target, the rounds to it are among the scores."""
        if not isinstance(tree, Mapping):
            return tree
        rows, scores = tree.get("rows"), tree.get("scores", DEFAULT_SCORES)
        if tree.get("target") is not None and isinstance(scores, list | tuple) and TO_TARGET not in scores:
            tree = {**tree, "scores": [*scores, TO_TARGET]}
        if not isinstance(rows, list | tuple):
            return tree
        named = [
            {**row, "name": _row_name(row.get("method", ""))}
            if isinstance(row, Mapping) and row.get("name") in (None, "")
            else row
            for row in rows
        ]
        return {**tree, "rows": named}

    @model_validator(mode="after")
    def _whole(self) -> ComparisonPlan:
        for what, given in (
            ("seed", self.seeds),
            ("row", [r.name for r in self.rows]),
            ("column", [c.name for c in self.columns]),
            ("score", self.scores),
        ):
            if not given:
                raise ValueError(f"there is no {what}")
            most, times = Counter(given).most_common(1)[0]
            if times > 1:
                raise ValueError(f"{what} {most!r} is given twice")
        if len(self.seeds) > MOST_SEEDS:
            raise ValueError(f"{len(self.seeds):,} seeds: allowed are at most {MOST_SEEDS:,}")
        columns = [column.name for column in self.columns]
        if len(columns) > 1 and "" in columns:
            raise ValueError("a column has no name")
        for row in self.rows:
            if not METHODS.has(row.method):
                _known("method", row.method, METHODS.names())
            for column in row.only or ():
                _known("column", column, columns)
        for score in self.scores:
            _known("score", score, MEASURES)
        if self.target is not None:
            _known("score", self.target.score, TARGETS)
        elif TO_TARGET in self.scores:
            raise ValueError(f"the score {TO_TARGET} needs a target: {{score: server_recall, value: 0.5}}, say")
        if self.reference is not None:
            _known("row", self.reference, [row.name for row in self.rows])
        for where, tree in self._trees().items():
            for key in RESERVED:
                if key in tree:
                    raise ValueError(f"{where}.{key} cannot be set: {_WHY}")
        return self

    def _trees(self) -> dict[str, dict[str, Any]]:
        rows = {f"rows.{row.name}.set": row.set for row in self.rows}
        return {"base": self.base, **rows, **{f"columns.{c.name}.set": c.set for c in self.columns}}

    def has(self, row: Row, column: Column) -> bool:
        """Whether the row takes part in the column."""
        return row.only is None or column.name in row.only


def _row_name(method: Any) -> Any:
    """What a row is called that has no name of its own."""
    return METHODS.label(method) if isinstance(method, str) and METHODS.has(method) else method


_WHY = "rows name the methods, seeds are listed, and every cell runs on the engine local with one thread"


def _known(kind: str, name: str, allowed: Any) -> None:
    if name not in allowed:
        raise ValueError(f"unknown {kind} {name!r}.{nearest(name, allowed)} Allowed: {', '.join(allowed)}.")


def read_plan(
    *,
    preset: str | None = None,
    file: str | Path | Mapping[str, Any] | None = None,
    methods: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    reference: str | None = None,
    scores: Sequence[str] | None = None,
) -> ComparisonPlan:
    """The plan of a preset or a file, or one row a method; then what is given besides.

    Args:
        file: a plan in YAML, a mapping that says the same, or either as a run's configuration.
        methods: the rows; with a preset or a file, keep only its rows of these names or methods.
        reference: a row's name, or the method of one row.

    Raises:
        BadInput: an unknown name, or nothing to compare; one line with the thing, its value and what is allowed.
    """
    if preset is not None and file is not None:
        raise BadInput("give a preset or a plan, not both")
    if preset is not None and preset not in comparisons():
        raise _no_comparison(preset)
    given = {k: list(v) for k, v in (("seeds", seeds), ("scores", scores)) if v is not None}
    source = comparisons()[preset] if preset is not None else file
    if source is None:
        if not methods:
            raise BadInput("nothing to compare: name methods or a preset")
        rows = [{"method": m} for m in methods]
        plan: ComparisonPlan = validate(ComparisonPlan, {"rows": rows, **given})
    else:
        plan = validate(ComparisonPlan, merged(plan_tree(source, methods), given))
        plan = _only_rows(plan, methods, preset) if methods else plan
    if reference is not None:
        plan = with_plan(plan, reference=_row_called(plan, reference))
    return plan


def _no_comparison(preset: str) -> BadInput:
    """The error for a name that no comparison has; it may be that of a preset of runs."""
    if preset in presets():
        return BadInput(f"{preset!r} is no comparison but a preset of `fedloom run`: {_over(preset)}")
    return unknown("comparison", preset, comparisons())


def _over(preset: str) -> str:
    """How methods are compared on a preset of runs."""
    return (
        f"to compare methods on the run preset {preset!r}, put `base: {{preset: {preset}}}` in a file and give it as "
        "--config, with --methods"
    )


def with_plan(plan: ComparisonPlan, **changes: Any) -> ComparisonPlan:
    """The plan with some fields replaced, validated again."""
    changed: ComparisonPlan = validate(ComparisonPlan, {**plan.model_dump(mode="json"), **changes})
    return changed


def _only_rows(plan: ComparisonPlan, wanted: Sequence[str], preset: str | None) -> ComparisonPlan:
    """The rows of these names or methods. A reference that is left out is no reference any more.

    preset: the comparison that they are of, if it is one of fedloom's.
    """
    names = {row.name for row in plan.rows}
    wanted = [name if name in names else METHODS.lenient(name) for name in wanted]
    for name in wanted:
        if not any(name in (row.name, row.method) for row in plan.rows):
            error = unknown("row", name, {n for row in plan.rows for n in (row.name, row.method)})
            if preset not in presets():
                raise error
            raise BadInput(f"{error} Here {preset!r} is a comparison with rows of its own; {_over(preset)}")
    rows = [r.model_dump(mode="json") for r in plan.rows if r.name in wanted or r.method in wanted]
    kept = plan.reference if any(r["name"] == plan.reference for r in rows) else None
    return with_plan(plan, rows=rows, reference=kept)


def _row_called(plan: ComparisonPlan, name: str) -> str:
    names = [row.name for row in plan.rows]
    of_method = [row.name for row in plan.rows if row.method == name]
    return of_method[0] if name not in names and len(of_method) == 1 else name
