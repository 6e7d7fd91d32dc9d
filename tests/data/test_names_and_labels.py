"""Class names and labels as people write them: one rule, nothing merged or renumbered unsaid."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import picture
from fedloom.cli.main import main
from fedloom.data.assemble import chosen_classes
from fedloom.data.containers import FederatedDataset
from fedloom.data.datasets.folder import load
from fedloom.data.registry import load_dataset
from fedloom.errors import BadInput, printable, unknown
from fedloom.experiment.silo_data import match_classes
from fedloom.runs.disk import append_line, json_text, write_atomic
from fedloom.runs.folder import RunFolder
from fedloom.seeding import stream_seed

NFC, NFD = "caf\u00e9", "cafe\u0301"
NAMES = ("adder", "boa", "cobra")


def labelled(tmp: Path, *labels: str, test: tuple[str, ...] = (), **options: object) -> FederatedDataset:
    """A dataset of texts with these labels, each twice in training, in order."""
    for part, own in (("train", labels * 2), ("test", test)):
        if own:
            lines = [f'"text {i}","{label}"' for i, label in enumerate(own)]
            (tmp / f"texts_{part}.csv").write_text("\n".join(["text,label", *lines]), encoding="utf-8")
    return load(tmp, test_share=0.5, generic_share=0, **options)  # type: ignore[arg-type]


def beside(tmp: Path, names: tuple[str, ...], number: int = 2) -> None:
    """Class folders with small pictures."""
    for c, name in enumerate(names):
        for i in range(number):
            picture(tmp / "images" / name / f"{i}.png", c, i, side=(8, 8))


def file(path: Path, labels: list[object], names: list[str] | None = None, kind: str = "label_names") -> None:
    """A parquet file of pictures in the colours of 0, 1, 2 ... by the names' order in NAMES."""
    cells = []
    for n, label in enumerate(labels):
        name = label if names is None else names[label]  # type: ignore[index]
        colour = sorted(names or {str(x) for x in labels}).index(str(name))
        cells.append(picture(path.parent / "one.png", colour, n, side=(8, 8)).read_bytes())
    content = json.dumps(names if kind == "label_names" else {"info": {"features": {"label": {"names": names}}}})
    table = pa.table({"image": cells, "label": labels})
    pq.write_table(table.replace_schema_metadata({kind: content} if names else None), path)


# Names


@pytest.mark.parametrize(
    "label",
    ["NA", "null", "nan", "None", "1e3", "01", "1", "1.0", "True", "no", "-1", "0x10", "C++", "½", "²", "~"],
)
def test_labels_stay_as_written(tmp_path: Path, label: str) -> None:
    dataset = labelled(tmp_path, label, "other", classes=["other", label])
    assert dataset.class_names == ("other", label)
    assert dataset.test["text"].labels.tolist() == [1, 0]


def test_01_and_1_are_two(tmp_path: Path) -> None:
    dataset = labelled(tmp_path, "01", "1", "10", "9" * 5000)
    assert dataset.class_names == ("01", "1", "10", "9" * 5000) or dataset.class_names[:3] == ("1", "01", "10")
    assert dataset.test["text"].labels.tolist() == [dataset.class_names.index(n) for n in ("01", "1", "10", "9" * 5000)]
    with pytest.raises(BadInput, match=r"classes: 1 is no text, as YAML reads .* 01"):
        labelled(tmp_path, "01", "1", classes=[1])


@pytest.mark.parametrize("wanted", [False, None, 1.0, ["a"]])
def test_classes_that_yaml_made_something_of(wanted: object) -> None:
    with pytest.raises(BadInput, match="Put each name in quotes"):
        chosen_classes(["no", "None", "1.0"], [wanted])  # type: ignore[list-item]


def test_integers_may_be_names() -> None:
    assert chosen_classes(["1", "2", "10"], [10, 1]) == [2, 0]  # type: ignore[list-item]


@pytest.mark.parametrize("other", [NFD, f" {NFC}\u00a0", f"\ufeff{NFC}", f"ca\u200b{NFC[2:]}"], ids=ascii)
def test_invisible_differences_are_none(tmp_path: Path, other: str) -> None:
    dataset = labelled(tmp_path, NFC, "tea", other, test=(other, "tea"), classes=[other, "tea"])
    assert dataset.class_names == (NFC, "tea")
    assert dataset.train["text"].labels.tolist() == [0, 1, 0] * 2


@pytest.mark.parametrize(("one", "other"), [("Cat", "cat"), ("a_b", "a b"), ("❤", "❤\ufe0f")])
def test_visible_differences_are_refused(tmp_path: Path, one: str, other: str) -> None:
    with pytest.raises(BadInput, match=r"texts_train\.csv row 3: label .* but .*row 2: they differ only by case"):
        labelled(tmp_path, one, other)


