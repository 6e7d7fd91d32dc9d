"""Kept rows, studies and the runner: rows, machine, harvest, studies, comparisons, running of evidence/, and study."""

from __future__ import annotations

import multiprocessing
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from evidence import harvest, machine, rows, running, studies
from made_up_study import STUDY, Script, row, write_run

from fedloom.comparison.cells import make_cells
from fedloom.comparison.plan import read_plan
from fedloom.config import load_config
from fedloom.errors import BadInput
from fedloom.experiment.resolve import completed
from fedloom.runs.folder import flatten

ROOT = Path(__file__).resolve().parents[2]


# ------------------------------------------------------------------------------------------------- rows


def test_rows_are_appended_and_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "s.csv"
    rows.append(path, row())
    rows.append(path, row(seed="1", processor='He said "8, cores"\n'))
    assert [r["seed"] for r in rows.read(path)] == ["0", "1"]
    assert rows.read(path)[1]["processor"] == 'He said "8, cores"'
    assert rows.read(path)[0] == row()
    rows.append(path, {**row(seed="2"), "new": "7"})  # a column more
    assert [r["new"] for r in rows.read(path)] == ["", "", "7"]
    rows.append(path, row(seed="3"))  # and one less
    assert [r["seed"] for r in rows.read(path)] == ["0", "1", "2", "3"]
    with path.open("a") as handle:
        handle.write("s,a,4,cut sho")
    assert len(rows.read(path)) == 4
    rows.append(path, row(seed="5"))
    assert [r["seed"] for r in rows.read(path)][-1] == "5"


def _append(path: Path, seed: int) -> None:
    for n in range(10):
        rows.append(path, row(seed=str(seed), arm=str(n)))


