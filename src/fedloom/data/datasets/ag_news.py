r"""AG News (Zhang, Zhao and LeCun, 2015): news items of four topics, title and description.

The official CSV files went through a web page and a database before they were published, and show it: ` #39;` is an
apostrophe whose ampersand became a blank, `&lt;b&gt;` is a tag, a backslash is a line break, `\$` is a dollar sign.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedloom.data.assemble import Listing, Reading, assemble
from fedloom.data.containers import FederatedDataset
from fedloom.data.io.files import need_file, need_folder, read_names
from fedloom.data.io.tables import read_fields
from fedloom.data.options import takes
from fedloom.data.registry import Dataset
from fedloom.errors import BadInput
from fedloom.tasks import ClientTask

LAYOUT = (
    "train.csv and test.csv (no header; class 1 to 4, title, description) and classes.txt, "
    "in the folder itself, in AG_NEWS/ or in ag_news_csv/"
)
NAMES = ("World", "Sports", "Business", "Sci/Tech")
LOST = re.compile(r"(?:\s|^)(#\d{1,5}|quot|amp|lt|gt|nbsp);")  # exactly one blank was the ampersand
ENTITY = re.compile(r"&(?:#\d{1,5}|#x[0-9A-Fa-f]{1,4}|[A-Za-z]{2,8}\d?);")
TAG = re.compile(r"<[A-Za-z/!][^<>]*>")


def clean(text: str) -> str:
    r"""The text without leftovers: entities are characters, tags and backslashes blanks, blanks single.

    `Apple #39;s \$5` is `Apple's $5`; `AT amp;T` is `AT&T`; `powerful\winds` is `powerful winds`.
    """
    text = text.replace("\\$", "$").replace("\\", " ")
    text = LOST.sub(r"&\1;", text)
    for _ in range(2):  # `&amp;lt;b&amp;gt;` occurs
        text = ENTITY.sub(lambda found: html.unescape(found[0]), text)
    return " ".join(TAG.sub(" ", text).split())


def _folder(root: str | Path) -> Path:
    base = need_folder(root, LAYOUT)
    for folder in (base, base / "AG_NEWS", base / "ag_news_csv"):
        if (folder / "train.csv").is_file():
            return folder
    raise BadInput(f"{base}: no train.csv. Expected layout: {LAYOUT}")


def _list(path: Path, names: Sequence[str], cleaned: bool, notes: dict[str, int]) -> Listing:
    """The rows of a part; those without a word are counted and left out."""
    texts: list[str] = []
    labels: list[int] = []
    places: list[str] = []
    for number, row in read_fields(path, ("class", "title", "description"), filled=False):
        if number == 1 and row[0].strip() == "Class Index":  # the header of a copy in circulation
            continue
        index = row[0].strip()
        if not (index.isascii() and index.isdecimal() and len(index) < 5 and 1 <= int(index) <= len(names)):
            raise BadInput(f"{path} row {number}: class {index[:40]!r}, allowed: 1 to {len(names)}")
        text = f"{row[1]} {row[2]}"
        text = clean(text) if cleaned else text.strip()
        if not text:
            notes["empty_texts"] += 1
            continue
        texts.append(text)
        labels.append(int(index) - 1)
        places.append(f"{path} row {number}")
    ids = [place.rpartition(" row ")[2] for place in places]
    return Listing(texts, np.array(labels, dtype=np.int64), places, ids)


@takes(Reading, {"size": 32, "confusion": 0.0, "on_bad": "error", "range": None}, generic_share=0.3)
def load(
    root: str | Path,
    *,
    cleaned: bool = True,
    reading: Reading,
) -> FederatedDataset:
    """Read AG News: the text modality, official train and test parts (120 000 and 7 600), rows in file order.

    Args:
        root: the folder that holds train.csv, test.csv and classes.txt, or AG_NEWS/ or ag_news_csv/ with them.
            Without classes.txt the four classes have their official names.
        cleaned: mend what the publication did to the texts, see `clean`; False: as they are in the file.

    Returns:
        The data set: texts are title, blank, description; labels are class - 1. The public part is of texts
        alone. `notes` counts `empty_texts`, rows without a word, which are left out.

    Raises:
        BadInput: a folder or file is missing; a row is not CSV, not of three fields, or of a class out of range
            (with its number, from 1).
    """
    folder = _folder(root)
    named = folder / "classes.txt"
    names = tuple(read_names(named)) if named.is_file() else NAMES
    notes = {"empty_texts": 0}
    train, test = (
        {ClientTask.TEXT_CLASSIFICATION: _list(need_file(folder / f"{part}.csv", LAYOUT), names, cleaned, notes)}
        for part in ("train", "test")
    )
    return assemble("ag_news", names, train, test, reading, notes=notes)


DATASET = Dataset(
    name="ag_news",
    summary="AG News: 120 000 train and 7600 test news items of four topics",
    load=load,
    tasks=(ClientTask.TEXT_CLASSIFICATION,),
    classes=4,
    layout=LAYOUT,
    source="http://groups.di.unipi.it/~gulli/AG_corpus_of_news_articles.html (Zhang et al. 2015)",
    licence="non-commercial use: see the data set's page",
    samples={ClientTask.TEXT_CLASSIFICATION: (120000, 7600)},
)
