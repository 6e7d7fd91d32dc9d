from __future__ import annotations

import base64
import json
import re
import shutil
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest
import yaml
from PIL import Image
from rich.console import Console

from fedloom.config import Config
from fedloom.errors import BadInput, FedloomError
from fedloom.experiment.summary import summarise
from fedloom.formatting import byte_text, second_text
from fedloom.reporting.html import write_report
from fedloom.reporting.ledger import flows, total
from fedloom.reporting.plots import COLOURS
from fedloom.reporting.scores import KIND_SCORES, SCORES, Score, client_score, end_of
from fedloom.reporting.sections import retrieval
from fedloom.reporting.text import ledger_table, summary_table
from fedloom.results import load_run
from made_up_run import IMAGE, PAIR, TEXT, make_run, row, with_recalls  # type: ignore[import-not-found]


class Page(HTMLParser):
    """Tags and text of a page; checks that tags close in order."""

    VOID = frozenset({"meta", "img", "br", "circle", "polyline"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def check_self_contained(page: Page) -> None:
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form"}
        assert not any(name.startswith("on") for name in attributes)
        if "href" in attributes:  # within the page, or to a file of the run
            assert tag == "a"
            assert re.fullmatch(r"#s\d+|(?!/)[\w./%-]+", attributes["href"] or "")
        assert "srcset" not in attributes
        source = attributes.get("src")
        if source is not None:
            assert source.startswith("data:image/png;base64,")
            with Image.open(BytesIO(base64.b64decode(source.partition(",")[2]))) as picture:
                assert picture.width > 20
                assert picture.height > 20


def test_the_report_of_a_run_is_one_page_that_needs_nothing_else(run_path: Path, tmp_path: Path) -> None:
    out = write_report([run_path], tmp_path / "deep" / "r.html")
    page = read(out)
    check_self_contained(page)
    source = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", out.read_text())
    assert "url(" not in source
    assert "@import" not in source
    assert "http" not in source
    assert sum(tag == "img" for tag, _ in page.tags) == 2 + 5 + 1 + 1 + 2 + 1 + 1 + 1
    for expected in (
        "fedmmkt on flora, seed 0",
        "finished",
        "0.602",
        "from 0.420",
        "▲ +0.182",
        "▼ −18.19",
        "Round 0 (before)",
        "Round 4",
        "Clients that did not answer",
        "image-2",
        "no answer in 30 s",
        "representations",
        "(64, 32)",
        "not counted",
        "1.017",
        "Peak memory 1.23 GB. cuda:0: 9.88 GB.",
        "97.3% of real",
        "Before you trust these scores",
        "clients-missing clients did not answer: image-2 in 1 of 4 rounds",
        "one-seed",
        "fedloom run --config",
        "quorum: 3",
        "Time",
        "Class by class, after round 4",
        "The worst class",
        "What the method reports",
        "Entropy of the fusion weights 0.940",
    ):
        assert expected in page.text, expected


def test_by_default_the_page_lies_in_the_run(tmp_path: Path, run_path: Path) -> None:
    copy = shutil.copytree(run_path, tmp_path / "a")
    assert load_run(copy).report() == copy / "report.html"


def test_an_unfinished_run_and_one_without_texts(tmp_path: Path) -> None:
    page = read(write_report([make_run(tmp_path / "a", 1, text=False, finished=False)]))
    check_self_contained(page)
    assert "unfinished" in page.text
    assert "2 of 4 rounds" in page.text
    assert "Not measured in this run: Text clients." in page.text
    assert "text-0" not in page.text


def test_a_bare_run_gives_a_page(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.yaml").write_text("method: fedmmkt\ndata: {name: flora}\n")
    page = read(write_report([tmp_path / "a"]))
    assert "fedmmkt on flora" in page.text
    assert "0 rounds" in page.text


def test_several_runs_are_compared(run_path: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "b", 1)
    rows = [json.loads(line) for line in (other / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["round"] == 0
    summary = json.loads((other / "summary.json").read_text())
    summary["image_accuracy"]["after"] = 0.7
    (other / "summary.json").write_text(json.dumps(summary))
    out = write_report([run_path, other], tmp_path / "c.html")
    page = read(out)
    check_self_contained(page)
    assert "2 runs compared" in page.text
    assert "seed 1" in page.text
    assert "0.700<br>" in out.read_text()  # not bold: one run is no evidence
    assert "0.651 ± 0.069" in page.text  # mean and deviation over the two seeds


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "config.yaml").write_text("{method: fedmmkt, data: flora, seed: 1}")
    page = read(write_report([tmp_path / "b", tmp_path / "b"]))
    assert "fedmmkt on flora, seed 1 (b) #2" in page.text
    assert (tmp_path / "comparison.html").exists()


HOSTILE = '<script>alert(1)</script>"><img src=http://evil onerror=x> $\\frac{$ [red]{{x}} $title'


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", 0)
    for name in ("metrics.jsonl", "ledger.jsonl", "summary.json", "split.json", "environment.json"):
        text = (folder / name).read_text()
        bad = json.dumps(HOSTILE)[1:-1]
        for word in ("image-0", "poppy", "fedmmkt", "timeout", "representations", "Opinion", "synthesis"):
            text = re.sub(rf'"{word}"', lambda m, bad=bad: f'"{bad}"', text)
        (folder / name).write_text(text)
    (folder / "config.yaml").write_text(yaml.safe_dump({"method": HOSTILE, HOSTILE: [HOSTILE], "rounds": "many"}))
    page = read(write_report([folder]))
    check_self_contained(page)
    assert "<script>alert(1)</script>" in page.text
    assert "$title" in page.text
    run = load_run(folder)
    console = Console(width=400, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(ledger_table(run.ledger))
    console.print(summary_table(run.summary))
    assert "[red]{{x}}" in console.export_text()


def test_broken_files_are_named(tmp_path: Path, run_path: Path) -> None:
    with pytest.raises(BadInput, match="at least one"):
        write_report([])
    with pytest.raises(BadInput, match="no such folder"):
        write_report([tmp_path / "none"])
    folder = shutil.copytree(run_path, tmp_path / "a")
    (folder / "samples" / "round_0004.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    assert "round_0004.png cannot be read" in read(write_report([folder])).text
    (folder / "summary.json").write_text("{")
    with pytest.raises(FedloomError, match=r"summary\.json"):
        write_report([folder])


def text_of(table: object) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table)
    return console.export_text()


def test_the_summary_table(run_path: Path) -> None:
    run = load_run(run_path)
    text = text_of(summary_table(run.summary))
    assert re.search(r"Image clients\W+0\.420\W+0\.602\W+0\.182", text)
    assert "fedmmkt flora, seed 0" in text
    assert "Inception" not in text
    assert "0.602" in text_of(summary_table({}, run.rounds))
    assert text_of(summary_table({}))


def test_the_ledger_adds_up(run_path: Path) -> None:
    rows = load_run(run_path).ledger
    found = flows(rows)
    assert {f.client for f in found} == {*IMAGE, *TEXT}
    assert sum(f.bytes for f in found if f.direction == "up") == total(rows, "up") == 36_440 * 4
    one = next(f for f in found if (f.client, f.name) == ("image-0", "probabilities"))
    assert (one.messages, one.bytes, one.shape, one.dtype) == (4, 4 * 3072, "(64, 12)", "float32")
    assert total(rows, "down") == 986_200 * 4
    text = text_of(ledger_table(rows))
    assert re.search(r"image-0\W+leaves the client\W+infer\W+Opinion\W+probabilities\W+float32\W+64, 12\W+4 ", text)
    mixed = flows(
        [{**rows[0], "fields": [{"name": "x", "dtype": "f4", "shape": s, "bytes": 1}]} for s in ([2], [2], [3], None)]
    )
    assert mixed[0].shape == "(2,) and 2 more"
    assert text_of(ledger_table([]))
    assert total([], "up") == 0


def test_numbers_as_people_say_them() -> None:
    assert [byte_text(n) for n in (0, 999, 1000, 1_234_567, 986_200, None)] == [
        "0 B",
        "999 B",
        "1 kB",
        "1.23 MB",
        "986 kB",
        "–",
    ]
    assert [second_text(s) for s in (0.4321, 59.9, 200, 7500, None)] == [
        "0.432 s",
        "59.9 s",
        "3 min 20 s",
        "2 h 5 min",
        "–",
    ]
    fid = next(s for s in SCORES if s.key == "fid")
    assert fid.improved(60.0, 40.0) is True
    assert fid.improved(40.0, 40.001) is None
    assert fid.say_change(None, 3.0) == "–"


def score(key: str) -> Score:
    return next(s for s in SCORES if s.key == key)


def test_recalls_as_people_say_them() -> None:
    pairs, server = score("pair_recall"), score("server_recall")
    assert pairs.say(0.2168) == "0.217"
    assert pairs.heading == "Image-text clients R@1"
    assert server.say(0.60163) == "0.602"
    assert server.say_change(0.55, 0.60163) == "+0.052"
    assert server.improved(0.55, 0.60163) is True
    assert server.heading == "Server recall sum"
    assert score("image_accuracy").heading == "Image clients accuracy"
    assert score("fid").heading == "FID (lower is better)"
    assert (client_score("pair"), client_score("text")) == ("pair_recall", "text_accuracy")
    assert end_of("pair-1", {}) == "pair"
    assert set(COLOURS) == {s.key for s in SCORES if s.key not in KIND_SCORES}


def test_pair_clients_and_the_server(tmp_path: Path, run_path: Path) -> None:
    page = read(write_report([make_run(tmp_path / "a", 0, pairs=True)]))
    check_self_contained(page)
    for expected in (
        "2 image-text clients",
        "Server recall sum 0.570 from 0.324",
        "Not measured in this run: T2I accuracy, CLIP score.",
        "Retrieval After round 4.",
        "pair-1 0.266 0.559 0.719 0.213 0.480 0.639 0.480 500 1",
        "server 0.316 0.664 0.854 0.253 0.570 0.759 0.570 100 5",
        "pair-1 pair 0.117 0.240",
        "Of image-text clients: R@1 of retrieval",
    ):
        assert expected in page.text, expected
    both = read(write_report([run_path, tmp_path / "a"], tmp_path / "both.html"))
    assert "Image-text clients Server recall sum T2I accuracy" in both.text
    text = text_of(summary_table(load_run(tmp_path / "a").summary))
    assert re.search(r"Server recall sum\W+0\.324\W+0\.570\W+0\.246", text)
    assert "T2I" not in text


def test_runs_without_pairs_are_as_ever(run_path: Path) -> None:
    page = read(write_report([run_path], run_path.parent / "r.html"))
    others = ("What each kind", "Class spread", "Shared model", "Multimodal clients", "joint")
    for word in ("Retrieval", "Server recall", "Image-text clients", "pair-", *others):
        assert word not in page.text, word
    assert "Not measured" not in page.text


def test_retrieval_is_of_the_last_round_that_has_it(tmp_path: Path) -> None:
    run = load_run(make_run(tmp_path / "a", 0, finished=False))
    whole = {"i2t_r1": 0.5, "t2i_r1": 0.25, "images": 10, "folds": 1}
    run.rounds[1]["retrieval"] = {"server": whole, "<b>": {"i2t_r1": 0.5, "images": None}, "odd": None}
    run.rounds[2]["retrieval"] = None
    table, when = retrieval(run)
    assert when == "After round 1"
    text = [" ".join(cell.text for cell in row) for row in table.rows]
    assert text == ["<b> 0.500 – – – – – – – 1", "server 0.500 – – 0.250 – – 0.750 10 1"]
    del run.rounds[1]["retrieval"]
    assert retrieval(run)[0].rows == []


def test_the_summary_of_a_run_with_pairs() -> None:
    names = {"image": IMAGE, "text": TEXT, "pair": PAIR}
    rows = [with_recalls(row(t, 0)) for t in range(3)]
    seconds = {"setup": 1.0, "total": 9.0}
    found = summarise(Config(), names, rows, seconds, {})
    assert set(found["pair_recall"]["per_client"]) == set(PAIR)
    assert found["server_recall"] == {k: rows[t]["server_recall"] for k, t in (("before", 0), ("after", 2))}
    assert found["retrieval"] == rows[2]["retrieval"]
    assert set(found["image_accuracy"]["per_client"]) == set(IMAGE)
    plain = summarise(Config(), {"image": IMAGE}, [row(0, 0)], seconds, {})
    assert "retrieval" not in plain
    assert plain["pair_recall"] == {"before": None, "after": None}
