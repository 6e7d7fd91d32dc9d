"""AG News from a miniature of its official CSV files, with the leftovers that the real ones have."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from conftest import SLICES
from fedloom.data.containers import FederatedDataset, TextSet
from fedloom.data.datasets import ag_news
from fedloom.data.datasets.ag_news import NAMES, clean
from fedloom.errors import BadInput

load = partial(ag_news.load, generic_share=0.0)  # all training texts are the clients'

TRAIN = r""""3","Fears for T N pension, after talks","Unions say they are ""disappointed"" with AT amp;T."
"4","Apple #39;s iPod","Up to \$1,000,  #151; said\analysts\\"
"1","Zażółć gęślą 東京","&lt;A HREF=""x?a=1&amp;b=2""&gt;Reuters&lt;/A&gt; - A  quot;storm quot;, 3 &lt; 4"
"2","",""
"2","No description","   "
"2","  <br> ","\\"
"2","A description
on two lines","ends with a backslash\"
"""
TEST = """"1","Peace","Talks"
"2","Goal","Match"
"3","Shares","Fall"
"4","Moon","Probe"
"""


@pytest.fixture
def news(tmp_path: Path) -> Path:
    (tmp_path / "train.csv").write_text(TRAIN, encoding="utf-8")
    (tmp_path / "test.csv").write_text(TEST, encoding="utf-8")
    (tmp_path / "classes.txt").write_text("\n".join(NAMES) + "\n")
    return tmp_path


def texts(dataset: FederatedDataset, part: str = "train") -> TextSet:
    samples = getattr(dataset, part)["text"]
    assert isinstance(samples, TextSet)
    return samples


def test_rows(news: Path) -> None:
    dataset = load(news)
    assert dataset.class_names == ("World", "Sports", "Business", "Sci/Tech")
    assert texts(dataset).texts == (
        'Fears for T N pension, after talks Unions say they are "disappointed" with AT&T.',
        "Apple's iPod Up to $1,000, — said analysts",
        'Zażółć gęślą 東京 Reuters - A "storm", 3 < 4',
        "No description",
        "A description on two lines ends with a backslash",
    )
    assert texts(dataset).labels.tolist() == [2, 3, 0, 1, 1]
    assert texts(dataset, "test").labels.tolist() == [0, 1, 2, 3]
    assert dataset.notes["empty_texts"] == 2
    assert set(dataset.train) == set(dataset.test) == {"text"}
    assert dataset.public is None


def test_as_written(news: Path) -> None:
    dataset = load(news, cleaned=False)
    assert texts(dataset).texts[1] == r"Apple #39;s iPod Up to \$1,000,  #151; said\analysts" + 2 * "\\"
    assert texts(dataset).texts[4] == "<br>  " + 2 * "\\"  # a row of leftovers has something in it
    assert dataset.notes["empty_texts"] == 1


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("", ""),
        ("plain words", "plain words"),
        ("#39;Twas", "'Twas"),
        ("Dogs #39; bones", "Dogs' bones"),
        ("a&amp;lt;b&amp;gt;c", "a c"),
        ("R&D; Q&A &nosuch; 5 < 6 > 2", "R&D; Q&A &nosuch; 5 < 6 > 2"),
        ("&copy of &lt", "&copy of &lt"),  # without a semicolon they are text
        ("see http://a.b/?x=1&parameter=2", "see http://a.b/?x=1&parameter=2"),
        ("&#8217;", "\u2019"),
        ("a\u00a0b", "a b"),
        ("<" * 5000, "<" * 5000),
    ],
)
def test_clean(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned
    assert clean(cleaned) == cleaned


def test_other_places_and_a_header(news: Path) -> None:
    want = load(news)
    (news / "AG_NEWS").mkdir()
    for name in ("train.csv", "test.csv"):
        text = (news / name).read_text(encoding="utf-8")
        (news / "AG_NEWS" / name).write_text("\ufeffClass Index,Title,Description\n" + text, encoding="utf-8")
        (news / name).unlink()
    (news / "classes.txt").unlink()
    found = load(news)
    assert texts(found).texts == texts(want).texts
    assert found.class_names == want.class_names


def test_classes_and_cap(news: Path) -> None:
    dataset = load(news, classes=["sci/tech", "sports"], per_class=1)
    assert dataset.class_names == ("Sci/Tech", "Sports")
    assert sorted(texts(dataset).labels.tolist()) == [0, 1]
    assert texts(dataset, "test").texts == ("Goal Match", "Moon Probe")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ('"5","a","b"', r"test\.csv row 5: class '5', allowed: 1 to 4"),
        ('"0","a","b"', "class '0', allowed: 1 to 4"),
        ('"","a","b"', "class '', allowed: 1 to 4"),
        ('"²","a","b"', "class '²', allowed"),
        ('"World","a","b"', "class 'World', allowed"),
        ('"' + "9" * 6000 + '","a","b"', "class '9999"),
        ("1,one, two,three", "row 5: 4 fields, expected 3: class, title, description"),
        ('"1","only a title"', "row 5: 2 fields"),
        ('"1","a","never closed', r"test\.csv: not CSV after row 4"),
        ('"1","a","b"x', r"test\.csv: not CSV after row 4"),
    ],
)
def test_complaints_of_rows(news: Path, row: str, says: str) -> None:
    (news / "test.csv").write_text(TEST + row + "\n", encoding="utf-8")
    with pytest.raises(BadInput, match=says) as caught:
        load(news)
    assert len(str(caught.value)) < 300 + len(str(news))


def test_complaints_of_files(news: Path) -> None:
    (news / "test.csv").write_bytes(b'"1","caf\xe9","b"\n')
    with pytest.raises(BadInput, match=r"not UTF-8 text at row 1, byte 8 \(0xe9\).*Windows-1252.*'café'"):
        load(news)
    (news / "test.csv").write_text("")
    with pytest.raises(BadInput, match="ag_news: no test texts"):
        load(news)
    (news / "test.csv").unlink()
    with pytest.raises(BadInput, match=r"test\.csv: there is no such file. Expected layout: train\.csv"):
        load(news)
    (news / "train.csv").unlink()
    with pytest.raises(BadInput, match=r"no train\.csv. Expected layout"):
        load(news)


def test_the_real_slice() -> None:
    root = SLICES / "ag_news"
    if not root.is_dir():
        pytest.skip(f"real data slice not found: {root} (set FEDLOOM_TEST_DATA)")
    dataset = load(root)
    assert np.bincount(texts(dataset).labels).tolist() == [1500] * 4
    assert np.bincount(texts(dataset, "test").labels).tolist() == [400] * 4
    assert dataset.notes["empty_texts"] == 0
    assert not [t for t in texts(dataset).texts if "\\" in t or "#39;" in t or "</" in t]
