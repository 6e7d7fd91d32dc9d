"""The figure of the convergence quantities."""

from __future__ import annotations

import json
from pathlib import Path

import convergence
import pytest

from fedloom.errors import BadInput


def run(folder: Path, facts: dict[str, float]) -> Path:
    lines = [{"round": t, "facts": facts if t else {}} for t in range(3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.mark.drawn
def test_a_panel_a_quantity(tmp_path: Path) -> None:
    found = convergence.curves(run(tmp_path, {"alignment_error": 0.5, "client_drift": 0.2}))
    assert found["alignment_error"] == [0.5, 0.5]
    assert found["gradient_variance"] == [None, None]
    convergence.draw(found, tmp_path / "images" / "curves.png")
    assert (tmp_path / "images" / "curves.png").stat().st_size > 1000


def test_a_run_without_them(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"settings\.diagnostics=true"):
        convergence.curves(run(tmp_path, {"weight_entropy": 2.0}))
