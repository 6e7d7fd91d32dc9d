"""A plan at a glance: a few lines where it is printed, tables in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedloom.planning.words import flop, size, time
from fedloom.reporting.pages import Table, notebook

if TYPE_CHECKING:
    from fedloom.planning.records import Plan


def _name(plan: Plan) -> str:
    return f"{plan.method} on {plan.data}, {plan.clients} clients, {plan.rounds} rounds"


def plan_repr(plan: Plan) -> str:
    """One line."""
    return f"<Plan {_name(plan)}: {time(plan.seconds)}>"


def _facts(plan: Plan) -> list[tuple[str, str]]:
    """What it takes, by name."""
    parameters = sum(m.count * m.parameters for m in plan.models)
    trained = sum(m.count * m.trained for m in plan.models)
    wire = "no paper gives a formula"
    if plan.bytes_up is not None and plan.bytes_down is not None:
        wire = f"{plan.bytes_up:,} bytes up and {plan.bytes_down:,} down a round"
    facts = [
        ("models", f"{sum(m.count for m in plan.models)}: {parameters:,} parameters, {trained:,} trained"),
        *(("memory", f"{d.device} ~{size(d.total)}") for d in plan.devices),
        ("wire", wire),
        ("work", flop(sum(p.times * p.flop for p in plan.phases))),
        ("time", f"{time(plan.seconds)} (estimate)" if plan.seconds is not None else "not known"),
        ("disk", f"{size(plan.checkpoint)} per checkpoint, {plan.checkpoint_keep} kept"),
    ]
    return [*facts, ("missing", ", ".join(plan.missing))] if plan.missing else facts


def plan_text(plan: Plan) -> str:
    """What it takes: a line each."""
    return "\n".join([f"{_name(plan)}. Nothing is started.", *(f"  {key:<8}{said}" for key, said in _facts(plan))])


def plan_html(plan: Plan) -> str:
    """The same, with its models and work as tables; for a notebook."""
    models = [(m.role, m.kind, m.count, f"{m.parameters:,}", f"{m.trained:,}", m.device, m.source) for m in plan.models]
    work = [(p.phase, p.device, p.times, flop(p.times * p.flop), time(p.seconds)) for p in plan.phases]
    tables = [
        Table(("", ""), _facts(plan)),
        Table(("Model", "Class", "n", "Parameters", "Trained", "Device", "Weights from"), models),
        Table(("Work", "Device", "Times", "Of all", "Time (estimate)"), work),
    ]
    return notebook(_name(plan), ". Nothing is started.", tables=tables, lines=list(plan.notes), lines_title="Notes")
