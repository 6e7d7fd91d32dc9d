"""What the report says of the vote, class by class, and of what the method reports."""

from __future__ import annotations

import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedloom.reporting import heatmaps, plots
from fedloom.reporting.facts import method_facts
from fedloom.reporting.votes import VOTE_ROWS, class_votes, worst_class
from fedloom.results import load_run
from made_up_run import make_run, row  # type: ignore[import-not-found]

pytestmark = pytest.mark.drawn

LABELS: dict[str, Any] = {
    "kept_share": 0.4,
    "kept_accuracy": 0.75,
    "drawn_classes": [5, 5, 5, 0],
    "voted_classes": [6, 0, 8, 1],
    "kept_classes": [6, 0, 2, 0],
    "kept_share_classes": [1.0, None, 0.25, 0.0],
    "accuracy_classes": [0.5, None, 1.0, None],
    "votes_classes": [3.5, None, 2.25, 1.0],
}
TABLE = {key: LABELS[key] for key, *_ in VOTE_ROWS}


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are drawn, in place of their files."""
    found: list[Any] = []
    for module in (heatmaps, plots):
        monkeypatch.setattr(module, "save", lambda figure, target: found.append(figure))
    return found


def test_the_heat_map_by_hand(figures: list[Any]) -> None:
    heatmaps.vote_picture(TABLE, VOTE_ROWS, ["a", "b", "c", "d"], BytesIO())
    (axis,) = figures[0].axes
    assert [t.get_text() for t in axis.get_xticklabels()] == ["b", "d", "c", "a"]  # never voted for, then by kept share
    assert [t.get_text() for t in axis.get_yticklabels()] == [name for _, name, _ in VOTE_ROWS]
    assert [t.get_text() for t in axis.texts] == [
        *("5", "0", "5", "5"),
        *("0", "1", "8", "6"),
        *("0", "0", "2", "6"),
        *("0", "25", "100"),
        *("100", "50"),
        *("1.0", "2.2", "3.5"),
    ]
    (squares,) = axis.collections
    shades = np.ma.getdata(squares.get_array()).reshape(6, 4)
    np.testing.assert_allclose(shades[:3, 2], [62.5, 100, 25])  # counts by the largest of all
    np.testing.assert_allclose(shades[3, 1:], [0, 25, 100])
    np.testing.assert_allclose(shades[5, 1:], [100 / 3.5, 225 / 3.5, 100])


def test_many_classes_and_none_kept(tmp_path: Path) -> None:
    table = {key: [1.0] * 102 for key in TABLE} | {"accuracy_classes": [], "kept_classes": [0.0] * 102}
    heatmaps.vote_picture(table, VOTE_ROWS, ["few"], tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size


def test_the_worst_class_by_hand(figures: list[Any]) -> None:
    found = worst_class({"round": 3, "labels": LABELS})
    assert found["worst"] == {"kept_share": 0.0, "accuracy": 0.5}  # class 1 was drawn, and nobody voted for it
    told = LABELS | {"drawn_classes": [5, 0, 5, 0], "kept_share_classes": [1.0, None, 0.25, None]}
    assert worst_class({"round": 3, "labels": told})["worst"] == {"kept_share": 0.25, "accuracy": 0.5}
    plots.class_curves([found, {"round": 4, "labels": {}, "worst": {"kept_share": 0.1}}], BytesIO())
    left, right = ({line.get_label(): line for line in axis.lines} for axis in figures[0].axes)
    np.testing.assert_allclose(left["worst class"].get_xydata(), [(3, 0), (4, 10)])
    np.testing.assert_allclose(left["all pictures"].get_xydata(), [(3, 40)])
    np.testing.assert_allclose(right["worst class"].get_xydata(), [(3, 50)])
    np.testing.assert_allclose(right["all pictures"].get_xydata(), [(3, 75)])


@pytest.mark.parametrize("spoil", ["no votes", "old", "damaged", "uneven", "no labels"])
def test_runs_without_a_vote_have_no_such_pictures(spoil: str, run_path: Path, tmp_path: Path) -> None:
    run = load_run(shutil.copytree(run_path, tmp_path / "a"))
    assert class_votes(run) is not None
    for r in run.rounds:
        labels = r["labels"] or {}
        if spoil == "no votes":
            labels["votes_classes"] = [None] * 12
        elif spoil == "old":
            labels.pop("votes_classes", None)
        elif spoil == "damaged":
            labels["drawn_classes"] = "many"
        elif spoil == "uneven":
            labels["drawn_classes"] = [1, 2]
        else:
            r["labels"] = None
    assert class_votes(run) is None


def test_the_last_round_with_labels_is_shown(tmp_path: Path) -> None:
    run = load_run(make_run(tmp_path / "a"))
    run.rounds[-1]["labels"] = None
    found = class_votes(run)
    assert found is not None
    assert found["round"] == 3


def test_facts_in_words() -> None:
    rows = [row(t, 0) for t in range(3)]
    rows[2]["facts"] |= {"own {x}": 2, "none": None}
    found = {title: (last, values, meaning) for title, last, values, meaning in method_facts(rows)}
    last, values, meaning = found["Entropy of the fusion weights"]
    assert (last, values) == ("0.920", [0.91, 0.92])
    assert "1 is a plain mean" in meaning
    assert found["own {x}"] == ("2.00", [2.0], "")
    assert len(found) == 2
    led = method_facts([{"round": 1, "facts": {"led": 0.25}}])
    assert led[0][:2] == ("Batches led by the first kind", "25%")
    assert method_facts([{"round": 1, "facts": 3}, {"round": 2}]) == []
