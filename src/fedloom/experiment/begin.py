"""What comes before a run's first round: its configuration settled, checked, and its folder made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedloom.config import Config
from fedloom.config.participation import ParticipationSettings
from fedloom.config.trees import validate
from fedloom.data.containers import FederatedDataset
from fedloom.errors import BadInput
from fedloom.experiment.attendance import without_effect
from fedloom.experiment.checks import check_generator, check_scoring, check_weights
from fedloom.experiment.resolve import completed, counted, sized
from fedloom.methods.base import Method
from fedloom.runs.checkpoint import refuse_old_checkpoints
from fedloom.runs.folder import RunFolder

# What may change between a run and its resumption: nothing that results depend on.
FREE_ON_RESUME = (
    *("engine.workers", "engine.resident", "engine.timeout", "engine.silos", "engine.quorum", "engine.patience"),
    "engine.largest_message",
    *("engine.cpus", "engine.gpus", "engine.address", "checkpoints.every", "checkpoints.keep"),
    "evaluation.ungated",
)
SHOWN = 3  # settings that differ


@dataclass(frozen=True)
class Prepared:
    """A run that can begin: its configuration in full, method and settings, and what was filled in.

    asked: the configuration before clients were counted. folder: of the run that is gone on with; None for a new one.
    """

    asked: Config
    config: Config
    method: Method
    settings: Any
    notes: tuple[str, ...]
    folder: RunFolder | None = None

    @property
    def finished(self) -> bool:
        """Whether the run that is to be gone on with is whole already."""
        return self.folder is not None and self.folder.summary.exists()

    def check(self, side: int = 0) -> None:
        """Raises BadInput where weights, generator or devices are not there, or not what is needed.

        side: of the data's pictures in pixels, 0 where it is not known yet.
        """
        check_generator(self.config, self.method, self.settings, side)
        check_scoring(self.config, self.method, self.settings)

    def check_weights(self) -> None:
        """Raises BadInput where weights are not on this machine; before real data are read, which takes minutes."""
        check_weights(self.config, self.method, self.settings)

    def counted(self, scene: FederatedDataset | None = None) -> Prepared:
        """With as many clients as the data allow, where nobody has said how many."""
        notes = list(self.notes)
        config, method, settings = completed(counted(self.asked, self.method, scene, notes.append))
        return replace(self, config=config, method=method, settings=settings, notes=tuple(notes))


def prepare(config: Config | None, resume: str | Path | None = None, notes: Sequence[str] = ()) -> Prepared:
    """The run that `config` describes; with `resume`, that of this folder, which `config` must agree with.

    Raises:
        BadInput: something is wrong, or differs from what the run in `resume` began with.
    """
    folder = None if resume is None else RunFolder.open(resume)
    if config is None:
        config = validate(Config, folder.config if folder is not None else {})
    said = list(notes)
    asked = sized(config, said.append)
    done = completed(asked)
    made = Prepared(asked, *done, (*said, *without_effect(done[0])), folder)
    if folder is not None:
        made = replace(made, **dict(zip(("config", "method", "settings"), completed(counted(asked, made.method)))))
        refuse_another(folder, made.config)
        if not made.finished:
            refuse_old_checkpoints(folder.checkpoints)
    return made


def refuse_another(folder: RunFolder, config: Config) -> None:
    """Raises BadInput when `config` is not what the run in `folder` can go on with; says where they differ."""
    usual = {"participation": ParticipationSettings().model_dump(mode="json")}
    different = folder.same_config(config.model_dump(mode="json"), FREE_ON_RESUME, usual)
    if any(line.startswith("participation.") for line in different):  # which sets it, where nobody has
        different = [line for line in different if not line.startswith("settings.catch_up:")]
    if different:
        more = f" and {len(different) - SHOWN} more" if len(different) > SHOWN else ""
        raise BadInput(f"{folder.path} is a run of another configuration: {'; '.join(different[:SHOWN])}{more}")