def test_folders_in_either_form(tmp_path: Path) -> None:
    """What macOS packs (NFD) beside a CSV, labels.json, `classes` and a test part written elsewhere (NFC)."""
    beside(tmp_path, (NFD, "cafz"))
    dataset = labelled(tmp_path, NFC, "cafz", classes=[NFC, "cafz"], size=8)
    assert dataset.class_names == (NFC, "cafz")
    assert dataset.test["text"].labels.tolist() == [0, 1]
    assert labelled(tmp_path, "1", "0", size=8).class_names == (
        "cafz",
        NFC,
    )  # in the order of NFC on every disk
    (tmp_path / "labels.json").write_text(json.dumps(["cafz", NFC]))
    assert labelled(tmp_path, NFD, "cafz", size=8).class_names == ("cafz", NFC)


def test_folders_in_both_forms_are_one_class(tmp_path: Path) -> None:
    beside(tmp_path, (NFC, NFD, "tea"))
    assert len(list((tmp_path / "images").iterdir())) == 3
    dataset = load(tmp_path, size=8, test_share=0.5, generic_share=0)
    assert dataset.class_names == (NFC, "tea")
    assert np.bincount(dataset.train["image"].labels).tolist() == [2, 1]


def test_silos_in_either_form() -> None:
    assert match_classes([NFD, "Tea "], ["tea", NFC], [0, 1]).tolist() == [1, 0]
    with pytest.raises(BadInput, match="'-1' and '1' are both '1' here"):
        match_classes(["-1", "1"], ["0", "1"], [0, 1])
    with pytest.raises(BadInput, match=f"Did you mean '{NFC}'"):
        match_classes([f"{NFD}s"], ["tea", NFC], [0])


def test_official_lists_in_either_form(food: Path, upmc: Path) -> None:
    (food / "images" / "ceviche").rename(food / "images" / NFD)
    for name in ("classes", "train", "test"):
        text = (food / "meta" / f"{name}.txt").read_text().replace("ceviche", NFC)
        (food / "meta" / f"{name}.txt").write_text(text, encoding="utf-8")
    assert load_dataset("food101", food, size=8).class_names[2] == NFC


def test_upmc_in_either_form(upmc: Path) -> None:
    for part in ("train", "test"):
        (upmc / "images" / part / "tacos").rename(upmc / "images" / part / NFD)
        titles = upmc / "texts" / f"{part}_titles.csv"
        lines = [f"{line[:-5]}{NFC}" if line.endswith("tacos") else line for line in titles.read_text().splitlines()]
        titles.write_text("\n".join(lines), encoding="utf-8")
    dataset = load_dataset("upmc_food101", upmc, size=8, generic_share=0)
    assert dataset.class_names == ("apple pie", NFC)
    assert len(dataset.test["image"]) == 4


def test_names_that_look_alike_are_told_apart() -> None:
    message = str(unknown("label", "c\u0430t", ["cat", "dog"]))  # a Cyrillic a
    assert "('c\\u0430t'). Did you mean 'cat'" in message
    assert "Did you mean 'Sci/Tech'" in str(unknown("class", "sci/tech", ["Sci/Tech", "World"]))
    long = str(unknown("label", "x" * 10**6, [f"class {i}" for i in range(2000)]))
    assert len(long) < 1500
    assert "and 1940 more" in long


# Labels


def test_label_names_in_another_order(tmp_path: Path) -> None:
    for kind in ("label_names", "huggingface"):
        file(tmp_path / "images_train.parquet", [0, 1, 2, 0], ["adder", "boa", "cobra"], kind)
        file(tmp_path / "images_test.parquet", [0, 1, 2], ["cobra", "adder", "boa"], kind)
        dataset = load(tmp_path, size=8, generic_share=0)
        assert dataset.class_names == NAMES
        assert dataset.test["image"].labels.tolist() == [2, 0, 1]
    (tmp_path / "labels.json").write_text('["boa", "Cobra", "adder"]')  # the file's own numbers mean its own names
    dataset = load(tmp_path, size=8, generic_share=0)
    assert dataset.class_names == ("boa", "Cobra", "adder")
    assert dataset.train["image"].labels.tolist() == [2, 0, 1, 2]


