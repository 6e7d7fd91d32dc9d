"""FLOP of each part of a run, from the loads of its models and what the method declares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from fedloom.config import Config
from fedloom.data.sizes import DataSizes
from fedloom.methods.workload import Workload
from fedloom.planning.memory import server_device
from fedloom.planning.model_inventory import Member, ModelInventory
from fedloom.planning.server import ModelCost


class Phase(NamedTuple):
    """A part of the work: where, in which precision, how often, FLOP of one time."""

    name: str
    device: str
    precision: str
    times: int
    flop: float


def phases(config: Config, work: Workload, inventory: ModelInventory, scene: DataSizes) -> list[Phase]:
    """The parts of a run in their order; those without work are left out."""
    every = [
        *_before(config, inventory),
        *_rounds(config, work, inventory),
        *_checks(config, work, inventory, scene),
        *_scoring(config, inventory, scene),
    ]
    return [p for p in every if p.times and p.flop]


def _before(config: Config, inventory: ModelInventory) -> Iterator[Phase]:
    """What is done once: pretraining of what has no weights, the judge, the warm start. The cache may have it."""
    e, c, place = config.evaluation, config.clients, server_device(config)
    learned = 0.0
    for model, own in ((inventory.clip, config.server.clip), (inventory.captioner, config.server.captioner)):
        if model is not None and own.pretrained is None:
            learned += getattr(own, "trained", own.steps) * own.batch * model.load.training
    g = config.server.generator
    if inventory.generator is not None and g.pretrained is None:
        learned += g.steps * g.batch * inventory.generator.tuning
    random = {
        m.model.role + m.model.kind + str(m.model.parameters): m.model for m in inventory.clients if not m.model.source
    }
    learned += config.public_steps * 64 * sum(m.load.training for m in random.values())
    yield Phase("pretraining", "cpu", "fp32", 1, learned)
    if inventory.judge is not None:
        flop = e.judge.steps * e.judge.batch * inventory.judge.load.training
        yield Phase("judge", place if e.judge.pretrained else "cpu", e.judge.precision, 1, flop)
    for device, flop in _by_device(inventory, lambda m: c.warm_steps * c.batch * _training(m.model, c.checkpointing)):
        yield Phase("warm start", device, c.precision, 1, flop)


def _rounds(config: Config, work: Workload, inventory: ModelInventory) -> Iterator[Phase]:
    """What is done in every round."""
    c, s, rounds, place = config.clients, config.server, config.rounds, server_device(config)
    if inventory.generator is not None:
        yield Phase(
            "synthesis", place, s.precision, rounds, work.synthetic * inventory.generator.sample(work.sampling_steps)
        )
        if inventory.captioner is not None:
            yield Phase("captions", place, s.precision, rounds, work.synthetic * inventory.captioner.load.forward)
    for device, flop in _by_device(inventory, lambda m: work.answers * m.model.load.forward):
        yield Phase("clients' answers", device, c.precision, rounds, flop)
    if inventory.generator is not None:
        tuned = work.generator_steps * work.generator_batch
        yield Phase("generator tuning", place, s.precision, rounds, tuned * _tuning(config, inventory))
    step = _by_device(inventory, lambda m: c.batch * _training(m.model, c.checkpointing))
    for name, steps in (("re-training", work.shared_steps), ("private training", work.private_steps)):
        for device, flop in step:
            yield Phase(name, device, c.precision, rounds, steps * flop)
    flop = work.server_steps * c.batch * sum(m.load.training for m in inventory.task_models if m.trained)
    yield Phase("server's own models", place, "fp32", rounds, flop)


def _checks(config: Config, work: Workload, inventory: ModelInventory, scene: DataSizes) -> Iterator[Phase]:
    """What `rollback` takes: pictures of every class, before the first round and after each, and answers about them."""
    drawn, times, place = work.checked * scene.classes, config.rounds + 1, server_device(config)
    if inventory.generator is None or not drawn:
        return
    flop = drawn * inventory.generator.drawing
    if inventory.captioner is not None:
        flop += drawn * inventory.captioner.load.forward
    yield Phase("checks: pictures", place, config.server.precision, times, flop)
    for device, answered in _by_device(inventory, lambda m: drawn * m.model.load.forward):
        yield Phase("checks: clients' answers", device, config.clients.precision, times, answered)


def _scoring(config: Config, inventory: ModelInventory, scene: DataSizes) -> Iterator[Phase]:
    """What is done in each round that is scored."""
    e = config.evaluation
    times = scorings(config.rounds, e.every)
    for device, flop in _by_device(inventory, lambda m: scene.test(m.modality) * m.model.load.forward):
        yield Phase("scoring the clients", device, config.clients.precision, times, flop)
    if inventory.generator is not None:
        drawn, place = scene.classes * e.prompts_per_class, server_device(config)
        looked = sum(m.load.forward for m in (inventory.judge, inventory.clip, inventory.features) if m is not None)
        yield Phase("scoring: pictures", place, config.server.precision, times, drawn * inventory.generator.drawing)
        yield Phase("scoring: judge, CLIP, FID", place, "fp32", times, drawn * looked)


def scorings(rounds: int, every: int) -> int:
    """How many rounds are scored: round 0, the last, and every so many between."""
    return 1 + rounds // every + (rounds % every != 0)


def _training(model: ModelCost, checkpointing: bool) -> float:
    """FLOP of a sample trained on; what is computed twice goes forwards once more."""
    return model.load.training + (model.load.forward if checkpointing else 0.0)


def _tuning(config: Config, inventory: ModelInventory) -> float:
    assert inventory.generator is not None
    options = config.server.generator.latent or config.server.generator.glide
    again = inventory.generator.models[0].load.forward if getattr(options, "checkpointing", False) else 0.0
    return inventory.generator.tuning + again


def _by_device(inventory: ModelInventory, flop: Any) -> list[tuple[str, float]]:
    """Device -> the sum over the clients that live there."""
    found: dict[str, float] = {}
    for member in inventory.clients:
        one: Member = member
        found[one.device] = found.get(one.device, 0.0) + flop(one)
    return list(found.items())
