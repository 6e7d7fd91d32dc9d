"""How one finds one's way on a page, and what its plots and small curves are scaled to."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from fedloom.reporting.canvas import from_least, line_look, panels
from fedloom.reporting.html import write_report
from fedloom.reporting.pages import _points
from fedloom.reporting.scores import least_of


def test_a_page_lists_its_sections_and_leads_to_the_run_s_files(run_path: Path, tmp_path: Path) -> None:
    for place in (tmp_path / "deep" / "r.html", tmp_path / "r.html"):
        text = write_report([run_path], place).read_text()
        titles = re.findall(r'<section id="(s\d+)">\n<h2>(.*?)</h2>', text)
        assert re.findall(r'<a href="#(s\d+)">(.*?)</a>', text) == titles
        assert "What crossed the wire" in dict(titles).values()
        files = re.findall(r'<a href="([^#].*?)">(.*?)</a>', text)
        assert {"config.yaml", "metrics.jsonl", "ledger.jsonl", "samples/"} <= {name for _, name in files}
        for href, name in files:
            assert (place.parent / unquote(href)).resolve() == (run_path / name).resolve()
    both = write_report([run_path, run_path], tmp_path / "c.html").read_text()
    assert f"Made by <code>fedloom report {run_path} {run_path}</code>" in both
    assert re.findall(r'<details id="(s\d+)" class="run">', both) == ["s3", "s4"]


def test_axes_begin_where_the_quantity_does_and_equal_lines_are_both_seen() -> None:
    _, (axis,) = panels(1)
    for number in range(2):
        axis.plot([0, 1], [0.701, 0.702], **line_look(number))
    from_least(axis)
    low, high = axis.get_ylim()
    assert (low, high) == (0.0, pytest.approx(0.8, abs=0.01))  # a change of 0.001 is a flat line
    first, second = axis.get_lines()
    assert first.get_linewidth() > second.get_linewidth()
    assert first.get_marker() != second.get_marker()
    axis.plot([0, 1], [-0.2, 0.1])
    axis.autoscale(True)
    from_least(axis)
    assert axis.get_ylim()[0] < -0.2
    assert least_of("inception_score") == 1.0
    noise = [y for _, y in _points([0.701, 0.702, 0.701])]
    assert max(noise) - min(noise) < 1.0
    assert max(y for _, y in _points([0.2, 0.7])) - min(y for _, y in _points([0.2, 0.7])) == pytest.approx(22)
