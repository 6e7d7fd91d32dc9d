"""A run at a glance: where it is printed, and in a notebook."""

from __future__ import annotations

import base64
import re
import shutil
from io import BytesIO

import pytest
from PIL import Image

from fedloom.results import load_run


@pytest.fixture
def copy(run_path, tmp_path):
    return shutil.copytree(run_path, tmp_path / "run")


def test_printed(run_path):
    run = load_run(run_path)
    lines = str(run).splitlines()
    assert lines[0] == "fedmmkt on flora, seed 0: finished, 4 rounds"
    assert lines[-1] == f"folder {run_path}"
    assert len(lines) < 15
    assert re.fullmatch(r"  Image clients +\d\.\d{3} → +\d\.\d{3}  [+−]\d\.\d{3}", lines[1])
    assert repr(run) == f"<Run fedmmkt on flora, seed 0: {run_path}>"


def test_in_a_notebook(run_path):
    html = load_run(run_path)._repr_html_()
    assert "<script" not in html
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    assert len(pictures) == 2
    assert "src=" not in re.sub(r'src="data:', "", html)  # nothing is loaded from elsewhere
    for data in pictures:
        assert Image.open(BytesIO(base64.b64decode(data))).height <= 260
    assert len(html) < 500_000
    assert "Image clients" in html
    assert "Samples after round 4" in html


def test_what_comes_from_a_run_is_escaped(copy):
    text = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(text.replace("method: fedmmkt", "method: <script>alert(1)</script>"))
    html = load_run(copy)._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_while_it_goes_on(copy):
    (copy / "summary.json").unlink()
    lines = (copy / "metrics.jsonl").read_text().splitlines(keepends=True)
    (copy / "metrics.jsonl").write_text("".join(lines[:2]))
    assert "unfinished, round 1 of" in str(load_run(copy))
    (copy / "metrics.jsonl").write_text("")
    assert "not scored yet" in str(load_run(copy))
    shutil.rmtree(copy / "samples")
    assert "<img" not in load_run(copy)._repr_html_()


def test_damaged(copy):
    """Looking at a run never raises."""
    (copy / "metrics.jsonl").write_text("{}\nno\n{}\n")
    run = load_run(copy)
    assert "cannot be read: " in str(run)
    assert "cannot be read: " in run._repr_html_()
    for text in ("a: 1", "method: null\ndata: flora\nseed: [1]"):
        (copy / "config.yaml").write_text(text)
        assert str(load_run(copy))
        assert repr(load_run(copy))