def test_label_names_that_are_others(tmp_path: Path) -> None:
    file(tmp_path / "images_train.parquet", [0, 1, 2, 0], ["adder", "boa", "cobra"])
    file(tmp_path / "images_test.parquet", [0, 1], ["adder", "viper"])
    with pytest.raises(
        BadInput,
        match=r"images_test\.parquet row 1: unknown label 'viper'.* those of .*images_train\.parquet",
    ):
        load(tmp_path, size=8)
    (tmp_path / "images_test.parquet").unlink()
    (tmp_path / "labels.json").write_text('["Natter", "Boa", "Kobra"]')
    with pytest.raises(BadInput, match=r"images_train\.parquet row 0: unknown label 'adder'.* those of .*labels\.json"):
        load(tmp_path, size=8)


@pytest.mark.parametrize(
    ("names", "says"),
    [(["a", "A"], "differ only by case"), (["a", ""], "class name 2 of 2 is empty"), ([], "no list of")],
)
def test_label_names_of_a_file(tmp_path: Path, names: list[str], says: str) -> None:
    path = tmp_path / "images_train.parquet"
    pq.write_table(
        pa.table({"image": [b"x"], "label": [0]}).replace_schema_metadata({"label_names": json.dumps(names)}),
        path,
    )
    with pytest.raises(BadInput, match=says):
        load(tmp_path)


def test_a_list_of_entries_under_another_class(food: Path) -> None:
    for part in ("train", "test"):
        (food / "meta" / f"{part}.txt").unlink()
    (food / "meta" / "train.json").write_text('{"ceviche": ["apple_pie/100"]}')
    with pytest.raises(BadInput, match=r"train\.json: entry 'apple_pie/100' in the list of 'ceviche'"):
        load_dataset("food101", food)


def test_two_lists_in_two_places(tmp_path: Path) -> None:
    beside(tmp_path / "a", NAMES)
    (tmp_path / "b").mkdir()
    for where, names in (("a", ["boa", "cobra", "adder"]), ("b", ["Boa", "cobra", "adder"])):
        (tmp_path / where / "labels.json").write_text(json.dumps(names))
    parts = {"images_train": tmp_path / "a" / "images", "texts_train": tmp_path / "b" / "texts_train.csv"}
    assert labelled(tmp_path / "b", "0", "1").class_names == ("Boa", "cobra", "adder")
    options = {"size": 8, "test_share": 0.5, "generic_share": 0, **parts}
    assert load(**options).class_names == ("boa", "cobra", "adder")  # type: ignore[arg-type]
    (tmp_path / "b" / "labels.json").write_text('["adder", "boa", "cobra"]')
    with pytest.raises(BadInput, match=r"a/labels\.json and .*b/labels\.json: not the same names in the same order"):
        load(**options)  # type: ignore[arg-type]
    assert load(**options, labels_file=tmp_path / "b" / "labels.json").class_names == NAMES  # type: ignore[arg-type]


@pytest.mark.parametrize("label", ["", "  ", "\u200b", "\u00a0"], ids=ascii)
def test_an_empty_label_is_refused(tmp_path: Path, label: str) -> None:
    with pytest.raises(BadInput, match=r"texts_train\.csv row 3: the label is empty"):
        labelled(tmp_path, "cat", label)
    with pytest.raises(BadInput, match=r"texts_test\.csv row 2: the label is empty"):
        labelled(tmp_path, "cat", "dog", test=(label,))


def test_empty_names_are_refused_everywhere(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="unknown class ''"):
        labelled(tmp_path, "cat", "dog", classes=["cat", ""])
    (tmp_path / "labels.json").write_text('["cat", " "]')
    with pytest.raises(BadInput, match=r"labels\.json: class name 2 of 2 is empty"):
        load(tmp_path)
    (tmp_path / "labels.json").write_text('{"0": "cat", "0": "dog"}')
    with pytest.raises(BadInput, match=r"labels\.json: key '0' is given 2 times"):
        load(tmp_path)


def test_a_row_without_text_needs_no_label(tmp_path: Path) -> None:
    (tmp_path / "texts_train.csv").write_text("text,label\na,cat\nb,cat\n,\n\u200b,\n", encoding="utf-8")
    assert load(tmp_path, test_share=0.5).notes["empty_texts"] == 2


def test_numbers_beside_folders(tmp_path: Path) -> None:
    beside(tmp_path, NAMES)
    dataset = labelled(tmp_path, "1", "2", size=8)
    assert dataset.test["text"].labels.tolist() == [1, 2]
    (said,) = dataset.notes["numbers_as_labels"]
    assert said.startswith(f"{tmp_path / 'texts_train.csv'}: labels are numbers, counted from 0 in the classes of ")
    assert said.endswith("images: 1 = boa, 2 = cobra; none is 0 = adder: if they count from 1, write the names instead")
    assert "none is" not in labelled(tmp_path, "0", "2", size=8).notes["numbers_as_labels"][0]
    assert labelled(tmp_path, "boa", "cobra", size=8).notes["numbers_as_labels"] == []


