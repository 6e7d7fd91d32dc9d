"""Each warning is there on a run that deserves it, and on no sound one."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedloom.config import Config
from fedloom.experiment.summary import not_finite, summarise
from fedloom.metrics.labels import class_counts
from fedloom.reporting.health import RunWarning, warnings_of
from fedloom.reporting.health.bounds import beats_chance, half_width
from fedloom.reporting.html import write_report
from fedloom.reporting.text import ADVISED, MOST, warning_lines
from fedloom.results import load_run
from made_up_run import (  # type: ignore[import-not-found]
    IMAGE,
    JOINT,
    PAIR,
    SOUND,
    TEXT,
    make_run,
    row,
    with_recalls,
    with_streams,
)

Parts = dict[str, Any]
CLIENTS = {"image": IMAGE, "text": TEXT}
FEDMMKT = {"labvote": True, "gamma": 0.5, "private_steps": 10, "retrain_steps": 40}


def parts(rows: list[dict[str, Any]], clients: dict[str, Any] = CLIENTS) -> Parts:
    """Configuration, rows and summary of a run in which nothing is amiss."""
    config = {**Config().model_dump(mode="json"), "settings": FEDMMKT}
    rows = [{**r, "missing": []} for r in rows]
    return copy.deepcopy({"config": config, "rows": rows, "summary": {**SOUND, "clients": clients}})


@pytest.fixture
def sound() -> Parts:
    return parts([row(t, 0) for t in range(5)])


def names(run: Parts) -> list[str]:
    """Without what is said of every run."""
    return [w.name for w in warnings_of(**run) if w.name != "one-seed"]


def test_a_sound_run(sound: Parts) -> None:
    assert [w.name for w in warnings_of(**sound)] == ["one-seed"]
    assert "fedloom compare --methods standalone,fedmmkt --seeds 0-4" in warnings_of(**sound)[0].advice


def test_sound_runs_of_other_clients() -> None:
    pairs = parts([with_recalls(row(t, 0)) for t in range(5)], {**CLIENTS, "pair": PAIR})
    joint = parts([with_streams(row(t, 0)) for t in range(5)], {"joint": JOINT})
    for r in pairs["rows"]:
        r["tested"] |= dict.fromkeys(PAIR, 500)
    for r in joint["rows"]:
        r["tested"] = dict.fromkeys(JOINT, 400)
    assert names(pairs) == names(joint) == []


def last(run: Parts, **values: Any) -> None:
    run["rows"][-1] |= values


def everywhere(run: Parts, **values: Any) -> None:
    for r in run["rows"]:
        r |= values


def labels(run: Parts, **values: Any) -> None:
    for r in run["rows"][1:]:
        r["labels"] |= values


def at_chance(run: Parts, clients: list[str]) -> None:
    run["rows"][-1]["per_client"] |= dict.fromkeys(clients, 0.11)


def losses(run: Parts, *values: float) -> None:
    for r, value in zip(run["rows"][1:], values, strict=True):
        r["losses"] = {"clients": value}


def entropies(run: Parts, *values: float | None, fact: str = "weight_entropy") -> None:
    for r, value in zip(run["rows"][1:], values, strict=True):
        r["facts"] = {fact: value}


def absent(run: Parts) -> None:
    for t in (1, 3):
        run["rows"][t]["missing"] = [{"client": "text-1", "verb": v, "error": "timeout"} for v in ("infer", "retrain")]


def smoke(run: Parts) -> None:
    for part in ("clip", "generator"):
        run["config"]["server"][part]["steps"] = 4
    run["config"]["evaluation"]["judge"]["steps"] = 4
    run["config"]["clients"] |= {"public_steps": 2, "warm_steps": 3, "batch": 8}
    run["config"]["rounds"] = 2


ONE = [200, *[0] * 11]
CASES: dict[str, tuple[str, str, Callable[[Parts], Any]]] = {
    "judge below 0.6": (
        "judge-unreliable",
        "right on 55% of 400 real test pictures; do not trust T2I accuracy, FID",
        lambda r: r["summary"]["judge"].update(real_test_accuracy=0.55),
    ),
    "judge at chance of two classes": (
        "judge-unreliable",
        "63% of 40 real test pictures (chance)",
        lambda r: r["summary"]["judge"].update(real_test_accuracy=0.63, real_test_samples=40, chance=0.55),
    ),
    "generator": (
        "generator-at-chance",
        "9% of 144 generated pictures (chance: 8%)",
        lambda r: everywhere(r, t2i_accuracy=0.09),
    ),
    "a client": (
        "clients-at-chance",
        "1 of 5 clients no better than chance (image 10%): image-1",
        lambda r: at_chance(r, ["image-1"]),
    ),
    "all texts": ("clients-at-chance", "2 of 5", lambda r: at_chance(r, TEXT)),
    "few pictures": (
        "few-test-samples",
        "T2I accuracy ±24 points (n = 12)",
        lambda r: r["summary"]["test_sets"]["generator"].update(samples=12),
    ),
    "few texts": (
        "few-test-samples",
        "Text clients ±14 points (n = 40)",
        lambda r: [x["tested"].update(dict.fromkeys(TEXT, 40)) for x in r["rows"]],
    ),
    "clip": (
        "clip-unreliable",
        "CLIP is right on 12% of 128",
        lambda r: r["summary"]["clip"].update(real_test_accuracy=0.12),
    ),
    "accuracy fell": ("score-worse", "Text clients 0.550 to 0.480", lambda r: last(r, text_accuracy=0.48)),
    "distance rose": ("score-worse", "FID 61.00 to 70.00", lambda r: last(r, fid=70.0)),
    "nan": ("not-finite", "fid (round 2)", lambda r: r["rows"][2].update(not_finite=["fid"])),
    "nothing kept": (
        "vote-keeps-nothing",
        "no sample in 4 of 4 rounds",
        lambda r: labels(r, kept=0, kept_classes=[0] * 12),
    ),
    "all kept": (
        "vote-keeps-everything",
        "960 of 960 samples, so the filter does nothing; by the judge 71% of their labels are right",
        lambda r: labels(r, kept=240, kept_accuracy=0.71),
    ),
    "class dropped": (
        "vote-drops-class",
        "1 of 12 classes: buttercup",
        lambda r: labels(r, kept_classes=[14, 0, *[13] * 10]),
    ),
    "one class": (
        "vote-one-class",
        "61% of 984 labels by vote are poppy; 8% were drawn for it",
        lambda r: labels(r, voted_classes=[150, *[9, 8] * 5, 11]),
    ),
    "plain mean": (
        "fusion-plain-mean",
        "at least 0.9960 of the highest possible in all rounds",
        lambda r: entropies(r, 0.996, 0.9999, 1.0, 0.997),
    ),
    "undone": (
        "tuning-undone",
        "collapsed in round 2, 4, and was put back",
        lambda r: entropies(r, 0.0, 1.0, 0.0, 1.0, fact="rolled_back"),
    ),
    "smoke": (
        "too-few-steps",
        "judge 4, generator 4, CLIP 4, clients 105 (batches of 8)",
        smoke,
    ),
    "missing": ("clients-missing", "text-1 in 2 of 4 rounds", absent),
    "loss rose": ("loss-rose", "clients 1 to 1.3", lambda r: losses(r, 1.0, 0.9, 1.1, 1.3)),
    "loss flat": ("loss-flat", "clients 1", lambda r: losses(r, 1.0, 1.001, 0.999, 1.0)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_warning_is_there(sound: Parts, case: str) -> None:
    name, message, spoil = CASES[case]
    spoil(sound)
    found = [w for w in warnings_of(**sound) if w.name != "one-seed"]
    assert [w.name for w in found] == [name]
    assert message in found[0].message
    assert found[0].advice.endswith(".")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: r["summary"]["judge"].update(real_test_accuracy=0.61),
        lambda r: everywhere(r, t2i_accuracy=0.16),
        lambda r: last(r, text_accuracy=0.54),  # within the noise of 400 samples
        lambda r: last(r, fid=62.0),
        lambda r: labels(r, kept_classes=[14, 1, *[13] * 10]),
        lambda r: labels(r, voted_classes=[100, *[12, 13] * 5, 15]),
        lambda r: losses(r, 1.0, 1.2, 1.3, 1.1),
        lambda r: entropies(r, 0.996, 0.995, 1.0, 0.997),
        lambda r: entropies(r, None, None, None, None),
        lambda r: r["rows"][2].update(labels=r["rows"][2]["labels"] | {"kept": 240}),
        lambda r: (labels(r, kept=240), r["config"]["settings"].pop("labvote")),  # keeps all by design
    ],
)
def test_what_is_no_reason(sound: Parts, spoil: Callable[[Parts], Any]) -> None:
    spoil(sound)
    assert names(sound) == []


def test_a_plain_mean_is_told_what_to_set(sound: Parts) -> None:
    entropies(sound, 1.0, 1.0, 1.0, 1.0)
    sound["config"]["settings"] = FEDMMKT | {"scored": "enhanced", "contrast_temperature": 0.5}
    lower = "Lower settings.contrast_temperature, now 0.5"
    assert warnings_of(**sound)[0].advice == f"{lower}, or set settings.scored=raw."
    sound["config"]["settings"]["scored"] = "raw"
    assert warnings_of(**sound)[0].advice == f"{lower}."


def test_serious_ones_come_first(sound: Parts) -> None:
    absent(sound)
    at_chance(sound, TEXT)
    found = warnings_of(**sound)
    assert [(w.name, w.level) for w in found] == [
        ("clients-at-chance", "serious"),
        ("clients-missing", "caution"),
        ("one-seed", "caution"),
    ]
    at_chance(sound, ["image-0"])
    sound["rows"][-1]["per_client"] |= dict.fromkeys(TEXT, 0.6)
    assert warnings_of(**sound)[0].level == "caution"  # some clients of a modality only


def test_pairs_and_servers_at_chance() -> None:
    run = parts([with_recalls(row(t, 0)) for t in range(3)], {**CLIENTS, "pair": PAIR})
    for r in run["rows"]:
        r["tested"] |= dict.fromkeys(PAIR, 500)
    run["rows"][-1]["per_client"] |= {"pair-0": 0.004, "pair-1": 0.2}
    last(run, server_recall=0.008)
    run["summary"]["test_sets"]["server"] = {"samples": 500, "chance": 0.002}
    assert names(run) == ["server-at-chance", "clients-at-chance", "score-worse"]
    joint = parts([with_streams(row(t, 0)) for t in range(3)], {"joint": JOINT})
    last(joint, server_accuracy=0.12)
    assert "Shared model: right on 12% of 400 test samples" in warnings_of(**joint)[0].message


def test_an_imbalanced_test_set(sound: Parts) -> None:
    """Chance is the share of the commonest class, not one of the number of classes."""
    sound["summary"]["test_sets"]["text"] |= {"classes": 2, "chance": 0.7}
    assert names(sound) == ["clients-at-chance"]


def test_chance_is_a_matter_of_samples() -> None:
    assert beats_chance(0.2, 400, 0.1)
    assert not beats_chance(0.2, 20, 0.1)
    assert not beats_chance(0.0, 20, 0.1)
    assert not beats_chance(1.0, 20, 1.0)
    # P(X >= 6 | 20, 0.1) = 0.0113, P(X >= 7) = 0.0024
    assert [beats_chance(hits / 20, 20, 0.1) for hits in (6, 7)] == [False, True]
    assert half_width(0.5, 93) < 0.1 < half_width(0.5, 90)
    assert half_width(1.0, 10) == pytest.approx(0.139, abs=1e-3)  # Wilson's: not 0


@pytest.mark.parametrize("what", ["summary", "rows", "all"])
def test_folders_that_lack_things(sound: Parts, what: str) -> None:
    """Of old, unfinished or half-broken runs nothing is claimed that they do not tell."""
    if what in ("summary", "all"):
        sound["summary"] = {}
    if what in ("rows", "all"):
        sound["rows"] = [
            {"round": 0, "labels": 3, "missing": None, "per_client": [1], "losses": "x"},
            None,
            7,
        ]
    if what == "all":
        sound["config"] = {"settings": 3, "clients": "many", "method": {}}
    assert names(sound) == []
    assert warnings_of({}, [], {}) == []


OLD_ROW, OLD_LABELS = ("tested",), ("drawn_classes", "voted_classes", "kept_classes")


def test_an_old_run_folder_is_reported(tmp_path: Path) -> None:
    """Written before any of the facts for warnings were: what it tells is enough for some of them."""
    folder = make_run(tmp_path / "old")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for r in rows:
        r.pop("tested")
        for key in OLD_LABELS:
            (r["labels"] or {}).pop(key, None)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    summary = json.loads((folder / "summary.json").read_text())
    for key in ("class_names", "test_sets", "clip"):
        del summary[key]
    summary["judge"] = {"real_test_accuracy": 0.4}
    (folder / "summary.json").write_text(json.dumps(summary))
    assert [w.name for w in load_run(folder).warnings] == ["judge-unreliable", "clients-missing", "one-seed"]
    page = write_report([folder]).read_text()
    assert "judge-unreliable" in page
    assert "right on 40% of the real test pictures" in page


def test_the_summary_holds_them() -> None:
    rows = [row(t, 0) for t in range(3)]
    rows[2]["fid"] = float("nan")
    rows[2]["losses"] = {"generator": float("inf")}
    rows[2]["not_finite"] = not_finite(rows[2])
    assert rows[2]["not_finite"] == ["fid", "loss of generator"]
    found = summarise(Config(), CLIENTS, rows, {"setup": 1.0, "total": 9.0}, SOUND)
    told = {w["name"]: w for w in found["warnings"]}
    assert set(told) == {"not-finite", "clients-missing", "one-seed"}
    assert told["not-finite"]["message"] == "NaN or infinite: fid (round 2), loss of generator (round 2)"
    assert set(told["one-seed"]) == {"name", "level", "message", "advice"}


def test_hostile_warnings_stay_text(tmp_path: Path, run_path: Path) -> None:
    folder = shutil.copytree(run_path, tmp_path / "a")
    (folder / "metrics.jsonl").write_text((folder / "metrics.jsonl").read_text().replace("image-2", "<b>[red]"))
    assert "did not answer: &lt;b&gt;[red]" in write_report([folder]).read_text()


def test_few_lines_on_the_terminal() -> None:
    assert warning_lines([]) == []
    many = [RunWarning(f"w-{i}", "found", "Do it.", "serious") for i in range(MOST + 2)]
    few = [line.plain for line in warning_lines(many[:ADVISED])]
    assert few == ["Before you trust these scores:", *(f"  w-{i}: found. Do it." for i in range(ADVISED))]
    lines = [line.plain for line in warning_lines(many)]
    assert lines[MOST:] == [f"  w-{MOST - 1}: found", f"  and w-{MOST}, w-{MOST + 1}", lines[-1]]
    assert "in the report" in lines[-1]


def test_classes_are_counted() -> None:
    found = class_counts([0, 0, 2, 2], [0, 2, 2, -1], [True, False, True, False], 3)
    assert found == {"drawn_classes": [2, 0, 2], "voted_classes": [1, 0, 2], "kept_classes": [1, 0, 1]}
