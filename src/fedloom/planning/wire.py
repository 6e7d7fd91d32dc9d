"""Bytes of a round by the papers' formulas, as the method itself reports them; nothing is built for it."""

from __future__ import annotations

from typing import NamedTuple

from fedloom.config import Config
from fedloom.data.sizes import DataSizes
from fedloom.methods.base import Method
from fedloom.methods.workload import Workload
from fedloom.tasks import ClientTask


class Wire(NamedTuple):
    """formula: whose ("none": nothing is sent); None where no paper gives one. up, down: bytes of a round."""

    formula: str | None
    up: int | None
    down: int | None


def round_on_the_wire(config: Config, method: Method, work: Workload, scene: DataSizes) -> Wire:
    """What all clients send and are sent in a round that keeps every sample."""
    if not method.tasks:
        return Wire("none", 0, 0)
    if (formula := work.formula) is None:
        return Wire(None, None, None)
    found = formula.count(
        image_clients=len(config.clients.models(ClientTask.IMAGE_CLASSIFICATION)),
        text_clients=len(config.clients.models(ClientTask.TEXT_CLASSIFICATION)),
        classes=scene.classes,
        width=config.clients.width,
        image_bytes=3 * scene.side**2 if work.synthetic else 0,
    )
    return Wire(formula.name, found.up, found.down)
