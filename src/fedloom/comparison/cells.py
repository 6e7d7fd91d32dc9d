"""The runs of a plan: each with its whole configuration and the folder it lies in."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedloom.comparison.measures import ADDED, MEASURES
from fedloom.comparison.plan import DEFAULT_SCORES, JOINT_SCORES, RESERVED, Column, ComparisonPlan, Row
from fedloom.config import Config, load_config
from fedloom.config.defaults import Say, fill_in, said_where, silent
from fedloom.config.trees import merged, nested, override
from fedloom.errors import BadInput
from fedloom.registry import DATASETS, METHODS, METRICS, outside_code
from fedloom.runs.folder import flatten

# One thread a run: the cells are what runs side by side, and results are defined for one number of threads.
ENGINE = {"name": "local", "workers": 0, "threads": 1}


@dataclass(frozen=True)
class ComparisonCell:
    """One run of a comparison. Cells of one configuration have one folder, and are run once."""

    row: str
    column: str
    seed: int
    config: Config
    folder: str  # its name below the folder of all cells

    @property
    def group(self) -> tuple[str, int]:
        """Cells of one group share data, split and warm start."""
        return self.column, self.seed

    @property
    def label(self) -> str:
        """`FedMD, 2+2, seed 1`."""
        return ", ".join(x for x in (self.row, self.column, f"seed {self.seed}") if x)


def make_cells(
    plan: ComparisonPlan, values: Mapping[str, Any], overrides: Sequence[str], say: Say = silent
) -> list[ComparisonCell]:
    """Every cell, seed by seed: an interrupted comparison has whole tables of the first seeds.

    Where nothing is said of data and clients, all rows of a column have those that fit all their methods.

    Args:
        values: a configuration tree above the plan's own.
        overrides: `key=value`, above all.
        say: told, in a line each, what was filled in.

    Raises:
        BadInput: a cell's configuration is wrong; says which row and column.
    """
    for key in (*values, *(text.partition("=")[0] for text in overrides)):
        if (top := key.partition(".")[0]) in RESERVED:
            raise BadInput(
                f"{top} cannot be set for a comparison: its rows name the methods, its seeds are a list, "
                "and every cell runs on the engine local with one thread"
            )
    values = nested(values)
    pairs = [(row, column) for column in plan.columns for row in plan.rows if plan.has(row, column)]
    if not pairs:
        raise BadInput("the comparison has no cell: no row takes part in any column")
    told: dict[str, None] = {}  # of each column mostly the same
    trees = {c.name: _common(plan, c, values, overrides, told) for c in plan.columns}
    configs = [_resolved(trees[c.name], row, c, values, overrides) for row, c in pairs]
    configs = _fitted(pairs, configs, told)
    for line in told:
        say(line)
    cells = []
    for seed in plan.seeds:
        for (row, column), config in zip(pairs, configs):
            own = config.model_copy(update={"seed": seed})
            if plan.pretraining == "each seed":
                own = own.model_copy(update={"server": own.server.model_copy(update={"seed": seed})})
            cells.append(ComparisonCell(row.name, column.name, seed, own, folder_name(own)))
    return cells


def fitting_scores(plan: ComparisonPlan, cells: Sequence[ComparisonCell]) -> tuple[str, ...]:
    """The plan's scores; where it has the usual ones and all clients are joint, those of multimodal clients instead.

    Metrics that were added to the runs come last.
    """
    added = tuple(key for name in added_metrics(cells) if (key := ADDED + name) not in plan.scores)
    usual = len(DEFAULT_SCORES)
    joint = all(c.config.clients.groups == c.config.clients.joint for c in cells)
    if plan.scores[:usual] != DEFAULT_SCORES or not joint:
        return plan.scores + added
    return (*JOINT_SCORES, *plan.scores[usual:], *added)


def added_metrics(cells: Sequence[ComparisonCell]) -> dict[str, dict[str, Any]]:
    """The metrics of `evaluation.metrics` by name, and how they are shown; they are then among `MEASURES`."""
    references = dict.fromkeys(name for cell in cells for name in cell.config.evaluation.metrics)
    found = {metric.name: metric.display() for metric in map(METRICS.find, references)}
    MEASURES.add(found)
    return found


def _common(
    plan: ComparisonPlan, column: Column, values: Mapping[str, Any], overrides: Sequence[str], told: dict[str, None]
) -> dict[str, Any]:
    """What lies under the column's rows: base and column, with data and clients that fit the methods of all of them."""
    above: dict[str, Any] = {}
    for tree in (values, *map(override, overrides)):
        above = merged(above, tree)
    below = merged(plan.base, column.set)
    rows = [row for row in plan.rows if plan.has(row, column)]
    if any(said_where(row.set) for row in rows):  # rows that differ in this say it themselves
        return below
    methods = [row.method for row in rows]
    try:
        return fill_in(merged(below, above), told.setdefault, methods)
    except BadInput as error:
        raise BadInput(f"column {column.name!r}: {error}" if column.name else str(error)) from None


