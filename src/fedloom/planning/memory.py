"""Bytes on each device: weights, gradients and Adam's moments by count, activations as an estimate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fedloom.config import Config
from fedloom.methods.workload import Workload
from fedloom.planning.model_inventory import ModelInventory
from fedloom.planning.records import DeviceLine
from fedloom.planning.server import ModelCost

WIDTHS: Mapping[str, int] = {"fp32": 4, "fp16": 2, "bf16": 2}  # bytes of a number
FULL = 4
# Under autocast norms, softmax and sums stay fp32. Bytes kept in bf16 over those in fp32, as counted on a CPU:
# ViT-B/32 0.62, BERT-base 0.74.
HALF_KEPT = 0.7


def weight_bytes(model: ModelCost, precision: str) -> int:
    """Of what is trained, and of what is exact, four bytes a number; of the rest those of the precision."""
    frozen = FULL if model.exact else WIDTHS[precision]
    return FULL * model.trained + frozen * (model.parameters - model.trained)


def activation_bytes(model: ModelCost, samples: int, precision: str, checkpointing: bool) -> int:
    """What waits for the backward pass of so many samples; in half precision also the copies of the weights.

    Of a model cut into blocks whose activations are computed twice, one block is open at a time, and the inputs of the
    others take about as much again.
    """
    share = min(1.0, 2 / model.blocks) if checkpointing else 1.0
    kept = share * samples * model.load.kept
    if precision == "fp32":
        return round(kept)
    return round(HALF_KEPT * kept) + WIDTHS[precision] * model.parameters


def device_lines(config: Config, work: Workload, inventory: ModelInventory) -> tuple[DeviceLine, ...]:
    """The devices of a run, those of the server first.

    What trains in one process trains in turn: its activations count once, where they are largest. Each worker process
    (`engine.workers`) and each silo has its own. With `engine.resident` a process holds no more clients than that.
    """
    sums: dict[str, list[int]] = {}
    if inventory.server:
        server = sums.setdefault(server_device(config), [0, 0, 0, 0])
        for model in inventory.server:
            _add(server, weight_bytes(model, config.server.precision), model.trained, 2)
        if inventory.generator is not None and work.untouched:
            server[0] += FULL * sum(model.trained for model in inventory.generator.models)
        server[3] += _server_activations(config, work, inventory)
    c, engine = config.clients, config.engine
    held: dict[str, list[list[int]]] = {}
    peaks: dict[str, list[int]] = {}
    for member in inventory.clients:
        own, moments = [0, 0, 0, 0], _moments(c.training(member.name))
        _add(own, FULL * member.model.parameters, member.model.trained, moments)
        held.setdefault(member.device, []).append(own)
        part = math.ceil(c.batch / c.accumulate)
        peaks.setdefault(member.device, []).append(activation_bytes(member.model, part, c.precision, c.checkpointing))
    processes = max(engine.workers, 1)
    for device, lines in held.items():
        parked = engine.name == "local" and engine.resident is not None
        in_memory = sorted(lines, key=sum)[-(engine.resident or 1) * processes :] if parked else lines
        sums[device] = [sum(part) for part in zip(sums.get(device, [0, 0, 0, 0]), *in_memory)]
    for device, found in peaks.items():
        at_once = len(found) if engine.name == "flower" else processes
        sums[device][3] += sum(sorted(found)[-at_once:])
    return tuple(DeviceLine(device, *line) for device, line in sums.items())


def checkpoint_bytes(config: Config, inventory: ModelInventory) -> int:
    """On disk, of a round: the clients' models and moments, and what is trained of the server's."""
    found = 0
    for member in inventory.clients:
        moments = _moments(config.clients.training(member.name))
        found += FULL * (member.model.parameters + moments * member.model.trained)
    return found + sum(3 * FULL * model.trained for model in inventory.server)


def _moments(way: dict[str, Any]) -> int:
    """Numbers that an optimiser keeps of each parameter."""
    return 2 if way["optimizer"] == "adamw" else 1 if way["momentum"] else 0


def server_device(config: Config) -> str:
    """Where the server's models live."""
    s = config.server.generator
    own = getattr(s.latent or s.glide, "device", None)
    return own if own not in (None, "cpu") else config.server.device


def _add(line: list[int], weights: int, trained: int, moments: int) -> None:
    for i, more in enumerate((weights, FULL * trained, moments * FULL * trained)):
        line[i] += more


def _server_activations(config: Config, work: Workload, inventory: ModelInventory) -> int:
    """The largest of tuning the generator, training the judge, and training models of its own."""
    s, found = config.server, [0]
    options = s.generator.latent or s.generator.glide
    twice = bool(getattr(options, "checkpointing", False))
    for model in inventory.generator.models if inventory.generator is not None else ():
        if model.trained:
            found.append(activation_bytes(model, work.generator_batch, s.precision, twice))
    judge = config.evaluation.judge
    if inventory.judge is not None and judge.steps:
        found.append(activation_bytes(inventory.judge, judge.batch, judge.precision, False))
    for model in inventory.task_models:
        if model.trained:
            found.append(activation_bytes(model, config.clients.batch, "fp32", False))
    return max(found)
