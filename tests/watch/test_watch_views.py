"""What the live page is told of a folder: a run as it goes on, runs, comparisons, federations."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from long_run import LongRun  # type: ignore[import-not-found]

from fedloom.errors import BadInput
from fedloom.runs.disk import append_line, json_text, read_lines
from fedloom.runs.shapes import RoundRow
from fedloom.watch.files import GrowingLines
from fedloom.watch.places import Places
from made_up_run import make_run, row  # type: ignore[import-not-found]


def state(places: Places, at: str = "") -> dict[str, Any]:
    text = places.state(at)
    assert text is not None
    return dict(json.loads(text))


def part(view: dict[str, Any], title: str) -> dict[str, Any]:
    return next(one for one in view["sections"] if one["title"] == title)


def test_a_run_as_it_goes_on(tmp_path):
    run = LongRun(tmp_path / "run", rounds=3, done=1)
    places = Places(run.path)
    with run.at_work():
        view = state(places)
        assert (view["title"], view["state"]) == ("fedmmkt on flora, seed 0", "running")
        assert view["progress"] | {"since": 0} == {"done": 1, "planned": 3, "each": 20.2, "since": 0}
        assert places.state("") == places.state("")
        run.go_on()
        view = state(places)
    assert view["progress"]["done"] == 2
    assert view["cards"][0] | {"note": ""} == {
        "name": "Image clients", "note": "", "before": "0.420", "after": "0.560", "change": "▲ +0.140", "better": "up",
        "curve": [0.42, 0.51024, 0.55976],
    }  # fmt: skip
    curves = part(view, "Over the rounds")["charts"]
    assert [line["name"] for line in curves[0]["lines"]] == ["image-0", "image-1", "image-2", "mean"]
    assert curves[0]["lines"][-1]["x"] == [0, 1, 2]
    assert state(places)["state"] == "stopped"
    assert "fedloom run --resume" in state(places)["facts"][-1]


def test_a_damaged_line_is_named_as_the_report_names_it(tmp_path):
    """By its number in the file, however much of it was read before; whole lines are taken once."""
    file, rows = tmp_path / "metrics.jsonl", []
    file.write_text('{"round": 0}\n{"round": 1}\n')
    growing = GrowingLines(file, RoundRow, rows.append)
    growing.read(rows.clear)
    with file.open("a") as more:
        more.write('{"round": 2}\n{"round": \n')
    for _ in range(2):
        with pytest.raises(BadInput) as watched:
            growing.read(rows.clear)
    with pytest.raises(BadInput) as reported:
        read_lines(file, RoundRow)
    assert str(watched.value) == str(reported.value)
    assert "metrics.jsonl, line 4: not JSON" in str(reported.value)
    assert [each["round"] for each in rows] == [0, 1, 2]


def test_who_answered_and_how_long_it_took(tmp_path):
    run = LongRun(tmp_path / "run", rounds=3, done=2)
    rows = {r[0]: r for r in part(state(Places(run.path)), "Clients")["table"]["rows"]}
    assert rows["text-0"][3:] == [{"text": "answered", "css": "up"}, "1.1 s", "1.1 s", "7.29 kB", "197 kB"]
    assert rows["image-2"][3] == {"text": "no: timeout", "css": "down"}
    view = state(Places(run.path))
    assert part(view, "Clients")["note"] == "Not heard in the last round: image-2."
    assert part(view, "Answers that did not come")["table"]["rows"] == [
        ["2", "image-2", "infer", "timeout", "no answer in 30 s"]
    ]
    by_client = part(view, "Time")["charts"][1]
    assert by_client["lines"][0] | {"colour": ""} == {
        "name": "image-0", "colour": "", "thin": False, "x": [1, 2], "y": [1.2, 1.2],
    }  # fmt: skip


def test_a_run_that_is_rewound_is_read_again(tmp_path):
    run = LongRun(tmp_path / "run", rounds=9, done=5)
    places = Places(run.path)
    assert state(places)["progress"]["done"] == 5
    run.folder.rewind(3)
    view = state(places)
    assert view["progress"]["done"] == 3
    assert part(view, "What crossed the wire")["charts"][0]["lines"][0]["x"] == [1, 2, 3]
    assert part(view, "Time")["charts"][1]["lines"][0]["x"] == [1, 2, 3]


def test_a_line_that_is_being_written_waits(tmp_path):
    run = LongRun(tmp_path / "run", rounds=9, done=1)
    places = Places(run.path)
    text = json.dumps(row(2, 0))
    with run.folder.metrics.open("a") as file:
        file.write(text[:50])
        file.flush()
        assert state(places)["progress"]["done"] == 1
        file.write(text[50:] + "\n")
    assert state(places)["progress"]["done"] == 2


def test_a_run_before_its_first_round(tmp_path):
    run = LongRun(tmp_path / "run", done=-1)
    run.folder.log("learned first: clip")
    with run.at_work():
        view = state(Places(run.path))
    assert (view["progress"], view["cards"], view["alerts"]) == ({"done": None, "planned": 100}, [], [])
    assert "learned first: clip" in part(view, "Log")["lines"][0]


def test_pictures_and_what_the_vote_did(tmp_path):
    run = LongRun(tmp_path / "run", done=2, pictures=True)
    rounds = part(state(Places(run.path)), "Pictures")["pictures"]
    assert [(one["round"], "labels" in one) for one in rounds] == [(0, False), (1, True), (2, True)]
    assert rounds[2]["says"].startswith("165 of 240 pictures kept; 74% of the prompts and 84% of the votes name what")


def test_a_finished_run_and_its_warnings(tmp_path):
    view = state(Places(make_run(tmp_path / "run")))
    assert view["state"] == "finished"
    assert {"name", "level", "message", "advice"} == set(view["alerts"][0])
    assert "one-seed" in {one["name"] for one in view["alerts"]}
    for kind in ({"pairs": True}, {"joint": True}):
        assert state(Places(make_run(tmp_path / next(iter(kind)), **kind)))["cards"]


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("metrics.jsonl", '{"round": "<b>"}\n', "round"),
        ("summary.json", "{", "not JSON"),
        ("ledger.jsonl", "[]\n", "expected an object"),
        ("config.yaml", "a: [", "config.yaml"),
    ],
)
def test_a_damaged_file_is_told_and_the_page_goes_on(tmp_path, file, text, told):
    run = LongRun(tmp_path / "run", done=1)
    places = Places(run.path)
    whole = (run.path / file).read_text() if (run.path / file).exists() else None
    (run.path / file).write_text(text)
    view = state(places)
    assert view["state"] == "unreadable"
    assert told in view["facts"][0]
    if whole is None:
        (run.path / file).unlink()
    else:
        (run.path / file).write_text(whole)
    assert state(places)["progress"]["done"] == 1
    shutil.rmtree(run.path)
    assert state(places)["state"] == "gone"


def test_texts_are_texts(tmp_path):
    run = LongRun(tmp_path / "run", done=1)
    evil = {**row(2, 0), "per_client": {"<img src=x onerror=alert(1)>": 0.5}}
    append_line(run.folder.metrics, json.dumps(evil))
    names = [r[0] for r in part(state(Places(run.path)), "Clients")["table"]["rows"]]
    assert "<img src=x onerror=alert(1)>" in names  # as JSON; the page puts it in as text


def test_the_runs_of_a_folder(tmp_path):
    LongRun(tmp_path / "a", rounds=3, done=1)
    b = LongRun(tmp_path / "b", rounds=3, done=2)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.yaml").write_text("a: [")
    (tmp_path / "compared").mkdir()
    (tmp_path / "compared" / "plan.json").write_text("{}")
    places = Places(tmp_path)
    with b.at_work():
        view = state(places)
    rows = {r[0]["text"]: r for r in part(view, "Runs")["table"]["rows"]}
    assert rows["a"][1:6] == ["fedmmkt", "flora", "0", "1/3", "unfinished"]
    assert rows["b"][0] == {"text": "b", "at": "b"}
    assert rows["b"][5] == {"text": "running", "css": "up"}
    assert part(view, "Not listed")["lines"][0].startswith("broken: ")
    assert part(view, "Comparisons and federations")["table"]["rows"] == [
        [{"text": "compared", "at": "compared"}, "comparison"]
    ]
    b.go_on()
    assert {r[0]["text"]: r[4] for r in part(state(places), "Runs")["table"]["rows"]} == {"a": "1/3", "b": "3/3"}
    assert state(places, "b")["progress"]["done"] == 3
    assert state(places, "compared")["state"] == "unreadable"


def test_a_folder_without_runs(tmp_path):
    assert state(Places(tmp_path))["facts"] == ["0 runs", "fedloom run starts one"]


# ------------------------------------------------------------------------------------------------ federations


class OneServer:
    """In place of `superlink.Host`: a server that is up, or not."""

    up = True
    states: dict[str, str]

    def __init__(self, pki: Path) -> None:
        self.address, self.pki = "127.0.0.1:9092", pki

    def silos(self) -> list[dict[str, Any]]:
        return [{"name": name, "node": name, "state": told} for name, told in self.states.items()]

    def __enter__(self) -> OneServer:
        return self

    def __exit__(self, *error: object) -> None:
        return None


def test_a_federation(tmp_path, monkeypatch):
    from fedloom.errors import BadInput
    from fedloom.watch import federation_watch
    from fedloom.watch.federation_watch import FederationWatch

    server = tmp_path / "server"
    for name in ("jobs", "logs", "runs"):
        (server / name).mkdir(parents=True)
    (server / "nodes.json").write_text(json_text({"hospital-a": {"key": "k", "node": "17"}}))
    (server / "logs" / "superlink.log").write_text("[Fleet.ActivateNode] Activated node_id=17\n")
    run = LongRun(server / "runs" / "one", rounds=3, done=1)
    (server / "jobs" / "3f2a.json").write_text(
        json_text({"id": "3f2a", "flower": "1", "out": str(run.path), "resume": None})
    )
    host, end = OneServer(tmp_path / "pki"), ["the kit of hospital-a ends in 3 days"]
    host.states = {"hospital-a": "online", "archive-c": "offline"}
    monkeypatch.setattr(federation_watch.Host, "attach", lambda folder: host)
    monkeypatch.setattr(federation_watch, "of_server", lambda folder: end)
    who = FederationWatch(server)
    monkeypatch.setattr(who, "_ask", lambda: None)  # the thread; asked here by hand
    before = who.mark()
    who._take(host.address, host.silos(), end)
    assert who.mark() != before
    view = who.view()
    assert (view["state"], view["facts"]) == ("up", ["1 of 2 silos are up", "server 127.0.0.1:9092"])
    rows = part(view, "Silos")["table"]["rows"]
    assert [(r[0], r[1]) for r in rows] == [
        ("hospital-a", {"text": "online", "css": "up"}), ("archive-c", {"text": "offline", "css": "down"})
    ]  # fmt: skip
    assert view["alerts"][0]["message"] == end[0]
    assert part(view, "Who came and left")["lines"] == ["silo hospital-a connected"]
    assert part(view, "Runs")["table"]["rows"] == [["3f2a", "waiting", "", {"text": "one", "at": "runs/one"}, ""]]
    same = who.mark()
    who._take(host.address, host.silos(), end)
    assert who.mark() == same
    (server / "logs" / "superlink.log").open("a").write("[Fleet.DeactivateNode] Deactivated node_id=17\n")
    who._take(host.address, host.silos(), end)
    assert part(who.view(), "Who came and left")["lines"][1].endswith("silo hospital-a left")
    who._lose(str(BadInput("the server is not up")))
    view = who.view()
    assert (view["state"], view["facts"][-1]) == ("down", "the server is not up")
    assert part(view, "Silos")["table"]["rows"] == [["hospital-a", "unknown", ""]]
    assert state(Places(server), "runs/one")["progress"]["done"] == 1
