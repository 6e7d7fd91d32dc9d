"""A run as the page shows it, from its folder alone."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fedloom.reporting.health import warnings_of
from fedloom.runs.disk import read_object
from fedloom.runs.folder import read_config
from fedloom.runs.load import RunFiles
from fedloom.runs.shapes import Environment, LedgerRow, RoundRow, Summary
from fedloom.watch import run_sections as parts
from fedloom.watch.files import GrowingLines, Mark, is_at_work, log_end, mark_of
from fedloom.watch.views import View, alerts

FILES = ("config.yaml", "environment.json", "metrics.jsonl", "ledger.jsonl", "summary.json", "log.txt", "samples")


class RunWatch:
    """One run's folder, looked at again and again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.sums: parts.Sums = {}
        self._metrics = GrowingLines(path / "metrics.jsonl", RoundRow, self.rows.append)
        self._ledger = GrowingLines(path / "ledger.jsonl", LedgerRow, partial(parts.add_message, self.sums))
        self._settings: tuple[Mark, dict[str, Any]] = ((), {})

    def mark(self) -> Mark:
        """What changes when the view does."""
        return (*mark_of(*(self.path / name for name in FILES)), is_at_work(self.path / ".lock"))

    def view(self) -> View:
        """Everything that the page shows. Raises BadInput or FedloomError for files that cannot be read."""
        self._metrics.read(self.rows.clear)
        self._ledger.read(self.sums.clear)
        summary = read_object(self.path / "summary.json", Summary)
        environment = read_object(self.path / "environment.json", Environment)
        config = self._config()
        run = RunFiles(self.path, config)
        vars(run).update(rounds=self.rows, summary=summary, environment=environment)  # it would read them anew
        state = self._state(bool(summary))
        return {
            "kind": "run",
            **parts.head(run, state),
            "progress": self._progress(config, state),
            "alerts": alerts(warnings_of(config, self.rows, summary)) if self.rows else [],
            "cards": parts.cards(run),
            "sections": [one for one in parts.sections(run, self.sums, log_end(self.path / "log.txt")) if one],
        }

    def _config(self) -> dict[str, Any]:
        """Read again where it was replaced: a parse takes longer than all the rest."""
        mark = mark_of(self.path / "config.yaml")
        if mark != self._settings[0]:
            self._settings = mark, read_config(self.path)
        return self._settings[1]

    def _state(self, finished: bool) -> str:
        if finished:
            return "finished"
        at_work = is_at_work(self.path / ".lock")
        return "unfinished" if at_work is None else "running" if at_work else "stopped"

    def _progress(self, config: Mapping[str, Any], state: str) -> View:
        """Rounds done and planned; of a run that goes on, seconds of a round and since the last one."""
        planned = config.get("rounds")
        done = max((int(row.get("round", 0)) for row in self.rows), default=None)
        found: View = {"done": done, "planned": planned if isinstance(planned, int) else None}
        spent = [sum(v for v in (row.get("seconds") or {}).values() if v) for row in self.rows if row.get("round")]
        if spent:
            found["each"] = sum(spent) / len(spent)
        if state == "running" and self.rows:
            found["since"] = max(0.0, time.time() - os.stat(self.path / "metrics.jsonl").st_mtime)
        return found
