"""A run folder read back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedloom.runs.disk import read_lines, read_object
from fedloom.runs.folder import read_config
from fedloom.runs.shapes import AuditTold, Environment, LedgerRow, RoundRow, Summary, check_split

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RunFiles:
    """What a run left behind. Read when first asked for; a run that still goes on can be read."""

    path: Path
    config: dict[str, Any]

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
    def audit(self) -> dict[str, Any]:
        """`audit.json`: what `fedloom audit` found, or `{}` where the run has not been audited."""
        return read_object(self.path / "audit.json", AuditTold)

    @cached_property
    def split(self) -> dict[str, Any] | None:
        """`{"classes": [name], "clients": {name: [count of each class]}}`, or None where there is none."""
        split = read_object(self.path / "split.json")
        check_split(split, str(self.path / "split.json"))
        return split or None


def read_run(path: Path | str) -> RunFiles:
    """The run in folder `path`.

    Raises:
        BadInput: `path` is no run folder; says what is missing.
    """
    return RunFiles(Path(path), read_config(Path(path)))
