"""What makes a comparison doubtful: the warnings on its runs put together, one seed, differences that may be none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedloom.comparison.measures import MEASURES
from fedloom.comparison.plan import ComparisonPlan
from fedloom.comparison.statistics import NOT_SHOWN
from fedloom.reporting.health import RunWarning, warnings_of
from fedloom.reporting.health.facts import listing

Record = Mapping[str, Any]
OF_ONE_RUN = "one-seed"  # of every run; here the plan's seeds count


def cell_warnings(
    config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]
) -> list[dict[str, str]]:
    """The warnings on a cell's run, as its record holds them."""
    return [w.tree() for w in warnings_of(config, rows, summary) if w.name != OF_ONE_RUN]


def doubts_of(
    plan: ComparisonPlan, records: Sequence[Record], table: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Every warning once, serious ones first.

    Each has `name`, `level`, `message`, `advice`, and `where`: of those on runs, the seeds that have it by row and
    column, and of how many that are done; [] of those on the comparison as a whole.
    """
    own = [{**w.tree(), "where": []} for w in (_one_seed(plan), _no_effect(plan, table)) if w is not None]
    found = [*_of_runs(records), *own]
    return sorted(found, key=lambda w: w["level"] != "serious")


def _of_runs(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The warnings on runs by name; level and message are those of the first that is serious, or else the first.

    Where runs have different messages, it says whose it is.
    """
    done: dict[tuple[str, str], int] = {}
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        place = (record["row"], record["column"])
        done[place] = done.get(place, 0) + bool(record["scores"])
        for w in record.get("warnings") or ():
            whose = f"{_named(*place)}, seed {record['seed']}"
            entry = found.setdefault(w["name"], {**w, "seeds": {}, "said": set(), "whose": whose})
            if w["level"] == "serious" and entry["level"] != "serious":
                entry |= {**w, "whose": whose}
            entry["seeds"].setdefault(place, []).append(record["seed"])
            entry["said"].add(w["message"])
    for w in found.values():
        if len(w["said"]) > 1:
            w["message"] = f"{w['whose']}: {w['message']}"
    return [
        {k: v for k, v in w.items() if k not in ("seeds", "said", "whose")}
        | {
            "where": [
                {"row": row, "column": column, "seeds": seeds, "of": done[row, column]}
                for (row, column), seeds in w["seeds"].items()
            ]
        }
        for w in found.values()
    ]


def _one_seed(plan: ComparisonPlan) -> RunWarning | None:
    if len(plan.seeds) > 1:
        return None
    return RunWarning(
        "one-seed",
        "one seed has no interval and is no evidence that one row is better than another",
        "--seeds 0-4; what is done is not done again.",
    )


def _no_effect(plan: ComparisonPlan, table: Sequence[Mapping[str, Any]]) -> RunWarning | None:
    """Differences to the reference that the seeds do not show, by the corrected test."""
    known = [
        e for e in table if not MEASURES[e["score"]].cost and e["difference"] and e["difference"]["low"] is not None
    ]
    held = [e for e in known if e["difference"]["verdict"] == NOT_SHOWN]
    if not held:
        return None
    names = [" / ".join((_named(e["row"], e["column"]), MEASURES[e["score"]].name)) for e in held]
    return RunWarning(
        "difference-not-shown",
        f"{len(held)} of {len(known)} differences to {plan.reference} may be none, p >= 0.05 after correction (Holm): "
        + listing(names),
        "More seeds show smaller differences; claim nothing from these.",
    )


def place_text(warning: Mapping[str, Any], cells: int) -> str:
    """`FedMD 3 of 5 seeds, FedMMKT 5 of 5 seeds`; `all 10 runs`; '' for the comparison as a whole.

    Args:
        cells: runs that are done.
    """
    where = warning["where"]
    if where and sum(len(w["seeds"]) for w in where) == cells:
        return f"all {cells} runs" if cells > 1 else "the only run"
    return listing([_place(w) for w in where], most=6)


def _place(where: Mapping[str, Any]) -> str:
    name = _named(where["row"], where["column"])
    return f"{name} {len(where['seeds'])} of {where['of']} seed{'s' * (where['of'] > 1)}"


def _named(row: str, column: str) -> str:
    """`FedMMKT / images alone`; the row alone where there is one column."""
    return " / ".join(x for x in (row, column) if x)
