"""Small runs on silos with data of their own."""

from __future__ import annotations

from typing import Any

from fedloom.config import Config, load_config
from small_silos import MODELS

OWN_DATA = ("engine.name=flower", "engine.mode=deployment")


def config(*more: str, method: str = "standalone", silos: int = 1) -> Config:
    given = (*OWN_DATA, f"engine.silos={silos}", "engine.patience=30", *more)
    return load_config(preset="smoke", overrides=given, values={"method": method})


def joint_config(*more: str, method: str = "fedcmi", silos: int = 1, **model: Any) -> Config:
    """A run of the preset fedcmi over small things that are heard and seen."""
    options = {"classes": 3, "per_class": 8, "test_per_class": 4, "size": 12, "bands": 8, "steps": 12}
    values = {"data": {"options": options}, "clients": {"joint": [{**MODELS["joint"], **model}]}}
    short = ("rounds=1", "settings.private_steps=2", "clients.batch=4", "engine.patience=30")
    given = (*OWN_DATA, f"engine.silos={silos}", *short, *more)
    return load_config(preset="fedcmi", overrides=given, values={**values, "method": method})
