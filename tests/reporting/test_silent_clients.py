"""The warning on clients that did not answer: serious where nobody ever did."""

from __future__ import annotations

import pytest

from fedloom.reporting.health import warnings_of


@pytest.mark.parametrize(
    ("silent", "rounds", "level"),
    [(["a", "b"], (1, 2), "serious"), (["a", "b"], (1,), "caution"), (["a"], (1, 2), "caution")],
)
def test_clients_that_did_not_answer(silent: list[str], rounds: tuple[int, ...], level: str) -> None:
    rows = [
        {"round": t, "per_client": {"a": 0.5, "b": 0.5}, "missing": [{"client": c} for c in silent if t in rounds]}
        for t in range(3)
    ]
    (found,) = [w for w in warnings_of({}, rows, {}) if w.name == "clients-missing"]
    assert found.level == level
