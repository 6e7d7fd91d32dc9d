"""`fedloom init`: what it finds, what it writes, and that a run takes it."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fedloom.config import Config, load_config, presets
from fedloom.config.yaml_core import parse
from fedloom.errors import BadInput
from fedloom.experiment.build import split_data
from fedloom.experiment.checks import check_scene
from fedloom.experiment.datasets import cached_dataset
from fedloom.experiment.resolve import completed
from fedloom.scaffolding.columns import guess
from fedloom.scaffolding.page import page
from fedloom.scaffolding.place import look

CLASSES = ("no", "red ant", "wasp")


def png(seed: int, side: int = 40) -> bytes:
    buffer = io.BytesIO()
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 255, (side, side + 8, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def pictures(folder: Path, each: int = 24, side: int = 40) -> Path:
    for c, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for n in range(each):
            (folder / name / f"p{n:03}.png").write_bytes(png(100 * c + n, side))
    return folder


def table(path: Path, header: tuple[str, str], each: int = 30, delimiter: str = ",") -> Path:
    rows = [(f"seen {n} times near the old oak, {name}", name) for name in CLASSES for n in range(each)]
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])
    return path


def fits(file: Path) -> Config:
    """The file's configuration, of which a run could be made: it is read, split and checked as a run does it."""
    config, method, settings = completed(load_config(file=file))
    scene = cached_dataset(config.data)
    assert split_data(config, scene)
    check_scene(config, method, settings, scene)
    return config


def test_pictures_and_a_table_of_other_names(cli, tmp_path):
    pictures(tmp_path / "mine" / "images")
    table(tmp_path / "mine" / "reports.csv", ("finding", "diagnosis"))
    shown = cli("init", "--data", "mine")
    assert shown.code == 0, shown.err
    assert "texts are column 'finding' of reports.csv, classes 'diagnosis'" in shown.out
    assert "3 classes (no, red ant, wasp)" in shown.out
    assert "sides of 40 to 40 pixels" in shown.out
    assert "next: fedloom run --config fedloom.yaml" in shown.out
    config = fits(Path("fedloom.yaml"))
    assert config.data.root == str(tmp_path / "mine")
    assert config.data.options["text_column"] == "finding"
    assert config.clients.image
    assert config.clients.text
    again = cli("init", "--data", "mine")
    assert (again.code, again.err.count("\n")) == (2, 1)
    assert "fedloom.yaml is there already; name another file with --out, or remove it" in again.err


def test_small_pictures_in_class_folders_alone(cli, tmp_path):
    """Nothing is read larger than it is; a method for pictures alone."""
    pictures(tmp_path / "mine", each=12, side=15)
    shown = cli("init", "--data", tmp_path / "mine", "--out", "small.yaml")
    assert shown.code == 0, shown.err
    config = fits(Path("small.yaml"))
    assert config.data.options["images_train"] == "."
    assert config.data.options["size"] <= 15
    assert config.clients.text == ()
    assert 1 <= len(config.clients.names("image")) <= 4


def test_texts_alone(cli, tmp_path):
    table(tmp_path / "mine.csv", ("body", "topic"), delimiter=";")
    shown = cli("init", "--data", "mine.csv")
    assert shown.code == 0, shown.err
    config = fits(Path("fedloom.yaml"))
    assert config.clients.image == ()
    assert config.data.options["texts_train"] == str(tmp_path / "mine.csv")


def test_a_broken_picture_is_left_out_and_said(cli, tmp_path):
    pictures(tmp_path / "mine" / "images", each=16)
    (tmp_path / "mine" / "images" / "wasp" / "p000.png").write_bytes(b"\x89PNG broken")
    shown = cli("init", "--data", "mine")
    assert shown.code == 0, shown.err
    assert "p000.png" in shown.out or "cannot be read" in shown.out or "unreadable" in shown.out
    assert fits(Path("fedloom.yaml")).data.options["on_bad"] == "skip"


def test_parquet_of_pictures(cli, tmp_path):
    labels = [name for name in CLASSES for _ in range(16)]
    rows = pa.table({"image": [png(n) for n in range(len(labels))], "label": labels})
    pq.write_table(rows, tmp_path / "images_train.parquet")
    for given in (tmp_path, tmp_path / "images_train.parquet"):
        shown = cli("init", "--data", given, "--out", f"{given.name}.yaml")
        assert shown.code == 0, shown.err
        assert "48" not in shown.err
        assert fits(Path(f"{given.name}.yaml")).clients.image