def _resolved(
    tree: Mapping[str, Any], row: Row, column: Column, values: Mapping[str, Any], overrides: Sequence[str]
) -> Config:
    """Defaults < `tree`, of base and column < row < `values` < `overrides`, for the row's method."""
    from fedloom.data.registry import loader_of
    from fedloom.experiment.resolve import completed

    for above in (row.set, values):
        tree = merged(tree, above)
    tree = merged(tree, {"method": row.method, "engine": ENGINE})
    with _placed(row, column):
        config = load_config(values=tree, overrides=overrides)
        completed(config)
        loader_of(config.data.name, config.data.root, config.data.options)
    return config


def _fitted(pairs: Sequence[tuple[Row, Column]], configs: Sequence[Config], told: dict[str, None]) -> list[Config]:
    """The configurations with pictures and clients that fit all rows of their column, with the methods' settings."""
    from fedloom.experiment.fitting import side_rules, with_side
    from fedloom.experiment.resolve import completed, counted

    rules: dict[str, dict[str, int]] = {}
    for (_, column), config in zip(pairs, configs):
        rules.setdefault(column.name, {}).update(side_rules(*completed(config)))
    done = []
    for (row, column), config in zip(pairs, configs):
        with _placed(row, column):
            sized = with_side(config, rules[column.name], told.setdefault)
            _, method, _ = completed(sized)
            done.append(completed(counted(sized, method, None, told.setdefault))[0])
    return done


@contextmanager
def _placed(row: Row, column: Column) -> Iterator[None]:
    """Says in which row and column bad input was."""
    try:
        yield
    except BadInput as error:
        place = f"row {row.name!r}" + (f", column {column.name!r}" if column.name else "")
        raise BadInput(f"{place}: {error}") from None


def folder_name(config: Config) -> str:
    """`METHOD-DATA-SEED-DIGEST`: the digest is of all that results depend on."""
    from fedloom.experiment.begin import FREE_ON_RESUME

    tree = config.model_dump(mode="json")
    telling = {key: value for key, value in flatten(tree).items() if key not in FREE_ON_RESUME}
    telling |= {f"code of {name}": digest for name, digest in outside_code(tree).items()}
    digest = hashlib.sha256(json.dumps(telling, sort_keys=True).encode()).hexdigest()[:8]
    data = Path(DATASETS.label(config.data.name)).name
    return re.sub(r"[^\w.]+", "-", f"{METHODS.label(config.method)}-{data}-{config.seed}-{digest}").strip("-.")


def check_data(cells: Sequence[ComparisonCell]) -> None:
    """Read every data set that the cells need, and split it as they will: what is wrong with it is said at once.

    Raises:
        BadInput: a data set cannot be read, or has too little for the clients; says which row and column.
    """
    from fedloom.experiment.build import split_data
    from fedloom.experiment.datasets import cached_dataset
    from fedloom.methods.base import load_method

    def key(cell: ComparisonCell) -> str:
        source = cell.config.data
        return json.dumps([source.name, source.root, source.options], sort_keys=True, default=str)

    loaded: dict[str, Any] = {}
    for cell in sorted(cells, key=key):
        try:
            if key(cell) not in loaded:
                loaded = {key(cell): cached_dataset(cell.config.data)}  # one at a time: they can be large
            if load_method(cell.config.method)[0].tasks:
                split_data(cell.config, loaded[key(cell)])
        except BadInput as error:
            raise BadInput(f"{cell.label}: {error}") from None
