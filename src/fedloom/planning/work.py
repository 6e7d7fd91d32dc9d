"""FLOP of each part of a run, from the loads of its models and what the method declares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from fedloom.config import Config
from fedloom.data.sizes import DataSizes
from fedloom.methods.workload import Workload
from fedloom.planning.memory import server_device
from fedloom.planning.model_inventory import Member, ModelInventory
from fedloom.planning.server import Piece


class Phase(NamedTuple):
    """A part of the work: where, in which precision, how often, FLOP of one time."""

    name: str
    device: str
    precision: str
    times: int
    flop: float


def phases(config: Config, work: Workload, cast: ModelInventory, scene: DataSizes) -> list[Phase]:
    """The parts of a run in their order; those without work are left out."""
    every = [
        *_before(config, cast),
        *_rounds(config, work, cast),
        *_scoring(config, cast, scene),
    ]
    return [p for p in every if p.times and p.flop]


def _before(config: Config, cast: ModelInventory) -> Iterator[Phase]:
    """What is done once: pretraining of what has no weights, the judge, the warm start. The cache may have it."""
    e, c, place = config.evaluation, config.clients, server_device(config)
    learned = 0.0
    for model, own in ((cast.clip, config.server.clip), (cast.captioner, config.server.captioner)):
        if model is not None and own.pretrained is None:
            learned += own.steps * own.batch * model.load.training
    g = config.server.generator
    if cast.drawer is not None and g.pretrained is None:
        learned += g.steps * g.batch * cast.drawer.tuning
    random = {
        m.model.role + m.model.kind + str(m.model.parameters): m.model for m in cast.clients if not m.model.source
    }
    learned += config.public_steps * 64 * sum(m.load.training for m in random.values())
    yield Phase("pretraining", "cpu", "fp32", 1, learned)
    if cast.judge is not None:
        flop = e.judge.steps * e.judge.batch * cast.judge.load.training
        yield Phase("judge", place if e.judge.pretrained else "cpu", e.judge.precision, 1, flop)
    for device, flop in _by_device(cast, lambda m: c.warm_steps * c.batch * _training(m.model, c.checkpointing)):
        yield Phase("warm start", device, c.precision, 1, flop)


def _rounds(config: Config, work: Workload, cast: ModelInventory) -> Iterator[Phase]:
    """What is done in every round."""
    c, s, rounds, place = config.clients, config.server, config.rounds, server_device(config)
    if cast.drawer is not None:
        yield Phase("synthesis", place, s.precision, rounds, work.synthetic * cast.drawer.drawing)
        if cast.captioner is not None:
            yield Phase("captions", place, s.precision, rounds, work.synthetic * cast.captioner.load.forward)
    for device, flop in _by_device(cast, lambda m: work.answers * m.model.load.forward):
        yield Phase("clients' answers", device, c.precision, rounds, flop)
    if cast.drawer is not None:
        tuned = work.generator_steps * work.generator_batch
        yield Phase("generator tuning", place, s.precision, rounds, tuned * _tuning(config, cast))
    step = _by_device(cast, lambda m: c.batch * _training(m.model, c.checkpointing))
    for name, steps in (("re-training", work.shared_steps), ("private training", work.private_steps)):
        for device, flop in step:
            yield Phase(name, device, c.precision, rounds, steps * flop)
    flop = work.server_steps * c.batch * sum(m.load.training for m in cast.learners if m.trained)
    yield Phase("server's own models", place, "fp32", rounds, flop)


def _scoring(config: Config, cast: ModelInventory, scene: DataSizes) -> Iterator[Phase]:
    """Round 0, the last, and every so many between."""
    e = config.evaluation
    times = 1 + sum(t % e.every == 0 or t == config.rounds for t in range(1, config.rounds + 1))
    for device, flop in _by_device(cast, lambda m: scene.test(m.modality) * m.model.load.forward):
        yield Phase("scoring the clients", device, config.clients.precision, times, flop)
    if cast.drawer is not None:
        drawn, place = scene.classes * e.prompts_per_class, server_device(config)
        looked = sum(m.load.forward for m in (cast.judge, cast.clip, cast.features) if m is not None)
        yield Phase("scoring: pictures", place, config.server.precision, times, drawn * cast.drawer.drawing)
        yield Phase("scoring: judge, CLIP, FID", place, "fp32", times, drawn * looked)


def _training(model: Piece, checkpointing: bool) -> float:
    """FLOP of a sample trained on; what is computed twice goes forwards once more."""
    return model.load.training + (model.load.forward if checkpointing else 0.0)


def _tuning(config: Config, cast: ModelInventory) -> float:
    assert cast.drawer is not None
    options = config.server.generator.latent or config.server.generator.glide
    again = cast.drawer.pieces[0].load.forward if getattr(options, "checkpointing", False) else 0.0
    return cast.drawer.tuning + again


def _by_device(cast: ModelInventory, flop: Any) -> list[tuple[str, float]]:
    """Device -> the sum over the clients that live there."""
    found: dict[str, float] = {}
    for member in cast.clients:
        one: Member = member
        found[one.device] = found.get(one.device, 0.0) + flop(one)
    return list(found.items())
