"""What a comparison consists of, and what it refuses."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from fedloom.comparison.cells import check_data, fitting_scores, make_cells, merged
from fedloom.comparison.plan import DEFAULT_SCORES, JOINT_SCORES, ComparisonPlan, comparisons, read_plan
from fedloom.comparison.pool import unique
from fedloom.comparison.session import _name_of
from fedloom.config.trees import validate
from fedloom.errors import BadInput
from fedloom.reporting.scores import SCORES

ROWS = [{"method": "standalone"}, {"name": "MD", "method": "fedmd", "set": {"rounds": 3}}]


def plan(**changes) -> ComparisonPlan:
    return validate(ComparisonPlan, {"rows": ROWS, **changes})


def test_rows_are_named_after_their_methods():
    assert [row.name for row in plan().rows] == ["standalone", "MD"]


def test_later_trees_win():
    """Defaults < base < column < row < values < overrides."""
    made = plan(
        base={"rounds": 1, "clients": {"warm_steps": 1, "batch": 1}, "data": {"alpha": 9.0}},
        columns=[{"name": "c", "set": {"rounds": 2, "clients": {"batch": 2}, "data": {"minimum": 1}}}],
    )
    alone, md = make_cells(made, {"clients": {"decay": 0.5}}, ["clients.rate=1e-3", "data.minimum=2"])
    assert (alone.config.rounds, md.config.rounds) == (2, 3)
    c = alone.config.clients
    assert (c.warm_steps, c.batch, c.decay, c.rate, c.augment) == (1, 2, 0.5, 1e-3, True)
    assert (alone.config.data.alpha, alone.config.data.minimum) == (9.0, 2)
    engine = alone.config.engine
    assert (engine.name, engine.workers, engine.threads) == ("local", 0, 1)


JOINT = {
    "clients": {"image": [], "text": [], "joint": [{"arch": "audio-resnet+resnet"}]},
    "data": {"name": "duet"},
}


def test_scores_fit_the_clients():
    """Where all clients are joint, and nobody chose the scores, theirs stand in the place of the usual ones."""
    rows = [{"method": "standalone"}, {"method": "fedcmi"}]
    target = {"score": "audio_own", "value": 0.5}
    for base, changes, expected in (
        ({}, {}, DEFAULT_SCORES),
        (JOINT, {}, JOINT_SCORES),
        (JOINT, {"target": target}, (*JOINT_SCORES, "rounds_to_target")),
        (JOINT, {"scores": ["text_accuracy"]}, ("text_accuracy",)),
    ):
        made = plan(rows=rows[: 1 + bool(base)], base=base, **changes)
        assert fitting_scores(made, make_cells(made, {}, ())) == expected
    both = plan(rows=rows[:1], columns=[{"name": "a"}, {"name": "b", "set": JOINT}])
    assert fitting_scores(both, make_cells(both, {}, ())) == DEFAULT_SCORES


def test_a_plan_may_name_any_score():
    assert len(plan(scores=[s.key for s in SCORES], target={"score": "text_probe", "value": 1}).scores) > 20


def test_merged_keeps_what_lies_below():
    below = {"a": {"b": 1, "c": [1, 2]}}
    assert merged(below, {"a": {"c": []}, "d": 2}) == {"a": {"b": 1, "c": []}, "d": 2}
    assert below == {"a": {"b": 1, "c": [1, 2]}}


def test_only_keeps_a_row_out_of_other_columns():
    rows = [ROWS[0], {**ROWS[1], "only": ["b"]}]
    cells = make_cells(plan(rows=rows, columns=[{"name": "a"}, {"name": "b"}], seeds=[4, 2]), {}, ())
    assert [(c.row, c.column, c.seed) for c in cells] == [
        *[("standalone", "a", 4), ("standalone", "b", 4), ("MD", "b", 4)],
        *[("standalone", "a", 2), ("standalone", "b", 2), ("MD", "b", 2)],
    ]
    assert cells[2].label == "MD, b, seed 4"


def test_identical_configurations_share_a_folder():
    rows = [{"method": "fedmd"}, {"name": "again", "method": "fedmd"}, {"name": "a", "method": "standalone"}]
    cells = make_cells(plan(rows=rows), {}, ())
    assert cells[0].folder == cells[1].folder != cells[2].folder
    assert [c.row for c in unique(cells)] == ["fedmd", "a"]
    head, _, digest = cells[0].folder.rpartition("-")
    assert head == "fedmd-flora-0"
    assert len(digest) == 8
    assert make_cells(plan(rows=rows), {}, ["clients.batch=7"])[0].folder != cells[0].folder


def test_a_method_whose_code_has_changed_has_another_folder(tmp_path):
    """What was done with the old code is not taken for what the new code does."""
    own = tmp_path / "own.py"
    own.write_text(Path("examples/write_a_method.py").read_text())
    rows = [{"method": f"{own}:METHOD"}]
    (before,) = make_cells(plan(rows=rows), {}, ())
    assert make_cells(plan(rows=rows), {}, ())[0].folder == before.folder
    own.write_text(own.read_text() + "\n# other\n")
    assert make_cells(plan(rows=rows), {}, ())[0].folder != before.folder


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rows": [{"method": "standalon"}]}, ["method 'standalon'", "Did you mean 'standalone'?", "fedmd"]),
        ({"rows": []}, ["there is no row"]),
        ({"rows": [ROWS[0], ROWS[0]]}, ["row 'standalone' is given twice"]),
        ({"rows": [{**ROWS[0], "ony": ["a"]}]}, ["'rows.0.ony'", "Did you mean 'rows.0.only'?"]),
        ({"rows": [{**ROWS[0], "only": ["z"]}], "columns": [{"name": "a"}]}, ["column 'z'", "Allowed: a"]),
        ({"columns": [{"name": "a"}, {}]}, ["a column has no name"]),
        ({"seeds": [0, 1, 0]}, ["seed 0 is given twice"]),
        ({"seeds": [-1]}, ["seeds.0 = -1: allowed: 0 or more"]),
        ({"seeds": [0, 2**53]}, [f"seeds.1 = {2**53}: allowed: below {2**53}"]),
        ({"seeds": list(range(1001))}, ["1,001 seeds: allowed are at most 1,000"]),
        ({"seeds": []}, ["there is no seed"]),
        ({"scores": ["image_acuracy"]}, ["'image_acuracy'", "Did you mean 'image_accuracy'?"]),
        ({"scores": ["rounds_to_target"]}, ["rounds_to_target needs a target"]),
        ({"target": {"score": "bytes_up", "value": 1}}, ["unknown score 'bytes_up'", "server_recall"]),
        ({"target": {"score": "image_accuracy", "value": math.nan}}, ["target.value = nan: expected a finite number"]),
        ({"reference": "md"}, ["row 'md'", "Allowed: standalone, MD"]),
        ({"base": {"engine": {"workers": 2}}}, ["base.engine cannot be set"]),
        ({"rows": [{**ROWS[0], "set": {"seed": 1}}]}, ["rows.standalone.set.seed cannot be set"]),
    ],
)
def test_plans_that_are_refused(changes, told):
    with pytest.raises(BadInput) as error:
        plan(**changes)
    for text in told:
        assert text in str(error.value)
    assert "\n" not in str(error.value)


def test_a_row_called_as_a_built_in_method(tmp_path):
    own = tmp_path / "own.py"
    own.write_text(Path("examples/write_a_method.py").read_text().replace('"prototypes"', '"fedmmkt"'))
    with pytest.raises(
        BadInput, match=r"own\.py:METHOD': its name 'fedmmkt' is one of fedloom's own; give it another$"
    ):
        read_plan(methods=[f"{own}:METHOD", "fedmmkt"])


@pytest.mark.parametrize(
    ("values", "overrides", "told"),
    [
        ({}, ["clients.bach=3"], ["row 'standalone'", "'clients.bach'", "Did you mean 'clients.batch'?"]),
        ({}, ["settings.sampels=3"], ["row 'standalone'", "settings"]),
        ({"data": {"name": "flra"}}, [], ["'flra'", "Did you mean 'flora'?"]),
        ({"data": {"name": "food101"}}, [], ["needs root"]),
        ({}, ["engine.workers=3"], ["engine cannot be set"]),
        ({}, ["seed=3"], ["seed cannot be set"]),
    ],
)
def test_cells_that_are_refused(values, overrides, told):
    with pytest.raises(BadInput) as error:
        make_cells(plan(), values, overrides)
    for text in told:
        assert text in str(error.value)


def test_data_is_looked_at_before_anything_runs():
    tree = {"data": {"options": {"images": 12, "texts": 12, "test": 10, "generic": 10, "reference": 10}}}
    cells = make_cells(plan(columns=[{"name": "few", "set": tree}]), {}, ["data.minimum=13"])
    with pytest.raises(BadInput, match=r"standalone, few, seed 0: image clients: 12 samples cannot give"):
        check_data(cells)


def test_a_preset_restricted_to_rows():
    whole = read_plan(preset="smoke")
    assert [row.name for row in whole.rows] == ["Standalone", "FedMD"]
    assert whole.reference == "Standalone"
    by_name, by_method = (
        read_plan(preset="smoke", methods=["FedMD"]),
        read_plan(preset="smoke", methods=["fedmd"]),
    )
    assert by_name == by_method
    assert [row.name for row in by_name.rows] == ["FedMD"]
    assert by_name.reference is None
    assert read_plan(preset="smoke", reference="fedmd").reference == "FedMD"
    assert read_plan(preset="smoke", seeds=[3, 4]).seeds == (3, 4)
    with pytest.raises(BadInput, match="unknown row 'fedavg'"):
        read_plan(preset="smoke", methods=["fedavg"])
    with pytest.raises(BadInput, match=r"unknown comparison 'smok'\. Did you mean 'smoke'"):
        read_plan(preset="smok")
    with pytest.raises(BadInput, match="nothing to compare"):
        read_plan()


def test_a_plan_like_another(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("like: smoke\ntitle: Mine\nbase: {rounds: 1, clients: {batch: 4}}\n")
    made, smoke = read_plan(file=mine), read_plan(preset="smoke")
    assert (made.title, made.rows, made.reference) == ("Mine", smoke.rows, smoke.reference)
    assert made.base["rounds"] == 1
    assert made.base["clients"] == {**smoke.base["clients"], "batch": 4}
    mine.write_text("like: no-such\n")
    with pytest.raises(BadInput, match="no-such"):
        read_plan(file=mine)


def test_variables_of_the_environment(tmp_path, monkeypatch):
    mine = tmp_path / "mine.yaml"
    mine.write_text("note: $STAYS\nbase: {data: {name: folder, root: $MY_DATA/train}}\nrows: [{method: fedmd}]\n")
    monkeypatch.delenv("MY_DATA", raising=False)
    with pytest.raises(BadInput, match=r"mine.yaml: '\$MY_DATA/train' needs \$MY_DATA, which is not set"):
        read_plan(file=mine)
    monkeypatch.setenv("MY_DATA", "/there")
    made = read_plan(file=mine)
    assert made.base["data"]["root"] == "/there/train"
    assert made.note == "$STAYS"


def test_a_pretraining_for_each_seed():
    rows = [{"method": "standalone"}]
    one, each = (
        validate(ComparisonPlan, {"rows": rows, "seeds": [3, 5], "pretraining": how}) for how in ("one", "each seed")
    )
    assert [c.config.server.seed for c in make_cells(one, {}, ())] == [0, 0]
    assert [c.config.server.seed for c in make_cells(each, {}, ())] == [3, 5]


@pytest.mark.parametrize("name", comparisons())
def test_every_preset_is_sound(name, monkeypatch, tmp_path):
    for variable in (
        *("FOOD101_RECIPES", "MOBILENET", "AG_NEWS"),
        *("FLICKR8K", "COCO_MINI", "AUDIO_VISUAL_DIGITS"),
    ):
        monkeypatch.setenv(variable, str(tmp_path))
    made = read_plan(preset=name)
    assert made.title
    assert make_cells(made, {}, ())


def test_a_target():
    made = plan(scores=["server_recall"], target={"score": "server_recall", "value": 0.5})
    assert made.scores == ("server_recall", "rounds_to_target")
    assert validate(ComparisonPlan, made.model_dump(mode="json")) == made
    assert plan().scores == ("image_accuracy", "text_accuracy", "t2i_accuracy")


PLAN = {"title": "Mine", "seeds": [3], "base": {"rounds": 1, "clients.batch": 4}, "rows": ROWS}


def test_a_plan_is_a_file_or_a_mapping(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump(PLAN))
    made = read_plan(file=PLAN)
    assert made == read_plan(file=mine)
    assert (made.base, made.seeds) == ({"rounds": 1, "clients": {"batch": 4}}, (3,))
    assert PLAN["base"] == {"rounds": 1, "clients.batch": 4}
    like = read_plan(file={"like": "smoke", "title": "Mine", "base.rounds": 1}, methods=["fedmd"], seeds=[7])
    assert (like.title, like.base["rounds"], like.seeds, [r.name for r in like.rows]) == (
        "Mine",
        1,
        (7,),
        ["FedMD"],
    )


@pytest.mark.parametrize("as_file", [True, False])
def test_methods_over_a_runs_configuration(tmp_path, as_file):
    """Its settings stay with the method that they are for; method, seed and engine are the comparison's own."""
    tree = {
        "method": "fedmmkt",
        "seed": 4,
        "rounds": 2,
        "engine": {"workers": 2},
        "settings": {"gamma": 0.4},
        "data": {"alpha": 0.1},
    }
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump(tree))
    source = mine if as_file else tree
    made = read_plan(file=source, methods=["fedmmkt", "standalone"], reference="standalone")
    first, second = make_cells(made, {}, ())
    assert (first.config.settings["gamma"], first.config.rounds, first.config.data.alpha) == (0.4, 2, 0.1)
    assert (second.config.method, second.config.rounds, second.config.seed) == ("standalone", 2, 4)
    assert first.config.engine.workers == 0
    assert read_plan(file=source, methods=["fedmd"], seeds=[0, 1]).seeds == (0, 1)
    assert read_plan(file={"base": {"rounds": 7}}, methods=["fedmd"]).rows[0].method == "fedmd"
    with pytest.raises(BadInput, match="it has no rows, only a run's configuration: name the methods"):
        read_plan(file=source)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "rows: [{method: fedmd}]\nseeds: [0]\nrows: []",
            "the key 'rows' is given twice, in line 1 and in line 3",
        ),
        (
            "rows:\n- {method: fedmd,\n   method: fedavg}",
            "the key 'method' is given twice, in line 2 and in line 3",
        ),
        ("rows:\n- {methd: fedmd}", "mine.yaml, line 2: unknown key 'rows.0.methd'"),
        (
            "rows: [{method: fedmd}]\nbase:\n  clients.bach: 3",
            "mine.yaml, line 3: unknown key 'clients.bach'",
        ),
        ("rows: [{method: fedmd}]\nseed: 3", "unknown key 'seed'. Did you mean 'seeds'?"),
        ("- fedmd", "mine.yaml: holds a list, expected keys and values"),
    ],
)
def test_plan_files_that_are_refused(tmp_path, text, told):
    mine = tmp_path / "mine.yaml"
    mine.write_text(text)
    with pytest.raises(BadInput) as error:
        make_cells(read_plan(file=mine), {}, ())
    assert told in str(error.value)


def test_dotted_keys_over_a_plan():
    (cell, _) = make_cells(plan(base={"clients": {"batch": 4}}), {"clients.batch": 5, "clients": {"rate": 0.5}}, ())
    assert (cell.config.clients.batch, cell.config.clients.rate) == (5, 0.5)


def test_what_a_comparison_of_a_mapping_is_called():
    assert _name_of(None, plan()) == "methods"
    assert _name_of({}, plan(title="Who needs both?")) == "who-needs-both"
    assert _name_of({}, plan()) == "plan"
    assert _name_of("a/mine.yaml", plan()) == "mine"
