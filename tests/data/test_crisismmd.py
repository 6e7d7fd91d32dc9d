"""CrisisMMD from a miniature of its layout, with the tweets that trip readers up."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import picture, truncate
from fedloom.data.containers import FederatedDataset
from fedloom.data.datasets.crisismmd import CLASSES, clean, load
from fedloom.data.joint import MultimodalSamples
from fedloom.errors import BadInput

KEYS = ("event_name", "tweet_id", "image_id", "tweet_text", "image", "label")  # all there are of damage
HEADER = (*KEYS, "label_text", "label_image", "label_text_image")
SMALL: dict[str, Any] = {"size": 16}
Row = tuple[str, str, str, str]  # tweet, label, label_text, label_image
NOT, INF = CLASSES["informative"]
INFORMATIVE: dict[str, list[Row]] = {
    "train": [
        ('RT @a: "Bridge down #Maria', INF, INF, INF),  # one quote only
        ("Please help http://t.co/ab1 in #SanJuan", INF, INF, NOT),  # a link in the middle
        ("Nice day", NOT, INF, NOT),
        ("https://t.co/xyz", NOT, NOT, NOT),  # nothing but a link
        ('No one "here"', NOT, NOT, "dont_know_or_cant_judge"),
    ],
    "dev": [("Water is rising", INF, INF, INF)],
    "test": [("Roads closed", INF, INF, INF), ("My cat", NOT, NOT, NOT)],
}
HUMANITARIAN: dict[str, list[Row]] = {
    "train": [(f"post {n}", name, name, name) for n, name in enumerate(CLASSES["humanitarian"])],
    "dev": [("post 8", "vehicle_damage", "vehicle_damage", "vehicle_damage")],
    "test": [(f"post {n}", name, name, name) for n, name in enumerate(CLASSES["humanitarian"][:3])],
}


def write(root: Path, task: str, parts: dict[str, list[Row]], agreed: bool = False, short: bool = False) -> None:
    """The lists of a task, with pictures. short: no columns after `label`, as of damage."""
    name = "crisismmd_datasplit_agreed_label" if agreed else "crisismmd_datasplit_all"
    folder = root / name / name  # as the archive unpacks
    folder.mkdir(parents=True, exist_ok=True)
    for p, (part, rows) in enumerate(parts.items()):
        lines = ["\t".join(KEYS if short else HEADER)]
        for n, (tweet, label, of_text, of_image) in enumerate(rows):
            image_id = f"90{p}{n:03d}_{n % 2}"
            file = f"data_image/hurricane_maria/2{p}_9_2017/{image_id}.jpg"
            picture(root / file, n % 4, n, "L" if n == 1 else "RGB")
            row = ["hurricane_maria", f"90{p}{n:03d}", image_id, tweet, file, label]
            lines.append("\t".join(row if short else [*row, of_text, of_image, "Positive"]))
        stem = f"task_{task}_text_img_" + ("agreed_lab_" if agreed else "")
        (folder / f"{stem}{part}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, "informative", INFORMATIVE)
    return tmp_path


def joint(dataset: FederatedDataset, part: str = "train") -> MultimodalSamples:
    samples = getattr(dataset, part)["joint"]
    assert isinstance(samples, MultimodalSamples)
    return samples


def test_informative(root: Path) -> None:
    dataset = load(root, **SMALL)
    assert dataset.name == "crisismmd"
    assert dataset.class_names == ("not informative", "informative")  # 0 and 1, as in C.5
    assert dataset.modalities == ("image", "text")
    train = joint(dataset)
    assert train.labels.tolist() == [1, 1, 0, 0, 0]
    assert joint(dataset, "test").labels.tolist() == [1, 0]
    assert train.ids[:2] == ("900000_0", "900001_1")
    images = train.parts["image"]
    assert isinstance(images, np.ndarray)
    assert images.shape == (5, 1, 16, 16, 3)
    assert train.parts["text"] == (
        '@a: "Bridge down Maria',
        "Please help in SanJuan",
        "Nice day",
        "",
        'No one "here"',
    )
    assert train.present["text"].tolist() == [True, True, True, False, True]
    assert train.present["image"].all()
    assert dataset.notes["empty_texts"] == 1
    raw = joint(load(root, **SMALL, cleaned=False)).parts["text"]
    assert raw == tuple(row[0] for row in INFORMATIVE["train"])


def test_dev_and_labels_of_one_kind(root: Path) -> None:
    with_dev = load(root, **SMALL, use_dev=True)
    assert joint(with_dev).ids[-1] == "901000_0"
    assert len(joint(with_dev)) == 6
    assert joint(load(root, **SMALL, label="text")).labels.tolist() == [1, 1, 1, 0, 0]
    of_images = load(root, **SMALL, label="image")
    assert joint(of_images).labels.tolist() == [1, 0, 0, 0]
    assert of_images.notes["unjudged"] == 1


def test_humanitarian(root: Path) -> None:
    write(root, "humanitarian", HUMANITARIAN)
    write(root, "humanitarian", {p: rows[:2] for p, rows in HUMANITARIAN.items()}, agreed=True)
    whole = load(root, **SMALL, task="humanitarian")
    assert whole.class_names == tuple(name.replace("_", " ") for name in CLASSES["humanitarian"])
    assert joint(whole).labels.tolist() == list(range(8))
    merged = load(root, **SMALL, task="humanitarian", merged=True)
    assert merged.class_names == (
        "infrastructure and utility damage",
        "not humanitarian",
        "other relevant information",
        "rescue volunteering or donation effort",
        "affected individuals",
    )
    assert joint(merged).labels.tolist() == [0, 1, 2, 3, 0, 4, 4, 4]
    agreed = load(root, **SMALL, task="humanitarian", split="agreed")
    assert (len(joint(agreed)), len(joint(agreed, "test"))) == (2, 2)
    few = load(root, **SMALL, task="humanitarian", classes=["not_humanitarian", "other relevant information"])
    assert joint(few).ids == ("900001_1", "900002_0")
    assert joint(few, "test").labels.tolist() == [0, 1]


def test_damage(root: Path) -> None:
    names = CLASSES["damage"]
    rows = [("t", name, "", "") for name in (*names, "dont_know_or_cant_judge")]
    write(root, "damage", {"train": rows, "dev": rows[:1], "test": rows[:3]}, short=True)
    for label in ("joint", "image"):
        dataset = load(root, **SMALL, task="damage", label=label)
        assert dataset.class_names == ("little or no damage", "mild damage", "severe damage")
        assert joint(dataset).labels.tolist() == [0, 1, 2]
        assert dataset.notes["unjudged"] == 1
    with pytest.raises(BadInput, match="label='text': damage was judged from pictures only"):
        load(root, task="damage", label="text")


def test_missing_and_broken_pictures(root: Path) -> None:
    folder = root / "data_image" / "hurricane_maria" / "20_9_2017"
    gone = folder / "900002_0.jpg"
    gone.unlink()
    with pytest.raises(BadInput, match=r"train\.tsv line 4: no picture .*900002_0\.jpg\. \(on_bad='skip'"):
        load(root, **SMALL)
    broken = truncate(picture(folder / "900003_1.jpg", 0, 0, side=(64, 64)))
    dataset = load(root, **SMALL, on_bad="skip")
    assert joint(dataset).ids == ("900000_0", "900001_1", "900004_0")
    assert joint(dataset).labels.tolist() == [1, 1, 0]
    assert dataset.notes["missing_images"] == dataset.notes["unreadable_images"] == 1
    assert dataset.notes["missing_examples"] == [str(gone)]
    assert dataset.notes["unreadable_examples"] == [str(broken)]
    shutil.rmtree(folder)
    with pytest.raises(BadInput, match="crisismmd: none of 5 train posts of the chosen classes has a readable"):
        load(root, **SMALL, on_bad="skip")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("e\t1\t1_0\ttext", r"test\.tsv line 4: 4 fields, the header has 9"),
        ("e\t1\t1_0\ta\ttab\tx.jpg\tinformative\t\t\t", r"line 4: 10 fields"),
        (
            "e\t1\t1_0\ttext\tx.jpg\tinformativ\t\t\t",
            r"line 4: unknown label 'informativ'\. Did you mean 'informative'",
        ),
        (
            "e\t1\t1_0\ttext\t../x.jpg\tinformative\t\t\t",
            r"line 4: file name '\.\./x\.jpg', expected one inside",
        ),
    ],
)
def test_lines_that_are_wrong(root: Path, line: str, says: str) -> None:
    name = "crisismmd_datasplit_all"
    with (root / name / name / "task_informative_text_img_test.tsv").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(BadInput, match=says):
        load(root, **SMALL)


def test_what_is_not_there_or_not_allowed(root: Path) -> None:
    with pytest.raises(BadInput, match=r"crisismmd_datasplit_agreed_label: there is no such folder\. Expected layout"):
        load(root, split="agreed")
    with pytest.raises(BadInput, match=r"task_damage_text_img_train\.tsv: there is no such file\. Expected layout"):
        load(root, task="damage")
    for options, says in (
        ({"task": "inform"}, "unknown task 'inform'. Did you mean 'informative'"),
        ({"split": "agree"}, "unknown split 'agree'. Did you mean 'agreed'"),
        ({"label": "images"}, "unknown label 'images'. Did you mean 'image'"),
        ({"merged": True}, "merged=True is of task='humanitarian', not 'informative'"),
        ({"size": 2}, "size=2, allowed"),
    ):
        with pytest.raises(BadInput, match=says):
            load(root, **options)
    write(root, "informative", INFORMATIVE, short=True)
    with pytest.raises(
        BadInput, match=r"no column 'label_text'\. Did you mean 'label'\? Its columns: event_name, tweet_id"
    ) as complaint:
        load(root, label="text")
    assert "\n" not in str(complaint.value)
    shutil.rmtree(root / "data_image")
    with pytest.raises(BadInput, match="data_image: there is no such folder"):
        load(root)


@pytest.mark.parametrize(
    ("tweet", "want"),
    [
        ("RT @a: see http://t.co/x now #Maria", "@a: see now Maria"),
        ("ART is here: RT if you can", "ART is here: RT if you can"),
        ('He said "https://t.co/ab" twice', 'He said " " twice'),
        ("now…https://t.co/a…", "now…"),
        ("two  https://a.b/c?d=e#f\nlines http://g.h", "two lines"),
    ],
)
def test_clean(tweet: str, want: str) -> None:
    assert clean(tweet) == want
