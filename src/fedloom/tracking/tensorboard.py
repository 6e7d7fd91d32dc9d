"""TensorBoard: event files in the run's folder, so that `tensorboard --logdir runs` shows all runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedloom.runs.folder import RunFolder
from fedloom.tracking.base import RunTracker


class TensorBoard(RunTracker):
    """Writes to `tensorboard/` in the run's folder."""

    name = module = "tensorboard"

    def start(self, folder: RunFolder, title: str, config: Mapping[str, Any], resumed_at: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # All rows are told again: what earlier files say of any step is not to be shown beside them.
        self._writer = SummaryWriter(str(folder.tensorboard), purge_step=0 if resumed_at else None)
        self._writer.add_text("run", title)
        self._writer.add_text("config", "\n".join(f"    {key}: {value}" for key, value in config.items()))

    def log(self, round: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, round)
        self._writer.flush()

    def picture(self, round: int, name: str, path: Path) -> None:
        import numpy as np
        from PIL import Image

        with Image.open(path) as opened:
            self._writer.add_image(name, np.asarray(opened.convert("RGB")), round, dataformats="HWC")

    def finish(self, failed: bool) -> None:
        self._writer.close()
