"""What the report says of the model that multimodal clients share."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib.colors
import numpy as np
import pytest
from test_report_page import check_self_contained, read, text_of  # type: ignore[import-not-found]

from fedloom.config import Config
from fedloom.experiment.summary import summarise
from fedloom.reporting import heatmaps, plots
from fedloom.reporting.html import write_report
from fedloom.reporting.scores import STREAMS, kinds_of, wanted
from fedloom.reporting.streams import streams
from fedloom.reporting.text import summary_table
from fedloom.results import load_run
from made_up_run import CLASSES, IMAGE, JOINT, make_run, row, with_streams  # type: ignore[import-not-found]

pytestmark = pytest.mark.drawn

ROWS = [with_streams(row(t, 0)) for t in range(5)]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are drawn, in place of their files."""
    found: list[Any] = []
    for module in (heatmaps, plots):
        monkeypatch.setattr(module, "save", lambda figure, target: found.append(figure))
    return found


def test_the_page_of_a_run_with_joint_clients(tmp_path: Path) -> None:
    page = read(write_report([make_run(tmp_path / "a", joint=True)]))
    check_self_contained(page)
    assert sum(tag == "img" for tag, _ in page.tags) == 5  # curves, kinds, classes, split, bytes
    for expected in (
        "2 multimodal clients",
        "Shared model 0.827 from 0.100",
        "Picture, own 0.373",
        "What each kind of data can do",
        "Class by class, after round 4",
        "Dominance 1.50 How sure the shared model is of the right class by sounds, over how sure it is by pictures",
        "Batches led by sounds 75%",
        "odd <b> 2.00",
        "joint-1 joint 0.100 0.555",
        "Of multimodal clients: by the kinds of data",
    ):
        assert expected in page.text, expected
    for absent in ("Not measured", "Picture, filled", "Sound, probe", "Changes of the lead", "Image clients"):
        assert absent not in page.text, absent


def test_no_facts_and_no_classes_leave_the_rest(tmp_path: Path) -> None:
    run = load_run(make_run(tmp_path / "a", joint=True))
    for r in run.rounds:
        del r["facts"], r["per_class"]
    found = streams(run)
    assert found is not None
    assert found["curves"]
    assert not found["facts"]
    assert "classes" not in found
    for r in run.rounds:
        del r["audio_own"], r["image_own"]
    assert streams(run) is None


def test_the_end_of_a_run_tells_each_kind(tmp_path: Path) -> None:
    text = text_of(summary_table(load_run(make_run(tmp_path / "a", joint=True)).summary))
    assert "Sound, own" in text
    assert "Class spread" in text
    assert "probe" not in text
    assert "Image clients" not in text


def test_kinds_on_their_own_and_alone(figures: list[Any]) -> None:
    plots.stream_curves(ROWS, BytesIO())
    left, right = ({line.get_label(): line for line in axis.lines} for axis in figures[0].axes)
    assert list(left) == [
        "both kinds",
        "sound, own",
        "sound, linear probe",
        "picture, own",
        "picture, linear probe",
    ]
    assert {name: line.get_linestyle() for name, line in left.items() if "probe" in name} == {
        "sound, linear probe": "--",
        "picture, linear probe": "--",
    }
    colours = {name: matplotlib.colors.to_hex(line.get_color()) for name, line in {**left, **right}.items()}
    for kind in ("sound", "picture"):
        assert len({c for name, c in colours.items() if name.startswith(kind)}) == 1
    assert len(set(colours.values())) == 3
    np.testing.assert_allclose(left["picture, own"].get_ydata(), [r["image_own"] for r in ROWS])
    filled, zeros = right["picture alone, with substitute"], right["picture alone, with zeros"]
    np.testing.assert_allclose(filled.get_ydata() - zeros.get_ydata(), 0.03)
    assert filled.get_linestyle() != zeros.get_linestyle()


def test_a_method_without_substitute_has_no_line_for_it(figures: list[Any]) -> None:
    plots.stream_curves([{**r, "audio_filled": None, "image_filled": None} for r in ROWS], BytesIO())
    assert [line.get_label() for line in figures[0].axes[1].lines] == [
        "both kinds",
        "sound alone, with zeros",
        "picture alone, with zeros",
    ]


def test_classes_stand_by_who_leads(figures: list[Any]) -> None:
    per_class = {"server": [0.5, None, 1.0], "image_own": [0.2, 0.0, 0.9], "text_own": [0.4, 0.9, 0.1]}
    heatmaps.class_picture(per_class, ("image", "text"), ["a", "$b", "c"], BytesIO())
    (axis,) = figures[0].axes
    assert [t.get_text() for t in axis.get_xticklabels()] == ["c", "a", r"\$b"]
    assert [t.get_text() for t in axis.get_yticklabels()] == ["both kinds", "picture, own", "text, own"]
    assert [t.get_text() for t in axis.texts] == [*("100", "50"), *("90", "20", "0"), *("10", "40", "90")]
    assert "picture leads at the left, text at the right" in axis.get_title(loc="left")


@pytest.mark.parametrize("classes", [1, 30, 100])
def test_any_number_of_classes(tmp_path: Path, classes: int) -> None:
    shares = np.random.default_rng(0).random((3, classes)).tolist()
    per_class = dict(zip(("server", "audio_own", "text_own"), shares))
    names = [f"a long name of class {i}" for i in range(classes)]
    for given in (names, ()):
        heatmaps.class_picture(per_class, ("audio", "text"), given, tmp_path / "c.png")
        assert (tmp_path / "c.png").stat().st_size > 1000


def test_curves_leave_the_kinds_to_their_own_picture(figures: list[Any]) -> None:
    def titles(figure: Any) -> list[str]:
        return [axis.get_title(loc="left") for axis in figure.axes if axis.get_visible()]

    plots.curves(ROWS, BytesIO(), clients={"joint": JOINT})
    plots.compare_curves({"a": ROWS, "b": ROWS}, BytesIO())
    shared = ["Multimodal clients accuracy", "Shared model accuracy", "Class spread (lower is better)"]
    assert titles(figures[0]) == shared
    assert len(figures[0].axes[0].lines) == 1 + len(JOINT)
    assert titles(figures[1]) == [*shared, "Sound, own accuracy", "Picture, own accuracy"]


def test_kinds_and_what_is_missed() -> None:
    assert kinds_of([with_streams(row(0, 0), ("image", "text")), {}]) == ("image", "text")
    assert kinds_of([row(0, 0)]) == ()
    assert wanted(["joint_accuracy"]) == ()
    assert "t2i_accuracy" in wanted(["fid"])


def test_the_summary_has_streams_where_they_are() -> None:
    seconds = {"setup": 1.0, "total": 9.0}
    found = summarise(Config(), {"image": [], "joint": JOINT}, ROWS, seconds, {})
    assert found["joint_accuracy"]["per_client"] == ROWS[-1]["per_client"]
    assert found["image_probe"] == {"before": ROWS[0]["image_probe"], "after": ROWS[-1]["image_probe"]}
    assert "text_own" not in found
    plain = summarise(Config(), {"image": IMAGE, "joint": []}, [row(0, 0)], seconds, {})
    assert not set(STREAMS).intersection(plain)
    assert len(CLASSES) == len(ROWS[0]["per_class"]["server"])