def test_several_processes_append(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.starmap(_append, [(path, seed) for seed in range(4)])
    assert len({rows.key_of(r) for r in rows.read(path)}) == 40


def test_what_is_no_file_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(BadInput, match="no column 'study'"):
        rows.read(path)
    path.write_text("study,arm,seed,settings\n1,2\n")
    with pytest.raises(BadInput, match="line 2: 2 fields, expected 4"):
        rows.read(path)


def test_a_seed_is_of_one_machine() -> None:
    p, q = row(), row(processor="Q")
    assert rows.chosen([p, q]) == [p]  # as many arms and rows: the first in the file
    more = [p, q, row(processor="Q", arm="b"), row(seed="1"), row(seed="2", processor="Q")]
    assert rows.chosen(more) == [q, *more[2:]]  # seed 0 on Q, with two arms, seed 1 on P, seed 2 on Q
    assert rows.chosen([*more, row(arm="main")], "main") == [p, more[3], more[4], row(arm="main")]
    assert rows.chosen([]) == []
    grid = [
        row(arm="a @ x=1"),
        row(arm="a @ x=2"),
        row(arm="b @ x=1", processor="Q"),
        row(arm="a @ x=1", processor="Q"),
    ]
    assert rows.chosen(grid) == [grid[1], *grid[2:]]  # cell by cell


def test_what_counts_once_for_a_key() -> None:
    assert len(rows.latest([row(image_accuracy="0.1"), row(image_accuracy="0.2"), row(simd="AVX512")])) == 2
    assert rows.latest([row(), row(image_accuracy="0.2")])[0]["image_accuracy"] == "0.2"


def test_the_machine_and_the_commit(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: Some  CPU\ncpu family\t: 6\nmodel\t\t: 85\n\nmodel name\t: Other\n")
    assert machine.processor(info) == "Some CPU (family 6, model 85)"
    assert machine.processor(tmp_path / "none")
    assert set(machine.machine()) == {"processor", "simd", "cores"}
    assert machine.commit(tmp_path) == "unknown"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a").write_text("a")
    for words in (["init", "-q"], ["add", "src"], ["commit", "-qm", "a"]):
        subprocess.run([*git, *words], check=True)
    clean = machine.commit(tmp_path)
    assert re.fullmatch(r"[0-9a-f]{10}", clean)
    (tmp_path / "README.md").write_text("not code")
    assert machine.commit(tmp_path) == clean
    (tmp_path / "src" / "b").write_text("b")
    assert machine.commit(tmp_path) == f"{clean}-dirty"


# ------------------------------------------------------------------------------------------------- studies, runs


@pytest.mark.parametrize("name", studies.names())
def test_studies_that_come_with_it_are_configurations(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("FOOD101_RECIPES", "MOBILENET", "AG_NEWS", "FLICKR8K", "COCO_MINI", "AUDIO_VISUAL_DIGITS"):
        monkeypatch.setenv(variable, "/data")
    found = studies.load(name)
    for arm in found.arms:
        load_config(preset=found.preset, overrides=found.overrides(arm, 3))


def test_settings_of_an_arm(study: studies.Study) -> None:
    assert study.settings("full") == {"settings.gamma": 0.2}
    assert (
        study.settings_text("less") == "preset=smoke; evaluation.every=1000; settings.gamma=0.2; settings.labvote=false"
    )
    assert study.settings("alone") == {"evaluation.every": 1000, "method": "standalone"}  # gamma is FedMMKT's
    assert study.settings_text("full", {"rounds": "1"}) == "preset=smoke; rounds=1; settings.gamma=0.2"
    assert study.overrides("full", 4) == ["settings.gamma=0.2", "seed=4", "server.seed=4", "data.options.seed=4"]


def test_variables_in_settings(study: studies.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"data.root": "$THERE/x"}
    assert "data.root=$THERE/x" in study.settings_text("full", extra)  # rows are of no machine's folders
    with pytest.raises(BadInput, match="THERE, which is not set"):
        study.overrides("full", 0, extra)
    monkeypatch.setenv("THERE", "/here")
    assert "data.root=/here/x" in study.overrides("full", 0, extra)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("bounds: [alone]", "bounds: [alnoe]", "bounds: unknown arm 'alnoe'. Allowed: full, less, alone"),
        ("score: t2i_accuracy", "score: t2i", "claims: unknown score 't2i'"),
        ("base: {settings.gamma: 0.2}", "base: {seed: 1}", "seed takes the seed's number"),
        ("title: T", "titel: T", "titel"),
    ],
)
def test_wrong_studies(tmp_path: Path, old: str, new: str, said: str) -> None:
    (tmp_path / "wrong.yaml").write_text(STUDY.replace(old, new))
    with pytest.raises(BadInput, match=re.escape(said)):
        studies.load(tmp_path / "wrong.yaml")


def test_a_row_of_a_run(study: studies.Study, tmp_path: Path) -> None:
    write_run(tmp_path / "run", "full", 3)
    found = harvest.row_of(study, "full", 3, tmp_path / "run", settings="s", cpu_seconds=2.5, commit="abc")
    assert list(found) == rows.columns(list(study.scores))
    assert found["curve"].startswith("image_accuracy=0.53/0.56008/0.59016; t2i_accuracy=")
    assert found["curve"].endswith("metrics.mine=0/1/2")
    assert (found["image_accuracy_before"], found["image_accuracy"], found["metrics.mine"]) == ("0.53", "0.59016", "2")
    assert (found["voted_accuracy_round1"], found["kept_accuracy_mean"], found["kept_share_mean"]) == (
        "0.63",
        "",
        "0.5",
    )
    assert (found["bytes_up"], found["bytes_down"]) == ("10", "21.5")  # of rounds 1 and 2
    told = ("seconds", "cpu_seconds", "torch", "date")
    assert [found[key] for key in told] == ["9.0", "2.5", "2.0", "2026-01-02"]


def test_a_study_is_run_and_resumed(
    script: Script, made_up: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("study", "evidence.running"):
        monkeypatch.setattr(f"{module}.commit", lambda: made_up["commit"])
    words = ("run", tmp_path / "tiny.yaml", "--results", tmp_path / "kept", "--seeds", "0-2")
    made_up["fail"] = [("less", 1)]
    said = script("study", *words, "--jobs", 2)
    assert said.startswith("1\n")
    assert "less seed 1: failed: no disk; " in said
    assert re.search(r"9/9 \S+ seed \d: .* \(9 s\); 0 s left", said)
    made_up["fail"] = ()
    said = script("study", *words)
    assert said.startswith("0\n8 of 9 rows are there already\n1/1 less seed 1: image_accuracy 0.5")
    assert len(rows.read(tmp_path / "kept" / "tiny.csv")) == 9
    assert script("study", *words).startswith("0\n9 of 9 rows")
    assert script("study", *words, "--again").startswith("0\n9 of 9 rows")  # of this commit
    made_up["commit"] = "def"
    assert "2/2 full seed 1" in script("study", *words[:4], "--seeds", "0-1", "--arms", "full", "--again")
    assert "\n7/7 " in script("study", *words, "--again")  # where it was
    made_up["commit"] = "def-dirty"
    assert "\n9/9 " in script("study", *words, "--again")
    assert "1/1 full seed 0" in script("study", *words[:4], "--arms", "full", "--set", "rounds=1")  # other settings
    keep = tmp_path / "folders"
    script("study", *words[:4], "--seeds", 7, "--arms", "full", "--keep", keep)
    assert (keep / "full-7" / "summary.json").exists()


def test_seeds_that_another_machine_has(script: Script, made_up: dict[str, Any], tmp_path: Path) -> None:
    words = ("run", tmp_path / "tiny.yaml", "--results", tmp_path / "kept", "--seeds", "0-1")
    script("study", *words)
    path = tmp_path / "kept" / "tiny.csv"
    there = [{**r, "processor": "Other"} for r in rows.read(path)]
    path.unlink()
    for other in there:
        if (other["seed"], other["arm"]) != ("1", "less"):
            rows.append(path, other)
    assert "\n3/3 " in script("study", *words, "--anywhere")  # seed 1 whole, as no machine has all of it
    assert script("study", *words, "--anywhere").startswith("0\n6 of 6 rows")
    assert "\n3/3 " in script("study", *words)
    assert len(rows.read(path)) == 11


def test_what_cannot_be_run(script: Script, tmp_path: Path, study: studies.Study) -> None:
    assert script("study", "run", "flroa").startswith("2\nerror: unknown study 'flroa'. Did you mean 'flora'?")
    assert "unknown arm 'ful'" in script("study", "run", tmp_path / "tiny.yaml", "--arms", "ful")
    assert "--set rounds: expected KEY=VALUE" in script("study", "run", tmp_path / "tiny.yaml", "--set", "rounds")
    assert "'x' is not a seed" in script("study", "run", tmp_path / "tiny.yaml", "--seeds", "x")


def test_runs_side_by_side_share_no_pretraining() -> None:
    jobs = running.in_order(["a", "b"], [0, 1, 2], 2)
    assert [f"{job.arm}{job.seed}" for job in jobs] == ["a0", "a1", "b0", "b1", "a2", "b2"]


WORKER = """
import sys, time
from fedloom.processes.parent import Parent
parent = Parent()
while True:
    order, _ = parent.receive()
    if order["does"] == "die":
        print("bad luck", file=sys.stderr)
        sys.exit(3)
    time.sleep(100 if order["does"] == "sleep" else 0)
    parent.send({"reason": "no disk" * (order["does"] == "fail"), "cpu_seconds": 2.5})
"""


@pytest.fixture
def runner(study: studies.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[running.Runner]:
    """Its processes do what the order says, and its rows are how long that took."""
    (tmp_path / "obedient.py").write_text(WORKER)
    monkeypatch.syspath_prepend(tmp_path)
    inner = running.Worker
    monkeypatch.setattr(running, "Worker", lambda folder: inner(folder, "obedient"))
    monkeypatch.setattr(running, "commit", lambda: "abc")
    made = running.Runner(study)
    yield made
    made.stop()


def test_processes_of_runs(runner: running.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """One does run after run, also after one that failed; for a dead one, or one of other code, there is a new one."""
    assert runner._done({"does": "run"}) == (2.5, "abc")
    first = runner._all[0].pid
    with pytest.raises(running.RunFailed, match=r"^no disk$"):
        runner._done({"does": "fail"})
    assert runner._done({"does": "run"})[1] == "abc"
    assert [w.pid for w in runner._all] == [first]
    with pytest.raises(running.RunFailed, match=r"the run's process .* status 3.*: bad luck"):
        runner._done({"does": "die"})
    assert runner._done({"does": "run"})[1] == "abc"
    assert len(runner._all) == 2
    monkeypatch.setattr(running, "commit", lambda: "def")
    assert runner._done({"does": "run"})[1] == "def"
    assert not runner._all[1].alive()
    said = iter(["def", "ghi"])
    monkeypatch.setattr(running, "commit", lambda: next(said))
    assert runner._done({"does": "run"})[1] == "def-dirty"  # it changed while the run was made


def test_a_study_that_is_stopped_ends_its_processes(runner: running.Runner) -> None:
    begun = time.monotonic()
    runner.row = lambda job: runner._done({"does": "sleep" if job.seed else "run"})  # type: ignore[method-assign]
    doing = runner.rows([running.Job("full", 0), running.Job("full", 1)], 2)
    assert next(doing)[0].seed == 0
    doing.close()  # as a signal does
    assert time.monotonic() - begun < 50
    assert not any(worker.alive() for worker in runner._all)
    assert not runner._scratch.exists()
    with pytest.raises(running.RunFailed, match="stopped"):
        runner._done({"does": "run"})


def test_times() -> None:
    assert [running.time_text(n) for n in (45, 11_100)] == ["45 s", "3 h 05 min"]


def test_a_closed_terminal_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: dict[int, Any] = {}
    monkeypatch.setattr(running.signal, "signal", taken.__setitem__)
    monkeypatch.setattr(running.signal, "getsignal", lambda n: signal.SIG_IGN if n == signal.SIGHUP else None)
    running.end_by_signals()
    assert list(taken) == [signal.SIGTERM]  # nohup keeps the other
    with pytest.raises(SystemExit) as ended:
        taken[signal.SIGTERM](signal.SIGTERM, None)
    assert ended.value.code == 143


@pytest.mark.conformance
def test_a_study_by_real_runs(tmp_path: Path, study: studies.Study) -> None:
    words = [tmp_path / "tiny.yaml", "--seeds", "0-1", "--arms", "full,alone", "--results", tmp_path]
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "study.py", "run", *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(rows.read(tmp_path / "tiny.csv")) == 4


LIKE = ("fedafd", "fedcmi", "fedcmi-half", "fedcmi-digits")


@pytest.mark.parametrize("name", [*LIKE, *(f"table-{n}" for n in (1, 3, 4, 7, 9, 10))])
def test_a_study_like_a_comparison_has_its_cells(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same configurations, but for what takes the seed's number, and how often and on how much it is scored."""
    monkeypatch.setenv("AUDIO_VISUAL_DIGITS", "/data")
    plan = read_plan(preset=name.removesuffix("-half"), seeds=[3])
    found = studies.load(name)
    column = found.title.rpartition("; ")[2]
    cells = {cell.row: cell.config for cell in make_cells(plan, {}, []) if cell.column == column}
    assert [arm for arm in found.arms if arm in cells] == list(cells)  # a study may have more
    for arm, config in cells.items():
        own = load_config(preset=found.preset, overrides=found.overrides(arm, 3))
        ours, theirs = (flatten(completed(c)[0].model_dump(mode="json")) for c in (own, config))
        others = {key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key)}
        scored = {"evaluation.every", "evaluation.prompts_per_class"}
        assert others <= {"data.options.seed", "data.options", "server.seed", *scored}, arm


@pytest.mark.parametrize(
    ("like", "said"),
    [
        ("{comparison: tabel-3}", "unknown comparison 'tabel-3'. Did you mean 'table-3'?"),
        ("{comparison: table-3, column: x}", "unknown column 'x'"),
        ("table-3", "like = 'table-3': expected {comparison: NAME, column: NAME}"),
    ],
)
def test_wrong_likes(tmp_path: Path, like: str, said: str) -> None:
    (tmp_path / "wrong.yaml").write_text(f"like: {like}\nmain: FedMMKT\n")
    with pytest.raises(BadInput, match=re.escape(said)):
        studies.load(tmp_path / "wrong.yaml")
