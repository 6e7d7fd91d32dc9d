"""The kinds of a run's clients."""

from __future__ import annotations

from fedloom.config import Config


def kinds(config: Config) -> set[str]:
    return set(config.clients.everyone().values())
