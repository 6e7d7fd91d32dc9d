"""`fedloom run --plan`: what a run will take, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedloom.cli.screen import grid, show, show_json
from fedloom.planning.words import flop, size, time

if TYPE_CHECKING:
    from fedloom.config import Config
    from fedloom.planning import Plan


def show_plan(config: Config, on: str | None, json: bool) -> None:
    """Print the plan of a run of that configuration; `on`: the accelerator whose published rate is taken."""
    from fedloom.planning import plan

    found = plan(config, on=on)
    if json:
        show_json(found.to_dict())
        return
    show(
        f"{found.method} on {found.data}: {found.clients} clients, {found.rounds} rounds. "
        "Nothing is read, loaded or started.",
        _models(found),
        _memory(found),
        f"On disk: {size(found.checkpoint)} per checkpoint, one {_often(found.checkpoint_every)}; "
        f"the newest {found.checkpoint_keep} are kept.\n",
        _wire(found),
        _work(found),
        *_remarks(found),
    )


def _often(rounds: int) -> str:
    return "every round" if rounds == 1 else f"every {rounds} rounds"


def _models(plan: Plan) -> Any:
    rows = [
        (
            m.role if m.role.endswith("UNet") else m.role.removeprefix("generator: "),
            m.kind,
            m.count,
            f"{m.parameters:,}",
            f"{m.trained:,}",
            m.device,
            m.source,
            {None: "", True: "yes", False: "no"}[m.here],
        )
        for m in plan.models
    ]
    heads = ("model", "class", "n", "parameters", "trained", "device", "weights from", "here")
    return grid(heads, rows, numbers=(2, 3, 4))


def _memory(plan: Plan) -> Any:
    rows = [
        (
            d.device,
            *(size(n) for n in (d.weights, d.gradients, d.moments)),
            f"~{size(d.activations)}",
            f"~{size(d.total)}",
        )
        for d in plan.devices
    ]
    heads = ("memory", "weights", "gradients", "moments", "activations (estimate)", "all")
    return grid(heads, rows, numbers=(1, 2, 3, 4, 5))


def _wire(plan: Plan) -> str:
    if plan.bytes_up is None or plan.bytes_down is None:
        return f"On the wire: no paper gives a formula for {plan.method}; a run's ledger counts what is sent.\n"
    whole = f"{plan.bytes_up * plan.rounds:,} up and {plan.bytes_down * plan.rounds:,} down in all rounds"
    said = "" if plan.formula == "none" else f" (formula of {plan.formula}, all samples kept)"
    return f"Bytes on the wire: {plan.bytes_up:,} up and {plan.bytes_down:,} down a round, {whole}{said}.\n"


def _work(plan: Plan) -> Any:
    rows = [(p.phase, p.device, p.times, flop(p.flop), flop(p.times * p.flop), time(p.seconds)) for p in plan.phases]
    heads = ("work", "device", "times", "of one", "of all", "time (estimate)")
    return grid(heads, rows, numbers=(2, 3, 4, 5))


def _remarks(plan: Plan) -> list[str]:
    """Where the times come from, what is missing, and what else is to be known."""
    lines = [
        f"Time: FLOP / ({plan.share:g} x rate). The share is an assumption; cached work and waiting are not counted."
    ]
    lines += [f"  {device}: {rate / 1e12:,.4g} TFLOP/s, {said}" for device, (rate, said) in plan.rates.items()]
    if plan.seconds is None:
        lines.append("  a device is missing here: name an accelerator to estimate times for, such as --on H200")
    else:
        lines.append(f"  total: {time(plan.seconds)}")
    lines += [f"Note: {note}" for note in plan.notes]
    if plan.missing:
        lines.append(f"Not here yet, `fedloom fetch` downloads them: {', '.join(plan.missing)}")
    return lines
