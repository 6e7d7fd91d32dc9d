"""Bytes of a round by the papers' formulas, as the method itself reports them; nothing is built for it."""

from __future__ import annotations

from typing import Any, NamedTuple

from fedloom.config import Config
from fedloom.data.tasks import ClientTask
from fedloom.methods.base import Method
from fedloom.metrics.communication import round_bytes
from fedloom.planning.scene import SceneSizes

_VARIANTS = {"full": "fedmmkt", "u": "u-fedmmkt", "l": "l-fedmmkt"}


class Wire(NamedTuple):
    """formula: whose ("none": nothing is sent); None where no paper gives one. up, down: bytes of a round."""

    formula: str | None
    up: int | None
    down: int | None


def round_on_the_wire(config: Config, method: Method, settings: Any, scene: SceneSizes) -> Wire:
    """What all clients send and are sent in a round that keeps every sample."""
    if not method.clients:
        return Wire("none", 0, 0)
    name = _VARIANTS.get(getattr(settings, "variant", "")) or getattr(method.server, "formula", None)
    if name is None:
        return Wire(None, None, None)
    public = settings.public if getattr(settings, "shared", "") == "public" else None
    drawn = "generator" in method.needs(settings)
    found = round_bytes(
        name,
        samples=public or settings.samples,
        image_clients=len(config.clients.learners(ClientTask.IMAGE_CLASSIFICATION)),
        text_clients=len(config.clients.learners(ClientTask.TEXT_CLASSIFICATION)),
        classes=scene.classes,
        width=config.clients.width,
        image_bytes=3 * scene.side**2 if drawn else 0,
        public=public,
    )
    return Wire(name, found.up, found.down)