def test_the_defaults(cli):
    shown = cli("init")
    assert shown.code == 0, shown.err
    text = Path("fedloom.yaml").read_text()
    assert load_config(file="fedloom.yaml") == load_config()
    assert all(line.startswith(("#", " ", "method", "seed", "rounds")) for line in text.splitlines() if line)
    assert max(map(len, text.splitlines())) <= 110
    # Every line behind a # is the default: uncommented, it says the same.
    bare = re.sub(r"^ *# \(.*?\)$\n", "", text, flags=re.MULTILINE | re.DOTALL).partition("\n\n")[2]
    assert load_config(values=parse(re.sub(r"^( *)# ", r"\1", bare, flags=re.MULTILINE))) == Config()


@pytest.mark.parametrize("name", sorted(presets()))
def test_a_page_says_what_the_configuration_is(name):
    config = load_config(preset=name)
    assert load_config(values=parse(page(config, ["head: {of the page"], ()))) == config


def test_words_that_yaml_takes_for_something_else():
    options = {
        "classes": ["no", "null", "012", "a: b", "x, [y]", "#1", "é", "'", 'q"q', " s", ""],
        "root": "C:\\x",
    }
    config = load_config(values={"data": {"name": "folder", "root": "/a: b, {c} #d", "options": options}})
    assert load_config(values=parse(page(config, [], ()))).data == config.data


@pytest.mark.parametrize(
    ("header", "first", "found"),
    [
        ("text,label", "a b,x", ("text", "label")),
        ("id;Review;Sentiment", "1;nice;good", ("Review", "Sentiment")),
        ("label,name", "x,long words here", ("name", "label")),
        ("kind,words", "x,long words here", ("words", "kind")),
        ("label\ttext", "x\ta b", ("text", "label")),
        ('"a, b",label', "words,x", ("a, b", "label")),
    ],
)
def test_columns(tmp_path, header, first, found):
    file = tmp_path / "t.csv"
    file.write_text("\n".join([header, *[first] * 9]))
    assert guess(file) == found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a\nb\n", "expected a table with a header"),
        (
            "text,n\none,1\ntwo,2\nthree,3\nfour,4\n",
            "no column that looks like classes; its columns: text, n",
        ),
        ("label,n\na,1\na,2\n", "no column that looks like texts"),
    ],
)
def test_columns_that_cannot_be_told(tmp_path, text, told):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(BadInput, match=told):
        guess(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (["AudioWAV/x.wav"], "cremad"),
        (["Annotations.txt", "trainSet.txt"], "ave"),
        (["data_image/x"], "crisismmd"),
        (["train.npz", "test.npz"], "audio_visual_digits"),
        (["train.csv", "classes.txt"], "ag_news"),
        (["meta/classes.txt", "images/x/1.jpg"], "food101"),
        (["dataset_flickr30k.json"], "mixed"),
    ],
)
def test_official_layouts(tmp_path, files, name):
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / file).touch()
    assert look(tmp_path).name == name


def test_pictures_with_captions(tmp_path):
    pq.write_table(pa.table({"image": [png(1)], "captions": [["a b"]]}), tmp_path / "train.parquet")
    place = look(tmp_path)
    assert place.options["pair"] == place.options["public"] == {"name": "caption_parquet", "root": str(tmp_path)}
    assert "until you name another" in place.said[0]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda p: None, "there is no such file or folder"),
        (lambda p: p.mkdir(), "nothing that can be read. Expected layout"),
        (lambda p: p.write_text("x"), "expected a folder, a .csv file of texts or a .parquet file"),
        (lambda p: (p / "a").mkdir(parents=True), "no pictures in its 1 class folders"),
    ],
)
def test_nothing_to_read(cli, tmp_path, make, told):
    make(tmp_path / "mine")
    shown = cli("init", "--data", "mine")
    assert (shown.code, shown.out, shown.err.count("\n")) == (2, "", 1)
    assert told in shown.err
    assert not Path("fedloom.yaml").exists()


@pytest.mark.conformance
def test_a_run_of_what_was_written(cli, tmp_path):
    pictures(tmp_path / "mine" / "images")
    table(tmp_path / "mine" / "texts_train.csv", ("text", "label"))
    assert cli("init", "--data", "mine").code == 0
    steps = (
        "clients.public_steps=5",
        "clients.warm_steps=5",
        "server.clip.steps=5",
        "server.captioner.steps=5",
    )
    steps += ("server.generator.steps=5", "evaluation.judge.steps=5")
    options = [part for step in steps for part in ("--set", step)]
    shown = cli("run", "--config", "fedloom.yaml", "--rounds", 1, *options)
    assert shown.code == 0, shown.err
