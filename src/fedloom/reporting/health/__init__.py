"""Health of a run: named warnings where its scores cannot mean what they seem to, each with what to do about it.

All of it reads what a run folder holds (configuration, rows of metrics.jsonl, summary), so that old and unfinished runs
are looked at too; a fact that a folder lacks silences the checks that need it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedloom.reporting.health import scores, training, votes
from fedloom.reporting.health.facts import Facts, Row, RunWarning
from fedloom.runs.load import RunFiles

__all__ = ["Facts", "RunWarning", "run_warnings", "warnings_of"]


def warnings_of(config: Mapping[str, Any], rows: Sequence[Row], summary: Mapping[str, Any]) -> list[RunWarning]:
    """All warnings on a run, the serious ones first.

    Args:
        config: its configuration as a tree, with every value resolved.
        rows: of metrics.jsonl, round 0 first.
        summary: `summary.json`; {} while the run goes on.
    """
    facts = Facts(
        config, [row for row in rows if isinstance(row, Mapping)], summary if isinstance(summary, Mapping) else {}
    )
    # A run that was too short comes first: it explains what follows.
    checks = (training.too_few_steps, *scores.CHECKS, *votes.CHECKS, *training.CHECKS)
    found = [warning for check in checks if (warning := check(facts)) is not None]
    return sorted(found, key=lambda warning: warning.level != "serious")


def run_warnings(run: RunFiles) -> list[RunWarning]:
    """All warnings on a run that is read back."""
    return warnings_of(run.config, run.rounds, run.summary)
