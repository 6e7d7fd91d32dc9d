"""Weights & Biases, as WANDB_MODE, WANDB_PROJECT (default: fedloom) and WANDB_DIR say; offline without a login."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedloom.runs.folder import RunFolder
from fedloom.tracking.base import RunTracker


class WeightsAndBiases(RunTracker):
    """One W&B run for one run, also where that is resumed. Without a login `wandb sync` uploads it later."""

    name = module = "wandb"

    def start(self, folder: RunFolder, title: str, config: Mapping[str, Any], resumed_at: int) -> None:
        import wandb

        known = os.environ.get("WANDB_MODE") or wandb.login(prompt=False, verify=False)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "fedloom",
            name=title,
            id=folder.run_id,
            resume="allow",
            config=dict(config),
            mode=None if known else "offline",
            settings=wandb.Settings(silent=True, console="off"),
        )

    def log(self, round: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=round)

    def picture(self, round: int, name: str, path: Path) -> None:
        import wandb

        self._run.log({name: wandb.Image(str(path))}, step=round)

    def finish(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))
