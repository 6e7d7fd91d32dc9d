"""A silo's own data: image folders, parquet files, CSV texts, and everything that can be wrong with them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import picture
from fedloom.data.datasets.folder import load
from fedloom.data.notes import data_notes
from fedloom.errors import BadInput

NAMES = ("adder", "boa", "cobra")


@pytest.fixture
def silo(tmp_path: Path) -> Path:
    """An image folder with train/ and test/; texts whose labels are names in train and indices in test."""
    for part, n in (("train", 4), ("test", 2)):
        for c, name in enumerate(NAMES):
            for i in range(n):
                deep = "ward_1/" if i else ""
                picture(tmp_path / "images" / part / name / f"{deep}scan {i}.png", c, i)
        rows = [
            f'"Found a {name}, {i} m long",{name if part == "train" else c},x'
            for c, name in enumerate(NAMES)
            for i in range(n)
        ]
        text = "\ufeffreport,kind,extra\n" + "\n".join(rows) + '\n"  ",boa,x\n'
        (tmp_path / f"texts_{part}.csv").write_text(text, encoding="utf-8")
    (tmp_path / "images" / "train" / "boa" / ".DS_Store").write_text("")
    (tmp_path / "images" / "train" / "boa" / "readme.txt").write_text("not a picture")
    return tmp_path


def columns(**more: object) -> dict[str, object]:
    return {"text_column": "report", "label_column": "kind", "size": 16, "generic_share": 0, **more}


def table(path: Path, images: list[object], labels: list[object], metadata: dict[str, str] | None = None) -> Path:
    data = pa.table({"image": images, "label": labels})
    pq.write_table(data.replace_schema_metadata(metadata), path)
    return path


def pixels(label: int, tmp: Path) -> bytes:
    return picture(tmp / "one.jpg", label, 0).read_bytes()


def test_root_alone(silo: Path) -> None:
    dataset = load(silo, **columns())  # type: ignore[arg-type]
    assert dataset.class_names == NAMES
    assert {m: len(s) for m, s in dataset.train.items()} == {"image": 12, "text": 12}
    assert {m: len(s) for m, s in dataset.test.items()} == {"image": 6, "text": 6}
    assert dataset.test["text"].labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert dataset.train["text"].texts[0] == "Found a adder, 0 m long"  # type: ignore[union-attr]
    (numbers,) = dataset.notes["numbers_as_labels"]
    assert re.fullmatch(r".*texts_test\.csv: labels are numbers.*: 0 = adder, 1 = boa, 2 = cobra", numbers)
    assert {key: value for key, value in dataset.notes.items() if value and key != "numbers_as_labels"} == {
        "ignored_files": 1,
        "ignored_endings": {".txt": 1},
        "empty_texts": 2,
        "pictures_in_both_parts": 6,  # the fixture's test pictures are its first training pictures
        "texts_in_both_parts": 6,
    }


def test_one_modality_and_held_out_test(silo: Path) -> None:
    images = load(images_train=silo / "images" / "train", size=16, test_share=0.25, generic_share=0)
    assert {m: len(s) for m, s in images.train.items()} == {"image": 9}
    assert images.test["image"].labels.tolist() == [0, 1, 2]
    texts = load(silo, texts_train="texts_train.csv", text_column="report", label_column="kind", test_share=0.5)
    assert {m: len(s) for m, s in texts.train.items()} == {"text": 3}
    assert texts.public is not None
    assert (len(texts.public.texts), len(texts.public.images)) == (3, 0)


def test_class_subset_keeps_its_order(silo: Path) -> None:
    dataset = load(silo, **columns(classes=["cobra", "adder"]))  # type: ignore[arg-type]
    assert dataset.class_names == ("cobra", "adder")
    assert dataset.test["text"].texts[:1] == ("Found a adder, 0 m long",)  # type: ignore[union-attr]
    assert dataset.test["text"].labels.tolist() == [1, 1, 0, 0]


def test_csv_complaints(silo: Path) -> None:
    with pytest.raises(BadInput, match=r"no column 'label'\. Its columns: report, kind, extra"):
        load(silo, text_column="report")
    path = silo / "texts_train.csv"
    text = path.read_text()
    path.write_text(text + "long and thin,bao,x\n")
    with pytest.raises(BadInput, match=r"texts_train\.csv row 15: unknown label 'bao'. Did you mean 'boa'"):
        load(silo, **columns())  # type: ignore[arg-type]
    path.write_text(text + "an index out of range,3,x\n")
    with pytest.raises(BadInput, match=r"row 15: unknown label '3'.*index 0\.\.2"):
        load(silo, **columns())  # type: ignore[arg-type]
    path.write_text(text + "short\n")
    with pytest.raises(BadInput, match="row 15: 1 field, the header has 3"):
        load(silo, **columns())  # type: ignore[arg-type]
    path.write_text("report,kind\n")
    with pytest.raises(BadInput, match="no rows below the header"):
        load(silo, **columns())  # type: ignore[arg-type]
    path.write_text("")
    with pytest.raises(BadInput, match="Its columns: none"):
        load(silo, **columns())  # type: ignore[arg-type]
    path.write_bytes(b"report,kind\nna\xefve,boa\n")
    with pytest.raises(BadInput, match="not UTF-8"):
        load(silo, **columns())  # type: ignore[arg-type]
    path.write_text('report,kind\n"never closed,boa\n')
    with pytest.raises(BadInput, match="not CSV after row 1"):
        load(silo, **columns())  # type: ignore[arg-type]
    path.write_text('report,kind\n"  ",boa\n')
    with pytest.raises(BadInput, match="no train texts"):
        load(silo, **columns())  # type: ignore[arg-type]


def test_missing_things_are_named(silo: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    (empty / "images").mkdir(parents=True)
    cases = [
        ({}, "give root, images_train or texts_train"),
        ({"root": tmp_path / "gone"}, "gone: there is no such folder. Expected layout"),
        ({"root": silo / "images" / "test" / "boa"}, "neither images nor texts found"),
        ({"root": empty}, "no class sub-folders"),
        ({"images_train": silo / "images" / "trian"}, "trian: there is no such file or folder"),
        ({"images_train": silo / "texts_train.csv"}, "a folder of class folders or a .parquet file"),
        ({"texts_train": silo / "text.csv"}, "text.csv: there is no such file"),
        ({"texts_test": silo / "texts_test.csv"}, "without texts_train"),
        ({"root": silo, "labels_file": "names.json"}, "no such labels file"),
        ({"root": silo, "test_share": 1.0}, "test_share"),
    ]
    for kwargs, says in cases:
        with pytest.raises(BadInput, match=says):
            load(**columns(**kwargs))  # type: ignore[arg-type]
    (empty / "images" / "boa").mkdir()
    with pytest.raises(BadInput, match="no pictures in its 1 class folders"):
        load(empty)


def test_a_broken_picture_is_told_before_too_few(tmp_path: Path) -> None:
    for name in ("adder", "boa"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "p.jpg").write_bytes(b"no picture")
    with pytest.raises(BadInput, match=r"cannot read picture .*adder/p\.jpg: no picture"):
        load(tmp_path, size=8)
    with pytest.raises(BadInput, match=r"none of the 2 pictures can be read, the first is .*adder/p\.jpg"):
        load(tmp_path, size=8, on_bad="skip")
    picture(tmp_path / "images" / "adder" / "p.jpg", 0, 0)
    picture(tmp_path / "images" / "boa" / "p.jpg", 1, 0)
    with pytest.raises(BadInput, match="no class has two samples"):
        load(tmp_path, size=8)


def test_unseen_class_in_test(silo: Path) -> None:
    picture(silo / "images" / "test" / "viper" / "0.png", 0, 0)
    with pytest.raises(BadInput, match=r"0\.png: unknown label 'viper'"):
        load(silo, **columns())  # type: ignore[arg-type]
    (silo / "labels.json").write_text(json.dumps([*NAMES, "viper"]))
    dataset = load(silo, **columns())  # type: ignore[arg-type]
    assert data_notes(dataset)[:2] == [
        "Classes without training pictures: viper",
        "Classes without training texts: viper",
    ]


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ('["x", "y"]', ("x", "y")),
        ('{"1": "y", "0": "x"}', ("x", "y")),
        ('{"1": "y", "2": "x"}', None),
        ('["x", 1]', None),
        ("[]", None),
        ("{", None),
    ],
)
def test_labels_file(tmp_path: Path, content: str, names: tuple[str, ...] | None) -> None:
    (tmp_path / "names.json").write_text(content)
    (tmp_path / "t.csv").write_text("text,label\n" + "one,0\ntwo,y\n" * 3)
    kwargs = {"root": tmp_path, "texts_train": "t.csv", "labels_file": "names.json"}
    if names is None:
        with pytest.raises(BadInput, match=r"names\.json"):
            load(**kwargs)  # type: ignore[arg-type]
    else:
        assert load(**kwargs).class_names == names  # type: ignore[arg-type]


def test_numbers_as_labels_without_names(tmp_path: Path) -> None:
    (tmp_path / "texts_train.csv").write_text("text,label\n" + "a,10\nb,2\nc,7\n" * 2)
    dataset = load(tmp_path, test_share=0.5)
    assert dataset.class_names == ("2", "7", "10")
    (tmp_path / "texts_test.csv").write_text("text,label\na,1\n")
    with pytest.raises(BadInput, match="unknown label '1'"):  # not taken for an index
        load(tmp_path)


@pytest.mark.parametrize("kind", ["struct", "bytes", "path"])
def test_parquet_forms(tmp_path: Path, kind: str) -> None:
    raw = [pixels(c, tmp_path) for c in (0, 1, 2)] * 2
    forms = {
        "struct": lambda b: {"bytes": b, "path": None},
        "bytes": lambda b: b,
        "path": lambda b: {"path": "one.jpg"},
    }
    features = {"info": {"features": {"label": {"_type": "ClassLabel", "names": list(NAMES)}}}}
    where = table(
        tmp_path / "t.parquet",
        [forms[kind](b) for b in raw],
        [0, 1, 2] * 2,
        {"huggingface": json.dumps(features)},
    )
    dataset = load(images_train=where, size=16, test_share=0.5, generic_share=0)
    assert dataset.class_names == NAMES
    assert dataset.train["image"].labels.tolist() == [0, 1, 2]


def test_parquet_string_and_integer_labels(tmp_path: Path) -> None:
    raw = [pixels(c, tmp_path) for c in (0, 1)] * 2
    half = {"test_share": 0.5, "generic_share": 0}
    strings = load(images_train=table(tmp_path / "s.parquet", raw, ["no", "yes"] * 2), **half)
    assert strings.class_names == ("no", "yes")
    plain = load(images_train=table(tmp_path / "i.parquet", raw, [4, 7] * 2), **half)
    assert plain.class_names == ("4", "7")
    assert plain.test["image"].labels.tolist() == [0, 1]
    named = table(tmp_path / "n.parquet", raw, [1, 0] * 2, {"label_names": '["7", "3"]'})
    dataset = load(images_train=named, **half)
    assert dataset.class_names == ("7", "3")  # an integer is an index where the file has a list of names
    assert dataset.test["image"].labels.tolist() == [1, 0]


def test_parquet_complaints(tmp_path: Path) -> None:
    raw = [pixels(0, tmp_path)] * 2
    cut = table(tmp_path / "cut.parquet", raw, [0, 0])
    cut.write_bytes(cut.read_bytes()[:-40])
    no_label = tmp_path / "none.parquet"
    pq.write_table(pa.table({"image": raw, "klass": [0, 0]}), no_label)
    cases = [
        (cut, "not a complete parquet file"),
        (no_label, "no column 'label'. Its columns: image, klass"),
        (
            table(tmp_path / "float.parquet", raw, [0.5, 1.0]),
            "column 'label' is double, allowed: integer or string",
        ),
        (table(tmp_path / "null.parquet", raw, [0, None]), "row 1: no label"),
        (table(tmp_path / "blank.parquet", [raw[0], None], [0, 0]), "row 1: no picture"),
        (table(tmp_path / "bad.parquet", [raw[0], b"no picture"], [0, 0]), "bad.parquet row 1"),
        (table(tmp_path / "meta.parquet", raw, [0, 0], {"label_names": "{"}), "metadata cannot be read"),
        (
            table(tmp_path / "few.parquet", raw, [0, 2], {"label_names": '["a", "b"]'}),
            "row 1: unknown label '2'",
        ),
        (table(tmp_path / "zero.parquet", raw[:0], []), "no rows|allowed: integer"),
    ]
    for path, says in cases:
        with pytest.raises(BadInput, match=says):
            load(images_train=path, test_share=0.5)


def test_names_that_differ_by_an_underscore(tmp_path: Path) -> None:
    for name in ("a b", "a_b"):
        picture(tmp_path / "images" / name / "0.png", 0, 0)
        picture(tmp_path / "images" / name / "1.png", 0, 1)
    with pytest.raises(BadInput, match="differ only by case, space or underscore"):
        load(tmp_path)


@pytest.mark.parametrize("size", [32, 64])
def test_real_recipes(recipes: Path, size: int) -> None:
    from fedloom.data.registry import load_dataset

    few = {"classes": ["tacos", "hummus", "macaroni and cheese"], "per_class": 40}
    dataset = load_dataset("food101_recipes", recipes, size=size, **few)
    assert dataset.class_names == ("tacos", "hummus", "macaroni and cheese")
    assert {m: len(s) for m, s in dataset.train.items()} == {"image": 60, "text": 60}
    assert {m: len(s) for m, s in dataset.test.items()} == {"image": 120, "text": 105}
    assert dataset.public is not None
    assert dataset.public.images.shape == (60, size, size, 3)
    said = load_dataset("food101_recipes", recipes, size=size, confusion=0.0, **few).public
    assert said is not None
    for caption, label in zip(dataset.public.captions, said.names):
        assert 1 <= len(caption.split()) <= 12
        assert not set(caption.split()) & set(dataset.class_names[label].split())


def test_real_recipes_in_full(recipes: Path) -> None:
    from fedloom.data.registry import DATASETS, load_dataset

    dataset = load_dataset("food101_recipes", recipes, size=32, generic_share=0)
    assert dataset.classes == DATASETS["food101_recipes"].classes
    assert {m: len(s) for m, s in dataset.train.items()} == {"image": 8000, "text": 3812}
    assert {m: len(s) for m, s in dataset.test.items()} == {"image": 2000, "text": 984}
    assert (np.bincount(dataset.train["image"].labels) == 400).all()
    assert np.bincount(dataset.train["text"].labels)[[0, 2, 19]].tolist() == [100, 320, 99]


def test_dishes_are_pairs_of_one_dish(recipes: Path) -> None:
    from fedloom.data.registry import load_dataset
    from fedloom.tasks import ClientTask

    few = {"classes": ["tacos", "hummus", "macaroni and cheese"], "per_class": 40}
    apart = load_dataset("food101_recipes", recipes, size=32, generic_share=0, confusion=0, **few)
    dataset, again, other = (load_dataset("dishes", recipes, size=32, seed=seed, **few) for seed in (0, 0, 1))
    assert dataset.modalities == ("image", "text")
    assert dataset.public is None
    for part, n in (("train", 120), ("test", 105)):
        pairs, images, texts = (getattr(s, part) for s in (dataset, apart, apart))
        pairs = pairs[ClientTask.MULTIMODAL_CLASSIFICATION]
        label = {picture.tobytes(): c for picture, c in zip(images["image"].images, images["image"].labels)}
        of = dict(zip(texts["text"].texts, texts["text"].labels))
        shown, said = pairs.parts["image"], pairs.parts["text"]
        assert shown.shape == (n, 1, 32, 32, 3)
        assert [label[picture[0].tobytes()] for picture in shown] == pairs.labels.tolist() == [of[t] for t in said]
        assert len({picture.tobytes() for picture in shown}) == len(set(said)) == n
        assert said == getattr(again, part)[ClientTask.MULTIMODAL_CLASSIFICATION].parts["text"]
        assert said != getattr(other, part)[ClientTask.MULTIMODAL_CLASSIFICATION].parts["text"]
