"""What stands where nobody has said it, on own data: sizes and numbers that fit, to the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client_kinds import kinds
from PIL import Image

import fedloom
from fedloom.comparison.cells import make_cells
from fedloom.comparison.plan import read_plan
from fedloom.config import Config, load_config
from fedloom.errors import BadInput
from fedloom.experiment.resolve import completed, counted, sized


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """images/<class>/pNNN.jpg, 24 small pictures a class, and a CSV of as many texts."""
    root, rng = tmp_path_factory.mktemp("mine"), np.random.default_rng(0)
    lines = ["text,label"]
    for c, name in enumerate(("ant", "bee", "fly")):
        (root / "images" / name).mkdir(parents=True)
        for n in range(24):
            pixels = rng.integers(60 * c, 60 * c + 80, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "images" / name / f"p{n:03}.jpg")
            lines.append(f"number {n} of the kind {'abc'[c]} seen in {('grass', 'trees', 'water')[n % 3]},{name}")
    (root / "texts_train.csv").write_text("\n".join(lines) + "\n")
    return root


def own(mine: Path, told: list[str], *overrides: str, method: str = "fedmmkt") -> Config:
    values: dict[str, Any] = {"method": method, "data": {"name": "folder", "root": str(mine)}}
    asked = sized(load_config(values=values, overrides=overrides, say=told.append), told.append)
    _, kind, _ = completed(asked)
    return counted(asked, kind, None, told.append)


def test_sizes_and_numbers_fit_own_data(mine):
    told: list[str] = []
    config = own(mine, told)
    assert config.data.options == {"size": 30}
    assert config.clients.names("image") == ["image-0", "image-1", "image-2"]
    assert [g.arch for g in config.clients.image] == ["vit", "beit"]
    assert len(config.clients.everyone()) == 6
    assert told == [
        "folder: pictures of 30 pixels; the usual 32 do not fit clients.image: patch, server.generator.unshuffle, "
        "server.clip.patch, server.captioner.patch",
        "folder: 3 image clients instead of 4; its 27 training pictures do not give more of them data.minimum = 8 each",
        "folder: 3 text clients instead of 4; its 27 training texts do not give more of them data.minimum = 8 each",
    ]
    assert own(mine, [], "clients.image=[{arch: resnet, count: 2}]", method="standalone").data.options == {}
    assert own(mine, [], "clients.image=[{arch: vit, patch: 7}]", method="standalone").data.options == {"size": 35}


def test_said_sizes_that_do_not_fit_are_refused(mine):
    with pytest.raises(BadInput) as error:
        own(mine, [], "data.options.size=32")
    assert str(error.value).startswith("data.options.size = 32 is no multiple of clients.image: patch = 6, server.gen")
    assert "allowed: multiples of 6, such as 30 and 36" in str(error.value)
    with pytest.raises(BadInput, match=r"= 20 is no multiple .*: multiples of 24, such as 24,"):
        own(mine, [], "data.options.size=20", "server.clip.patch=8")
    config = own(mine, [], "clients.image=[{arch: resnet, count: 4}]", method="standalone")
    with pytest.raises(BadInput, match=r"cannot give 4 clients 8 each \(32 needed\); allowed: at most 3 clients, or a"):
        fedloom.run(config)


@pytest.mark.parametrize(("there", "kind"), [("images", "image"), ("texts_train.csv", "text")])
def test_pictures_or_texts_alone(mine, tmp_path, there, kind):
    (tmp_path / there).symlink_to(mine / there)
    told: list[str] = []
    values = {"data": {"name": "folder", "root": str(tmp_path)}}
    config = load_config(values=values, say=told.append)
    assert kinds(config) == {kind}
    assert config.method == ("fedmmkt" if kind == "image" else "fedavg")
    assert told[-1] == (
        "folder has no texts: no text clients" if kind == "image" else "folder has no pictures: no image clients"
    )


def test_a_comparison_on_own_data_fits_all_rows(mine):
    values = {"data": {"name": "folder", "root": str(mine)}, "clients": {"image": [{"arch": "resnet"}]}}
    cells = make_cells(read_plan(methods=["standalone", "fedmmkt"]), values, [])
    assert {cell.config.data.options["size"] for cell in cells} == {30}
    assert {len(cell.config.clients.names("text")) for cell in cells} == {3}


# ------------------------------------------------------------------------------------ by the command line, for real


def test_partition_says_what_it_took(cli, mine):
    shown = cli("partition", "--data", "folder", "--root", mine, "--json")
    assert shown.code == 0
    assert len(shown.json["clients"]) == 6
    assert shown.err.count("\n") == 3
    shown = cli("partition", "--method", "fedcmi", "--preset", "smoke", "--json")
    assert (shown.json["data"], shown.err) == (
        "duet",
        "fedcmi: data set duet and 4 multimodal clients (preset fedcmi)\n",
    )


@pytest.mark.parametrize(("method", "why"), [("fedmmkt", "for its generator"), ("fedmd", "for its generator")])
def test_a_method_that_needs_pictures_says_which_do_not(cli, mine, tmp_path, method, why):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "texts_train.csv").symlink_to(mine / "texts_train.csv")
    shown = cli("run", "--method", method, "--data", "folder", "--root", "own", "--preset", "smoke")
    said = f"{method} needs pictures {why}, and folder has text samples only; methods without: standalone"
    assert shown.code == 2
    assert said in shown.err.splitlines()[-1]
    assert not Path("runs").exists()


def grey(folder: Path) -> None:
    """Pictures of one colour scheme: the same two shades of grey in each, at other places."""
    rng = np.random.default_rng(0)
    for c, name in enumerate(("ant", "bee", "fly")):
        (folder / "images" / name).mkdir(parents=True)
        for n in range(24):
            pixels = rng.integers(95, 125, (24, 24), dtype=np.uint8)
            pixels[8 * c : 8 * c + 6, : 8 + n % 9] = 50
            Image.fromarray(pixels).save(folder / "images" / name / f"p{n:03}.png")


@pytest.mark.conformance
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["both", "pictures", "texts", "grey", "other letters"])
@pytest.mark.parametrize("preset", [(), ("--preset", "smoke")], ids=["usual", "smoke"])
def test_own_data_to_the_report(cli, mine, tmp_path, kind, preset):
    own = tmp_path / "own"
    own.mkdir()
    if kind in ("both", "pictures", "other letters"):
        (own / "images").symlink_to(mine / "images")
    if kind in ("both", "texts"):
        (own / "texts_train.csv").symlink_to(mine / "texts_train.csv")
    if kind in ("grey", "other letters"):
        if kind == "other letters":
            (own / "images").unlink()
        grey(own)
    if kind == "other letters":
        text = (mine / "texts_train.csv").read_text().replace("number", "номер").replace("grass", "трава")
        (own / "texts_train.csv").write_text(text, encoding="utf-8")
    tiny = () if preset else ("server.clip.steps=2", "server.generator.steps=2", "server.captioner.steps=2")
    tiny = (*tiny, "evaluation.judge.steps=2", "clients.public_steps=2", "clients.warm_steps=2", "rounds=1")
    given = [word for value in tiny for word in ("--set", value)]
    shown = cli("run", "--data", "folder", "--root", "own", *preset, *given, "--out", "here", "--json")
    assert shown.code == 0, shown.err
    assert Path("here/report.html").is_file()
    assert "nan" not in Path("here/metrics.jsonl").read_text().lower()
    assert shown.json["method"] == ("fedavg" if kind == "texts" else "fedmmkt")


def test_a_single_class_is_refused_at_once(cli, tmp_path):
    for i in range(12):
        (tmp_path / "mine" / "images" / "a").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 12), (20 * i, 10, 90)).save(tmp_path / "mine" / "images" / "a" / f"{i}.png")
    shown = cli("run", "--preset", "smoke", "--data", "folder", "--root", tmp_path / "mine", "--out", tmp_path / "run")
    assert shown.code == 2
    assert shown.err.splitlines()[-1] == "error: folder has one class, 'a': there is nothing to tell apart. Needed: two"
    assert not (tmp_path / "run").exists()
