"""Cells by worker processes: done once, whatever happens to them. The runs are stubs."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from functools import partial
from pathlib import Path

import pytest
import stub_runs

from fedloom.comparison import compare, load_comparison
from fedloom.comparison.grids import Grid, GridEntry, grids
from fedloom.comparison.measures import MEASURES
from fedloom.comparison.plots import _axes
from fedloom.comparison.tables import cells_csv, divided, escape, terminal
from fedloom.comparison.watch import Watch
from fedloom.comparison.worker import LOCKS
from fedloom.errors import BadInput
from fedloom.runs.disk import locked

SMALL = {"options": {"size": 12, "images": 40, "texts": 40, "test": 10, "generic": 10, "reference": 10}}
compared = partial(compare, run="stub_runs:run", data=SMALL, rounds=2, jobs=2, scores=["image_accuracy"])
ENTRY = GridEntry("0.610 ± 0.014", "+0.100 [+0.100, +0.100]")  # 23 columns
SCORES = ["image_accuracy", "t2i_accuracy", "bytes_up", "seconds"]


def begun(found) -> dict[str, list[str]]:
    """What each cell's log says, by folder."""
    logs = sorted((found.path / "cells").glob("*/log.txt"))
    return {p.parent.name: [line.split(" ", 1)[1] for line in p.read_text().splitlines()] for p in logs}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two rows, two seeds, two columns; read only."""
    place = tmp_path_factory.mktemp("whole")
    plan = {
        "title": "50% of & more_",
        "seeds": [0, 1],
        "reference": "alone",
        "scores": SCORES,
        "rows": [{"name": "alone", "method": "standalone"}, {"name": "[M|D] <&>", "method": "fedmd"}],
        "columns": [{"name": "a"}, {"name": "b_1", "set": {"clients": {"batch": 4}}}],
    }
    (place / "plan.yaml").write_text(json.dumps(plan))
    return compared(plan=place / "plan.yaml", out=place / "out", scores=None)


@pytest.fixture(autouse=True)
def no_plots(whole, monkeypatch):
    """Plots are looked at in `whole` alone: they take longer than the stubs."""
    monkeypatch.setattr("fedloom.comparison.plots.write_plots", lambda found: {})


def test_what_is_written(whole):
    names = {p.name for p in whole.path.iterdir()}
    files = {"comparison.json", "plan.json", "cells.csv", "table.csv", "table.md", "table.tex", "report.html"}
    assert files | {"plots", "cells", "log.txt"} <= names
    plots = {p.name for p in (whole.path / "plots").iterdir()}
    assert plots == {f"image_accuracy-{axis}.png" for axis in ("rounds", "bytes", "seconds")}
    assert load_comparison(whole.path).tree == json.loads((whole.path / "comparison.json").read_text())


def test_figures(whole):
    table = whole.table("image_accuracy")
    assert table["alone"]["a"]["mean"] == pytest.approx(0.51)  # 0.50 and 0.52
    assert table["alone"]["a"]["difference"] is None
    md = table["[M|D] <&>"]["b_1"]
    assert md["n"] == md["planned"] == 2
    assert md["difference"]["mean"] == pytest.approx(0.1)
    assert whole.table("bytes_up")["[M|D] <&>"]["a"]["mean"] == 1000
    assert whole.table("t2i_accuracy")["alone"]["a"]["applies"] is False
    with pytest.raises(BadInput, match="no score 'fid', allowed: image_accuracy"):
        whole.table("fid")


def test_cost(whole):
    cost = whole.cost
    assert cost["runs"] == len(whole.cells) == 8
    for cell in whole.cells:
        assert cell["seconds"] >= cell["setup_seconds"] >= 0
        assert cell["cpu_seconds"] is not None
        assert 0.02 <= cell["rounds"][-1]["seconds"] < cell["seconds"]  # measured, not the 2 s that the row tells
        assert (whole.path / cell["folder"] / "cost.json").is_file()
    assert cost["total_seconds"] > 0
    assert cost["sessions"][0]["cells"] == 8
    assert cost["cells_seconds"] == pytest.approx(sum(c["seconds"] for c in whole.cells))


def test_csv_parses_back(whole):
    rows = list(csv.DictReader(io.StringIO((whole.path / "cells.csv").read_text())))
    assert len(rows) == 8 * 3
    assert {r["row"] for r in rows} == {"alone", "[M|D] <&>"}
    assert float(rows[2]["image_accuracy"]) == whole.cells[0]["rounds"][2]["image_accuracy"]
    assert rows[0]["t2i_accuracy"] == ""
    table = list(csv.DictReader(io.StringIO((whole.path / "table.csv").read_text())))
    assert len(table) == 2 * 2 * len(SCORES)
    gaps = [r["difference_mean"] for r in table if r["row"] != "alone" and r["score"] == "image_accuracy"]
    assert [float(gap) for gap in gaps] == pytest.approx([0.1, 0.1])


def test_tables_in_words(whole):
    tex, md = ((whole.path / f"table.{kind}").read_text() for kind in ("tex", "md"))
    assert r"50\% of \& more\_: Image clients" in tex
    assert r"{[}M|D] <\&> & \textbf{0.610 $\pm$ 0.014} & \textbf{0.610 $\pm$ 0.014} \\" in tex
    assert r" & a & b\_1 \\" in tex
    assert tex.count("{") == tex.count("}")
    assert "| [M\\|D] <&> | **0.610 ± 0.014**<br>+0.100 [+0.100, +0.100], p < 0.001 |" in md
    assert "n = 2 seeds" in md
    assert "1.0 kB" in md
    assert "T2I accuracy" not in md  # nobody has one


def test_page_is_safe_and_alone(whole):
    page = (whole.path / "report.html").read_text()
    assert "[M|D] &lt;&amp;&gt;" in page
    assert "<&>" not in page
    # The letters of a picture can spell anything.
    assert "http" not in re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", page)
    assert page.count("data:image/png") == 3
    cell = whole.cells[0]
    assert f'href="{cell["folder"]}/"' in page


def test_wide_tables_are_divided(whole):
    """On a terminal no figure is folded: what does not fit goes into a table below, with the names again."""
    from rich.console import Console

    grid = Grid("T", ("A b", "C", "D"), (("row", (ENTRY, ENTRY, ENTRY)), ("longer", (ENTRY,) * 3)), None)
    for width, heads in ((120, [3]), (62, [2, 1]), (61, [2, 1]), (60, [1, 1, 1]), (5, [1, 1, 1])):
        parts = divided(grid, width)
        assert [len(part.head) for part in parts] == heads, width
        assert [name for part in parts for name in part.head] == list(grid.head)
        assert all(len(line) == len(part.head) for part in parts for _, line in part.lines)
        assert all([name for name, _ in part.lines] == ["row", "longer"] for part in parts)
    for width in (60, 100):
        with (screen := Console(width=width, color_system=None)).capture() as shown:
            screen.print(*terminal(whole, width))
        lines = shown.get().splitlines()
        assert max(map(len, lines)) <= width
        assert sum("[M|D] <&>" in line for line in lines) == len(parts_of(whole, width))
        assert sum("0.610 ± 0.014" in line for line in lines) in (1, 2)
        assert " ".join(shown.get().split()).count("Mean ± standard deviation") == len(grids(whole))


def parts_of(found, width):
    return [part for grid in grids(found) for part in divided(grid, width)]


def test_scores_of_kinds_are_drawn_over_rounds_alone():
    assert _axes(MEASURES["audio_own"]) == ("rounds",)
    assert _axes(MEASURES["server_accuracy"]) == ("rounds", "bytes", "seconds")
    assert _axes(MEASURES["bytes_up"]) == ()


def test_latex_signs():
    assert escape(r"a\b {c} #1 ~ ^ $x$ −1 ±2 –") == (
        r"a\textbackslash{}b \{c\} \#1 \textasciitilde{} \textasciicircum{} \$x\$ $-$1 $\pm$2 --"
    )


def test_what_fails_leaves_the_others(tmp_path):
    rows = [
        {"method": "standalone"},
        {"name": "bug", "method": "fedmd", "set": {"data": {"alpha": stub_runs.BUG}}},
        {"name": "full", "method": "fedmd", "set": {"data": {"alpha": stub_runs.MENDABLE}}},
        {"name": "killed", "method": "fedmd", "set": {"data": {"alpha": stub_runs.KILL}}},
        {"method": "fedmekt"},
    ]
    plan = tmp_path / "plan.yaml"
    plan.write_text(json.dumps({"rows": rows, "seeds": [0]}))
    found = compared(plan=plan, out=tmp_path / "out", jobs=1)
    reasons = {c["row"]: c["error"] for c in found.failed}
    assert reasons["bug"] == "ValueError: one bug"
    assert reasons["full"] == "the disk is full"
    assert "was killed by signal 9" in reasons["killed"]
    assert set(reasons) == {"bug", "full", "killed"}
    assert [c["state"] for c in found.cells] == ["done", "failed", "failed", "failed", "done"]
    assert "| bug | – |" in (tmp_path / "out" / "table.md").read_text()
    assert "ValueError: one" in (tmp_path / "out" / "log.txt").read_text()
    # Again: what failed is resumed, the rest is left alone; this time nothing harms it.
    again = compare(resume=tmp_path / "out", jobs=1, run="stub_runs:run")
    assert not again.failed
    lines = sorted(begun(again).values())
    assert lines == [["begun"]] * 2 + [["begun", "resumed"]] * 3
    assert len(again.cost["sessions"]) == 2
    half = next(c for c in again.cells if c["row"] == "killed")
    cost = json.loads((again.path / half["folder"] / "cost.json").read_text())
    assert len(cost["attempts"]) == 2  # the killed one counts as well
    assert set(cost["rounds"]) == {"1", "2"}


class Stop(Watch):
    def finish(self, cell, record):
        super().finish(cell, record)
        self.children = children()
        raise KeyboardInterrupt


def test_interrupted_and_gone_on_with(tmp_path):
    call = partial(compared, ["standalone", "fedmd"], [0, 1], out=tmp_path / "out", jobs=1)
    with pytest.raises(KeyboardInterrupt):
        call(watch=Stop())
    part = load_comparison(tmp_path / "out")
    assert [c["state"] for c in part.cells].count("done") == 1
    assert len(part.open) == 3
    assert "unfinished" in (part.path / "report.html").read_text()
    first = begun(part)
    found = call()
    assert not found.open
    assert {k: v for k, v in begun(found).items() if k in first and v == ["begun"]}
    untouched = (found.path / "comparison.json").read_text()
    again = call()  # nothing is left to do
    assert begun(again) == begun(found)
    assert json.loads(untouched)["cells"] == again.tree["cells"]


def test_damaged_cells_are_run_anew(tmp_path):
    call = partial(compared, ["standalone", "fedmd", "fedmekt"], out=tmp_path / "out", jobs=1)
    folders = [tmp_path / "out" / c["folder"] for c in call().cells]
    (folders[0] / "summary.json").write_text("{")
    (folders[1] / "config.yaml").unlink()
    (folders[2] / "metrics.jsonl").write_text("")
    found = call()
    assert not found.failed
    assert set(map(tuple, begun(found).values())) == {("begun",)}


def test_cells_shared_by_comparisons(tmp_path):
    """The second one finds a cell of the first, waits for a cell that somebody is at, and runs the rest."""
    one = compared(["standalone"], out=tmp_path / "one", cells=tmp_path / "cells", jobs=1)
    held = locked(tmp_path / "cells" / LOCKS / f"{folder_of(one, 'fedmd')}.lock")
    held.__enter__()

    class Release(Watch):
        def put_off(self, cell):
            super().put_off(cell)
            if len(self.told) == 1:
                held.__exit__(None, None, None)

    watch = Release()
    two = compared(["standalone", "fedmd"], out=tmp_path / "two", cells=tmp_path / "cells", jobs=1, watch=watch)
    assert [c["state"] for c in two.cells] == ["done", "done"]
    assert (watch.total, watch.found, len(watch.told)) == (2, 1, 1)
    assert two.cells[0]["folder"] == f"../cells/{Path(one.cells[0]['folder']).name}"


def folder_of(found, method: str) -> str:
    """The folder that the same cell has with another method."""
    from fedloom.comparison.cells import make_cells
    from fedloom.comparison.plan import read_plan
    from fedloom.comparison.session import read_order

    order = read_order(found.path)
    return make_cells(read_plan(methods=[method]), order.values, order.overrides)[0].folder


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="children are looked up in /proc")
def test_workers_end_with_the_comparison(tmp_path):
    watch = Stop()
    with pytest.raises(KeyboardInterrupt):
        compared(["standalone", "fedmd"], out=tmp_path / "out", watch=watch)
    assert watch.children
    assert not children() & watch.children


def children() -> set[int]:
    """Workers that this process has started and that are there."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(") ")[2].split()
            command = stat.with_name("cmdline").read_text()
        except OSError:
            continue
        if int(words[1]) == os.getpid() and "comparison.worker" in command:
            found.add(int(stat.parent.name))
    return found


