"""The runs of a plan: each with its whole configuration and the folder it lies in."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedloom.comparison.plan import DEFAULT_SCORES, JOINT_SCORES, RESERVED, Column, Plan, Row
from fedloom.config import Config, load_config
from fedloom.errors import BadInput
from fedloom.runs.folder import flatten
from fedloom.setting_trees import merged, nested

# One thread a run: the cells are what runs side by side, and results are defined for one number of threads.
ENGINE = {"name": "local", "workers": 0, "threads": 1}


@dataclass(frozen=True)
class Cell:
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


def make_cells(plan: Plan, values: Mapping[str, Any], overrides: Sequence[str]) -> list[Cell]:
    """Every cell, seed by seed: an interrupted comparison has whole tables of the first seeds.

    Args:
        values: a configuration tree above the plan's own.
        overrides: `key=value`, above all.

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
    configs = [_resolved(plan, row, column, values, overrides) for row, column in pairs]
    cells = []
    for seed in plan.seeds:
        for (row, column), config in zip(pairs, configs):
            own = config.model_copy(update={"seed": seed})
            if plan.pretraining == "each seed":
                own = own.model_copy(update={"server": own.server.model_copy(update={"seed": seed})})
            cells.append(Cell(row.name, column.name, seed, own, folder_name(own)))
    return cells


def fitting_scores(plan: Plan, cells: Sequence[Cell]) -> tuple[str, ...]:
    """The plan's scores; where it has the usual ones and all clients are joint, those of joint clients instead."""
    usual = len(DEFAULT_SCORES)
    joint = all(c.config.clients.groups == c.config.clients.joint for c in cells)
    if plan.scores[:usual] != DEFAULT_SCORES or not joint:
        return plan.scores
    return (*JOINT_SCORES, *plan.scores[usual:])


def _resolved(
    plan: Plan, row: Row, column: Column, values: Mapping[str, Any], overrides: Sequence[str]
) -> Config:
    """Defaults < base < column < row < `values` < `overrides`, with the method's settings filled in."""
    from fedloom.data.registry import loader_of
    from fedloom.parts import completed

    tree: dict[str, Any] = {}
    for above in (plan.base, column.set, row.set, values):
        tree = merged(tree, above)
    tree |= {"method": row.method, "engine": ENGINE}
    try:
        config, _, _ = completed(
            load_config(values=tree, overrides=overrides)
        )  # the very tree that its folder holds
        loader_of(config.data.name, config.data.root, config.data.options)
    except BadInput as error:
        place = f"row {row.name!r}" + (f", column {column.name!r}" if column.name else "")
        raise BadInput(f"{place}: {error}") from None
    return config


def folder_name(config: Config) -> str:
    """`METHOD-DATA-SEED-DIGEST`: the digest is of all that results depend on."""
    from fedloom.experiment import FREE_ON_RESUME

    flat = flatten(config.model_dump(mode="json"))
    counted = {key: value for key, value in flat.items() if key not in FREE_ON_RESUME}
    digest = hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()[:8]
    data = Path(config.data.name).name
    return re.sub(r"[^\w.]+", "-", f"{config.method}-{data}-{config.seed}-{digest}").strip("-.")


def check_data(cells: Sequence[Cell]) -> None:
    """Read every data set that the cells need, and split it as they will: what is wrong with it is said at once.

    Raises:
        BadInput: a data set cannot be read, or has too little for the clients; says which row and column.
    """
    from fedloom.methods.base import load_method
    from fedloom.parts import split_data
    from fedloom.scenes import cached_scene

    def key(cell: Cell) -> str:
        source = cell.config.data
        return json.dumps([source.name, source.root, source.options], sort_keys=True, default=str)

    loaded: dict[str, Any] = {}
    for cell in sorted(cells, key=key):
        try:
            if key(cell) not in loaded:
                loaded = {key(cell): cached_scene(cell.config.data)}  # one at a time: they can be large
            if load_method(cell.config.method)[0].clients:
                split_data(cell.config, loaded[key(cell)])
        except BadInput as error:
            raise BadInput(f"{cell.label}: {error}") from None
