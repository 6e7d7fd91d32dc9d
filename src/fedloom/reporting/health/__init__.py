"""Health of a run: named warnings where its scores cannot mean what they seem to, each with what to do about it.

All of it reads what a run folder holds (configuration, rows of metrics.jsonl, summary), so that old and unfinished runs
are looked at too; a fact that a folder lacks silences the checks that need it.
"""

from __future__ import annotations

from fedloom.reporting.health.facts import Facts, RunWarning, warnings_of

__all__ = ["Facts", "RunWarning", "warnings_of"]
