"""What a run will take, before it begins: its models, memory, bytes on the wire, work and time.

No data are read (embedded ones where their classes are named), no weights loaded, nothing is asked of a hub: models are
built without memory for their weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fedloom.config import Config, load_config
from fedloom.data.registry import DATASETS
from fedloom.data.sizes import DataSizes, data_sizes
from fedloom.errors import BadInput
from fedloom.methods.base import Method
from fedloom.methods.workload import Workload
from fedloom.planning.memory import checkpoint_bytes, device_lines, server_device
from fedloom.planning.model_inventory import ModelInventory, inventory_of
from fedloom.planning.rates import rate_of
from fedloom.planning.records import ModelLine, PhaseLine, Plan
from fedloom.planning.server import ModelCost
from fedloom.planning.wire import round_on_the_wire
from fedloom.planning.work import Phase, phases
from fedloom.tasks import CLIENT_TASKS, ClientTask
from fedloom.weights.place import found_here

__all__ = ["Plan", "plan"]

SHARE = 0.3  # of its peak, what training and drawing may reach of a device: an assumption


def plan(
    config: Config | None = None,
    *,
    preset: str | None = None,
    overrides: Sequence[str] = (),
    on: str | None = None,
    share: float = SHARE,
    **values: Any,
) -> Plan:
    """What a run of this configuration will take.

    Args:
        config: the configuration; or build it from `preset`, `overrides` ("key=value") and `values` (top-level keys).
        on: an accelerator's name ("H200"), whose published rate is taken for devices other than the CPU.
        share: of a device's rate, what the work is thought to reach.

    Raises:
        BadInput: something given is wrong, or names weights that are neither here nor known.
    """
    from fedloom.experiment.resolve import completed, sized

    if not 0 < share <= 1:
        raise BadInput(f"share = {share}, allowed: above 0, up to 1")
    fitted: list[str] = []  # what nobody has said, in a line each
    config = config or load_config(preset=preset, overrides=overrides, values=values, say=fitted.append)
    config, method, settings = completed(sized(config, fitted.append))
    scene = data_sizes(config.data)
    declared = method.server.workload(settings, config.clients.batch)
    work = declared or Workload()
    unknown = [] if declared else [f"{config.method} does not declare its work: what it does in a round is not counted"]
    inventory = inventory_of(config, method, settings, work, scene)
    parts = phases(config, work, inventory, scene)
    notes = [*_learned_words(config, inventory), *_passes(config, work.private_steps, scene), *_there(config), *unknown]
    rates = _rates(parts, on)
    return Plan(
        config.method,
        config.data.name,
        config.rounds,
        len(inventory.clients),
        _model_lines(config, inventory),
        device_lines(config, work, inventory),
        tuple(_timed(p, rates, share) for p in parts),
        *round_on_the_wire(config, method, work, scene),
        checkpoint_bytes(config, inventory),
        config.checkpoints.every,
        config.checkpoints.keep,
        rates,
        share,
        (*fitted, *_participation(config, method), *scene.notes, *notes),
    )


# ---------------------------------------------------------------------------------------------------------- models


def _model_lines(config: Config, inventory: ModelInventory) -> tuple[ModelLine, ...]:
    """One line a model; clients of one model on one device are one line."""
    groups = Counter((m.model, m.device) for m in inventory.clients)
    lines = [_line(model, device, n) for (model, device), n in groups.items()]
    return (*lines, *(_line(model, server_device(config), model.count) for model in inventory.server))


def _line(model: ModelCost, device: str, n: int) -> ModelLine:
    source = model.source or ("at zero" if model.role.endswith("W_r") else "random or from the cache")
    here = None if model.source is None else all(found_here(name) for name in model.source.split("+") if name)
    return ModelLine(model.role, model.kind, n, model.parameters, model.trained, device, source, here)


# ------------------------------------------------------------------------------------------------------------ time


def _rates(work: Sequence[Phase], on: str | None) -> dict[str, tuple[float, str]]:
    found: dict[str, tuple[float, str]] = {}
    for device, precision in dict.fromkeys((p.device, p.precision) for p in work):
        rate = rate_of(device, precision, on)
        if rate is not None:
            found[f"{device} {precision}"] = rate
    return found


def _timed(phase: Phase, rates: Mapping[str, tuple[float, str]], share: float) -> PhaseLine:
    rate = rates.get(f"{phase.device} {phase.precision}")
    seconds = None if rate is None else phase.times * phase.flop / (share * rate[0])
    return PhaseLine(phase.name, phase.device, phase.times, phase.flop, seconds)


def _participation(config: Config, method: Method) -> list[str]:
    """What of `participation` has no effect; whether the data have the classes that it names.

    Raises:
        BadInput: embedded data lack one, as the run says.
    """
    from fedloom.experiment.arrivals import check_classes
    from fedloom.experiment.attendance import without_effect
    from fedloom.experiment.datasets import cached_dataset

    found, known = without_effect(config), DATASETS.get(config.data.name)
    if config.participation is None or not config.participation.classes:
        return found
    if known is not None and known.layout:
        return [*found, "participation.classes: whether the data have them is known only once they are read"]
    check_classes(config, method, cached_dataset(config.data))
    return found


def _learned_words(config: Config, inventory: ModelInventory) -> list[str]:
    """Whether a vocabulary is to be learned, of which only the largest size is known."""
    readers = [m.model for m in inventory.clients if m.modality != ClientTask.IMAGE_CLASSIFICATION] + [
        inventory.clip,
        inventory.captioner,
    ]
    if all(model is None or model.source for model in readers):
        return []
    return [
        "the public vocabulary is learned from the data; it is counted at its largest, "
        f"{config.server.vocabulary} entries"
    ]


def _passes(config: Config, steps: int, scene: DataSizes) -> list[str]:
    """How often a client passes over its samples in the steps of a round, on average."""
    batch = config.clients.batch
    found = []
    for modality in CLIENT_TASKS:
        clients = len(config.clients.models(modality))
        train = scene.samples.get(modality, (0, 0))[0]
        if clients and train and steps:
            held = train / clients
            found.append(
                f"{steps} private steps a round, in batches of {batch}, pass {steps * batch / held:.2f} times over "
                f"the {held:.0f} {modality} samples of an average client"
            )
    return found


def _there(config: Config) -> list[str]:
    """How many clients take part in a round, where not all do; that peers send other numbers of messages."""
    from fedloom.experiment.attendance import attendance

    kind = config.topology.kind if config.topology else "star"
    graph = [] if kind == "star" else [f"topology.kind = {kind}: bytes are counted as in a star"]
    if config.participation is None or not config.rounds:
        return graph
    names = list(config.clients.everyone())
    asked = [attendance(config.participation, config.seed, t, names) for t in range(1, config.rounds + 1)]
    mean = sum(len(a.present) + len(a.late) for a in asked) / config.rounds
    part = f"{mean:.1f} of {len(names)} clients take part in a round on average; work and bytes are counted of all"
    return [*graph, part]
