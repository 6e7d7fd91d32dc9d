"""Silos of toy clients behind an in-process Grid."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toy_clients import CONTRACT
from toy_federations import NAMES, specs

from fedloom.federation import Ledger
from fedloom.federation.engines.flower.client_app import make_client_app
from fedloom.federation.engines.flower.grid import GridFederation
from fedloom.federation.engines.silo.envelopes import Envelope, Join
from fedloom.federation.engines.silo.host import Recipe, SiloHost
from fedloom.federation.engines.silo.store import SiloStore
from in_process_grid import InProcessGrid


class Silos:
    """Hosts behind nodes 11, 12, ...; clients are dealt out to them in turn."""

    def __init__(self, root: Path, count: int = 3, names: Any = NAMES, recipe: Recipe | None = None) -> None:
        self.root, self.names, self.recipe = root, names, recipe
        self.hosts = {f"silo-{i}": self.host(f"silo-{i}") for i in range(count)}
        self.grid = InProcessGrid(
            {11 + i: (make_client_app(self._answer(name)), {}) for i, name in enumerate(self.hosts)}
        )

    def host(self, name: str) -> SiloHost:
        return SiloHost(SiloStore(self.root / name), name, self.recipe)

    def _answer(self, name: str) -> Callable[[Envelope, dict[str, Any]], Envelope]:
        return lambda letter, node: self.hosts[name].answer(letter)

    def restart(self, name: str) -> None:
        """What is in memory is gone, what is on disk is there."""
        self.hosts[name] = self.host(name)

    def federation(self, ledger: Ledger | None = None, **options: Any) -> GridFederation:
        recipes = specs(self.names)
        dealt = {s: [spec.to_json() for spec in recipes[i :: len(self.hosts)]] for i, s in enumerate(self.hosts)}
        join = Join(json.dumps(CONTRACT.to_names()), json.dumps(dealt), "", {})
        expected = {r.name: r.modality for r in recipes}
        options = {"run": "r1", "join": join, "silos": len(self.hosts), "patience": 5.0, **options}
        return GridFederation(self.grid, expected, CONTRACT, ledger or Ledger(), **options)
