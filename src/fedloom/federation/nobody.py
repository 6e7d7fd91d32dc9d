"""A federation without clients: for methods in which the server works alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedloom.federation.base import Federation
from fedloom.federation.contract import WireContract
from fedloom.federation.exchange import Arrival, Request
from fedloom.federation.ledger import Ledger


class Nobody(Federation):
    """Has no clients: nothing is ever asked or answered."""

    def __init__(self, contract: WireContract, ledger: Ledger) -> None:
        super().__init__({}, contract, ledger)

    def close(self) -> None:
        self.ledger.close()

    def _post(self, requests: Sequence[Request]) -> None:
        return None

    def _collect(self, wait: float | None) -> Arrival | None:
        return None

    def _save(self, folder: Path, tag: Mapping[str, Any]) -> None:
        return None

    def _load(self, folder: Path, tag: Mapping[str, Any]) -> None:
        return None