def test_folders_that_are_refused(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "letter.txt").write_text("")
    with pytest.raises(BadInput, match=r"own is not empty and holds no comparison \(it has letter.txt\)"):
        compared(["standalone"], out=tmp_path / "own")
    with pytest.raises(BadInput, match="is a file"):
        compared(["standalone"], out=tmp_path / "own" / "letter.txt")
    with pytest.raises(BadInput, match=r"no folder of a comparison: it has no plan.json"):
        compare(resume=tmp_path / "own")
    with pytest.raises(BadInput, match="give nothing but resume and jobs"):
        compare(["fedmd"], resume=tmp_path / "own")
    with pytest.raises(BadInput, match="no folder of a comparison"):
        load_comparison(tmp_path / "own")
    shutil.rmtree(tmp_path / "own")
    assert not list(tmp_path.iterdir())


def test_a_busy_folder_is_refused(tmp_path):
    found = compared(["standalone"], out=tmp_path / "out", jobs=1)
    with (
        locked(found.path / ".lock"),
        pytest.raises(BadInput, match="another process is at this comparison"),
    ):
        compared(["standalone"], out=tmp_path / "out")


def test_a_target_and_recalls(tmp_path):
    """Text accuracy of standalone and fedmd at 0, 1, 2: 0.5, 0.6, 0.7 and 0.6, 0.7, 0.8."""
    plan = {
        "rows": [{"method": "standalone"}, {"method": "fedmd"}],
        "target": {"score": "text_accuracy", "value": 0.75},
    }
    (tmp_path / "plan.yaml").write_text(json.dumps(plan))
    found = compared(plan=tmp_path / "plan.yaml", out=tmp_path / "out", scores=["server_recall"], jobs=1)
    table = found.table("rounds_to_target")
    assert table["fedmd"][""]["mean"] == 2
    assert (table["standalone"][""]["n"], table["standalone"][""]["applies"]) == (0, True)
    text = (found.path / "table.md").read_text()
    assert "Server recall" not in text  # nobody has one
    assert "| standalone | – |" in text
    assert "Rounds to target: until Text clients ≥ 0.75, over seeds that get there." in text
    assert "never there or not run yet" in text
    assert "server_recall" not in (found.path / "cells.csv").read_text()
    found.tree["cells"][0]["rounds"][1]["server_recall"] = 0.5
    rows = list(csv.DictReader(io.StringIO(cells_csv(found))))
    assert [r["server_recall"] for r in rows[:3]] == ["", "0.5", ""]
    assert "pair_recall" not in rows[0]


def test_at_a_glance(whole):
    """Printed it is a few lines; in a notebook tables and a plot, and what a plan says is escaped."""
    text, html = str(whole), whole._repr_html_()
    assert text.splitlines()[0] == "50% of & more_: 2 rows, 2 seeds, 8 runs"
    assert "[M|D] <&>" in text
    assert text.splitlines()[-1] == f"folder {whole.path}"
    assert "[M|D] &lt;&amp;&gt;" in html
    assert html.count("<img") == 1
    assert "<script" not in html
    assert repr(whole) == f"<Comparison 50% of & more_: {whole.path}>"