@pytest.mark.parametrize("label", ["3", "01", "1.0", "-1", "\u0661", "²", "9" * 5000], ids=lambda s: ascii(s)[:12])
def test_numbers_that_are_none(tmp_path: Path, label: str) -> None:
    beside(tmp_path, NAMES)
    says = "Numbers count from 0: where yours count from 1" if label == "3" else r"Or an index 0\.\.2"
    with pytest.raises(BadInput, match=rf"texts_train\.csv row 3: unknown label .*{says}"):
        labelled(tmp_path, "1", label, size=8)


def test_numbers_beside_names_that_are_numbers(tmp_path: Path) -> None:
    beside(tmp_path, ("1", "10", "2"))
    assert labelled(tmp_path, "10", "2", size=8).test["text"].labels.tolist() == [1, 2]
    with pytest.raises(BadInput, match="unknown label '0'"):  # not the first folder
        labelled(tmp_path, "0", "2", size=8)
    file(tmp_path / "t.parquet", [2, 10])
    dataset = load(tmp_path, images_train="images", images_test="t.parquet", size=8)
    assert dataset.test["image"].labels.tolist() == [2, 1]  # an integer is a name here too


def test_names_by_number_and_numbers_by_name(tmp_path: Path) -> None:
    for content in ('{"boa": 1, "adder": 0}', '{"1": "boa", "0": "adder"}', '["adder", "boa"]'):
        (tmp_path / "labels.json").write_text(content)
        assert labelled(tmp_path, "boa", "0").class_names == ("adder", "boa")
    for content in ('{"boa": 1, "adder": 1}', '{"boa": 2, "adder": 1}', '{"a": true, "b": false}', "{}"):
        (tmp_path / "labels.json").write_text(content)
        with pytest.raises(BadInput, match=r"labels\.json: expected a list of class names"):
            load(tmp_path)


# Names that are not UTF-8

LATIN = os.fsdecode(b"bild\xe9.png")


def test_file_names_that_are_not_utf8(tmp_path: Path) -> None:
    beside(tmp_path, NAMES, 4)
    (tmp_path / "images" / "boa" / "0.png").rename(tmp_path / "images" / "boa" / LATIN)
    options = {"size": 8, "per_class": 2, "generic_share": 0}
    assert len(load(tmp_path, **options).train["image"]) == 6  # type: ignore[arg-type]
    (tmp_path / "images" / "boa" / LATIN).write_bytes(b"")
    with pytest.raises(BadInput, match=r"bild\\xe9\.png: no picture"):
        load(tmp_path)
    notes = load(tmp_path, on_bad="skip", size=8).notes
    assert [Path(place).name for place in notes["unreadable_examples"]] == ["bild\\xe9.png"]
    json.dumps(notes, ensure_ascii=False).encode()


def test_class_names_that_are_not_utf8(tmp_path: Path) -> None:
    beside(tmp_path, (os.fsdecode(b"caf\xe9"), "tea"))
    with pytest.raises(BadInput, match=r"images: class name 1 of 2, 'caf.udce9', is not UTF-8 text: rename it"):
        load(tmp_path)
    (tmp_path / "labels.json").write_text('["tea", "\\ud800"]')
    with pytest.raises(BadInput, match=r"labels\.json: class name 2 of 2.*is not UTF-8 text"):
        load(tmp_path)


def test_the_command_line_shows_such_names(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / os.fsdecode(b"daten\xe9")
    beside(root, NAMES)
    (root / "images" / "boa" / LATIN).write_bytes(b"")
    assert main(["partition", "--data", "folder", "--root", str(root)]) == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("error: ")


def test_no_run_in_such_a_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"runs\\xe9: the name is not UTF-8"):
        RunFolder.create(tmp_path / os.fsdecode(b"runs\xe9"), {})
    assert not list(tmp_path.iterdir())


def test_such_names_are_written_and_drawn_from(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.json", json_text({"file": LATIN}))
    append_line(tmp_path / "b.jsonl", json.dumps({"file": LATIN}, ensure_ascii=False))
    for name in ("a.json", "b.jsonl"):
        assert json.loads((tmp_path / name).read_text(encoding="utf-8")) == {"file": LATIN}
    assert stream_seed(0, LATIN) != stream_seed(0, "bild.png")
    assert str(BadInput(LATIN)) == printable(LATIN) == "bild\\xe9.png"
    assert printable("a\x1b[31m\ud800\u200d") == "a\\x1b[31m\\ud800\u200d"
    assert unicodedata.normalize("NFC", NFD) == NFC
