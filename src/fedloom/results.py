"""A run read back, as people use it: `fedloom.run` returns it and `fedloom.load_run` reads it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedloom.errors import BadInput
from fedloom.runs.exports import check_export
from fedloom.runs.folder import read_config
from fedloom.runs.load import RunFiles

if TYPE_CHECKING:
    from fedloom.reporting.health import RunWarning


class Run(RunFiles):
    """What a run left behind. Read when first asked for; a run that still goes on can be read."""

    def __repr__(self) -> str:
        from fedloom.reporting.glance import run_repr

        return run_repr(self)

    def __str__(self) -> str:
        from fedloom.reporting.glance import run_text

        return run_text(self)

    def _repr_html_(self) -> str:
        from fedloom.reporting.glance import run_html

        return run_html(self)

    def report(self, out: str | Path | None = None) -> Path:
        """Write the report, `report.html` in the run's folder unless `out` says where; its path."""
        from fedloom.reporting.html import write_report

        return write_report([self.path], out)

    @property
    def warnings(self) -> list[RunWarning]:
        """Where the scores cannot mean what they seem to, the serious ones first; also while the run goes on."""
        from fedloom.reporting.health import run_warnings

        return run_warnings(self)

    @cached_property
    def generator(self) -> Any:
        """The trained generator as a diffusers pipeline.

        Raises:
            BadInput: the run exported none, or its files are not what was written.
        """
        from fedloom.models.generators.families import load_pipeline

        return load_pipeline(self.exported("generator"))

    def exported(self, name: str) -> Path:
        """The folder of an exported model, `generator` or a client's name, whose files are what was written.

        Raises:
            BadInput: the run exported none of that name; a file is damaged, or another.
        """
        folder = self.path / "export" / name
        if not folder.is_dir():
            raise BadInput(
                f"run {self.path} has no {name}: export/{name} is missing "
                f"({'it was run without one' if self.finished else 'the run is unfinished'})."
            )
        check_export(folder)
        return folder


def load_run(path: Path | str) -> Run:
    """The run in folder `path`.

    Raises:
        BadInput: `path` is no run folder; says what is missing.
    """
    return Run(Path(path), read_config(Path(path)))
