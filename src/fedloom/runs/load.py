"""A run folder read back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedloom.errors import BadInput
from fedloom.runs.disk import read_lines, read_object
from fedloom.runs.folder import read_config
from fedloom.runs.shapes import Environment, LedgerRow, RoundRow, Summary, check_split

if TYPE_CHECKING:
    import pandas as pd

    from fedloom.reporting.health import RunWarning


@dataclass(frozen=True)
class Run:
    """What a run left behind. Read when first asked for; a run that still goes on can be read."""

    path: Path
    config: dict[str, Any]

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

    @cached_property
    def summary(self) -> dict[str, Any]:
        """`summary.json`, or `{}` while the run is unfinished."""
        return read_object(self.path / "summary.json", Summary)

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return bool(self.summary)

    @cached_property
    def environment(self) -> dict[str, Any]:
        """`environment.json`: what it ran on."""
        return read_object(self.path / "environment.json", Environment)

    @cached_property
    def rounds(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`; round 0 is before the first round."""
        return read_lines(self.path / "metrics.jsonl", RoundRow)

    @property
    def warnings(self) -> list[RunWarning]:
        """Where the scores cannot mean what they seem to, the serious ones first; also while the run goes on."""
        from fedloom.reporting.health import warnings_of

        return warnings_of(self.config, self.rounds, self.summary)

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """The rounds as a table: one row a round, groups as dotted columns (`labels.voted_accuracy`),
        `missing` as the number of clients' answers that did not come.
        """
        import pandas

        rows = [{**row, "missing": len(row.get("missing") or ())} for row in self.rounds]
        groups = {key for row in rows for key, value in row.items() if isinstance(value, dict)}
        # A group that a round lacks is null there; left out, its columns are empty in that row.
        return pandas.json_normalize([{k: v for k, v in r.items() if v is not None or k not in groups} for r in rows])

    @cached_property
    def ledger(self) -> list[dict[str, Any]]:
        """Every message that crossed, one dict each."""
        return read_lines(self.path / "ledger.jsonl", LedgerRow)

    @property
    def samples(self) -> list[Path]:
        """The grids of samples, one a round, in order of rounds."""
        return self._pictures("round")

    @property
    def label_panels(self) -> list[Path]:
        """The label panels, one a round, in order of rounds."""
        return self._pictures("labels")

    def _pictures(self, kind: str) -> list[Path]:
        found = (self.path / "samples").glob(f"{kind}_*.png")
        numbered = [path for path in found if path.stem.rpartition("_")[2].isdigit()]
        return sorted(numbered, key=lambda path: int(path.stem.rpartition("_")[2]))

    @cached_property
    def split(self) -> dict[str, Any] | None:
        """`{"classes": [name], "clients": {name: [count of each class]}}`, or None where there is none."""
        split = read_object(self.path / "split.json")
        check_split(split, str(self.path / "split.json"))
        return split or None

    @cached_property
    def generator(self) -> Any:
        """The trained generator as a diffusers pipeline.

        Raises:
            BadInput: the run exported none.
        """
        folder = self.path / "export" / "generator"
        if not folder.is_dir():
            raise BadInput(
                f"run {self.path} has no generator: export/generator is missing "
                f"({'it was run without one' if self.finished else 'the run is unfinished'})."
            )
        return import_module("fedloom.models.generators.families").load_pipeline(folder)


def load_run(path: Path | str) -> Run:
    """The run in folder `path`.

    Raises:
        BadInput: `path` is no run folder; says what is missing.
    """
    return Run(Path(path), read_config(Path(path)))
