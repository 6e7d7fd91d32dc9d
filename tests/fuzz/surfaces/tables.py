"""Texts and their labels in tables: CSV files of one's own, lists of classes, AG News."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from pathlib import Path
from random import Random
from typing import Any

from fedloom.data.containers import FederatedDataset, TextSet
from fedloom.data.registry import load_dataset
from fuzz.harness import Refused, Surface, Unsure
from fuzz.inputs import Input
from fuzz.truth import strict_json

WORDS = (
    "red",
    "rose, with thorns",
    'a "yellow" bud',
    "café",
    "naïve",
    "line\nbreak",
    "tulip",
    "e\u0301",
    "blue  sky",
    "1",
)
LABELS = ("rose", "tulip", "lily")


def told(scene: FederatedDataset) -> dict[str, Any]:
    """The texts of each part with the names of their classes, in order, and the classes."""
    found: dict[str, Any] = {"classes": list(scene.class_names)}
    for part in ("train", "test"):
        held: Any = getattr(scene, part)["text"]
        assert isinstance(held, TextSet)
        found[part] = [(text, scene.class_names[label]) for text, label in zip(held.texts, held.labels.tolist())]
    return found


def table(rows: list[list[str]], rng: Random | None = None) -> bytes:
    """Rows as a CSV file, quoted where needed or everywhere."""
    out = io.StringIO()
    quoting = csv.QUOTE_ALL if rng is not None and rng.random() < 0.3 else csv.QUOTE_MINIMAL
    csv.writer(
        out, lineterminator="\r\n" if rng is not None and rng.random() < 0.5 else "\n", quoting=quoting
    ).writerows(rows)
    return out.getvalue().encode()


def rows_of(data: Any) -> list[list[str]]:
    """The rows of a CSV file, without empty ones; Refused where it is none."""
    if not isinstance(data, bytes):
        raise Refused("no file")
    try:
        text = data.decode("utf-8-sig")
        if "\0" in text:
            raise Refused("a NUL byte")
        csv.field_size_limit(10_000_000)
        return [
            row
            for row in csv.reader(io.StringIO(text, newline=""), strict=True)
            if "".join(row).strip() or len(row) > 1
        ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise Refused("no CSV in UTF-8") from error


def plain(text: str) -> bool:
    """Whether nothing about a name depends on rules of Unicode."""
    return not any(unicodedata.category(c) in ("Cf", "Cc", "Cs", "Zs", "Zl", "Zp") and c not in " " for c in text)


def seen(text: str) -> bool:
    """Whether there is anything to see in a text: a byte-order mark is not."""
    return any(unicodedata.category(c) != "Cf" and not c.isspace() for c in text)


def one_space(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).replace("_", " ").split())


# ---------------------------------------------------------------------------------------------------- one's own texts


def draw_texts(rng: Random) -> Input:
    """Two CSV files with a header, the columns in some order."""
    columns = rng.sample(["text", "label", "id"], 3)
    files: dict[str, Any] = {}
    for part in ("train", "test"):
        rows = [{"text": f"{rng.choice(WORDS)} {i}", "label": LABELS[i % 3], "id": str(i)} for i in range(6)]
        files[f"texts_{part}.csv"] = table([columns, *([row[c] for c in columns] for row in rows)], rng)
    if rng.random() < 0.3:
        files["labels.json"] = json.dumps(rng.sample(LABELS, 3)).encode()
    return Input(files)


def read_texts(folder: Path, given: Input) -> Any:
    return told(load_dataset("folder", folder, generic_share=0.0))


def true_texts(folder: Path, given: Input) -> Any:
    """Rows as a plain CSV reader gives them; a class for each label, or as labels.json says."""
    if set(given.files) - {"texts_train.csv", "texts_test.csv", "labels.json"} or "texts_test.csv" not in given.files:
        raise Unsure  # other files may be parts too, and what is missing is held out
    parts = {}
    for part in ("train", "test"):
        header, *rows = rows_of(given.files[f"texts_{part}.csv"])
        header = [name.strip() for name in header]
        if not all(map(plain, header)) or header.count("text") != 1 or header.count("label") != 1:
            raise Unsure if not all(map(plain, header)) or len(header) == 1 else Refused("the header")
        text, label = header.index("text"), header.index("label")
        rows = [row for row in rows if any(map(seen, row))]
        if any(len(row) != len(header) for row in rows):
            surplus = all(
                len(row) == len(header) or (len(row) == len(header) + 1 and not row[-1].strip()) for row in rows
            )
            raise Unsure if surplus else Refused("a row of another number of fields")
        full = [(row[text].strip(), row[label].strip()) for row in rows if len(row) == len(header) and seen(row[text])]
        if not all(name for _, name in full):
            raise Refused("an empty label")
        parts[part] = full
    names = sorted({name for _, name in parts["train"]}, key=lambda n: (not n.isdecimal(), n))
    if not all(plain(name) and one_space(name) == name for _, name in (*parts["train"], *parts["test"])):
        raise Unsure
    if "labels.json" in given.files:
        names = strict_json(given.files["labels.json"], halves=True, own=True)  # type: ignore[arg-type]
        if not isinstance(names, list) or not all(map(plain, names)):
            raise Unsure
    if any(name.isdecimal() for name in (*names, *(n for full in parts.values() for _, n in full))):
        raise Unsure
    at = {name.lower(): one_space(name) for name in names}
    if len(at) < len(names):
        raise Refused("two classes that differ by case alone")
    return {
        "classes": [one_space(n) for n in names],
        **{part: [(text, at[name.lower()]) for text, name in full] for part, full in parts.items()},
    }


def draw_list(rng: Random) -> Input:
    """A list of classes in one of its forms, and texts with numbers for labels."""
    names = rng.sample(["rose", "red tulip", "café", "lily_of_the_valley"], 3)
    forms: tuple[tuple[str, bytes], ...] = (
        ("classes.json", json.dumps(names).encode()),
        ("classes.json", json.dumps({str(i): n for i, n in enumerate(names)}).encode()),
        ("classes.json", json.dumps({n: i for i, n in enumerate(names)}).encode()),
        ("classes.txt", "\n".join(names).encode() + b"\n"),
    )
    name, data = rng.choice(forms)
    rows = [[f"word {i}", str(i % 3)] for i in range(6)]
    file = table([["text", "label"], *rows])
    return Input({name: data, "texts_train.csv": file, "texts_test.csv": file}, {"list": name})


def read_list(folder: Path, given: Input) -> Any:
    return told(load_dataset("folder", folder, labels_file=given.options["list"], generic_share=0.0))


def true_list(folder: Path, given: Input) -> Any:
    """Numbers count the names of the list from 0."""
    if set(given.files) != {given.options["list"], "texts_train.csv", "texts_test.csv"}:
        raise Unsure  # other files may be parts too, and what is missing is held out
    data: Any = given.files[given.options["list"]]
    if given.options["list"].endswith(".txt"):
        text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        names: Any = [line.strip() for line in text.rstrip().split("\n")]
    else:
        names = strict_json(data, own=True)
        if isinstance(names, dict):
            by_number = {k: n for n, k in names.items()} if all(type(v) is int for v in names.values()) else names
            by_number = {int(k): n for k, n in by_number.items()}
            names = [by_number[i] for i in range(len(names))]
    names = [one_space(name) if plain(name) else _unsure() for name in names]
    if not all(names) or len({n.lower() for n in names}) < len(names):
        raise Refused("a name that is empty or twice")
    if any(n.isdecimal() for n in names):
        raise Unsure
    found: dict[str, Any] = {"classes": names}
    for part in ("train", "test"):
        header, *rows = rows_of(given.files[f"texts_{part}.csv"])
        if header != ["text", "label"] or not all(len(row) == 2 and row[1] in ("0", "1", "2") for row in rows):
            raise Unsure
        found[part] = [(text.strip(), names[int(label)]) for text, label in rows if seen(text)]
    return found


def _unsure() -> Any:
    raise Unsure


# ------------------------------------------------------------------------------------------------------------- AG News


def draw_news(rng: Random) -> Input:
    files: dict[str, Any] = {"classes.txt": b"World\nSports\nBusiness\nSci/Tech\n"}
    for part in ("train", "test"):
        rows = [[str(i % 4 + 1), f"Title {rng.choice(WORDS)}", f"says {i}"] for i in range(8)]
        files[f"{part}.csv"] = table(rows, rng)
    return Input(files)


def read_news(folder: Path, given: Input) -> Any:
    return told(load_dataset("ag_news", folder, cleaned=False, generic_share=0.0))


def true_news(folder: Path, given: Input) -> Any:
    """Three fields: class from 1, title, description."""
    if "classes.txt" in given.files:
        text: Any = given.files["classes.txt"]
        lines = text.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").rstrip().split("\n")
    else:
        lines = ["World", "Sports", "Business", "Sci/Tech"]
    names = [one_space(line) if plain(line) else _unsure() for line in lines]
    if not all(names) or len({n.lower() for n in names}) < len(names):
        raise Refused("a name that is empty or twice")
    found: dict[str, Any] = {"classes": names}
    for part in ("train", "test"):
        rows = rows_of(given.files[f"{part}.csv"])
        if rows and rows[0][0].strip() == "Class Index":
            raise Unsure
        if any(len(row) == 4 and not row[3].strip() for row in rows):
            raise Unsure
        if not all(len(row) == 3 and re.fullmatch(r"[1-9]\d?", row[0].strip(), re.ASCII) for row in rows):
            raise Refused("a row")
        texts = [(f"{row[1]} {row[2]}".strip(), names[int(row[0]) - 1]) for row in rows]
        found[part] = [(text, name) for text, name in texts if text]
    return found


SURFACES = (
    Surface("texts in CSV", draw_texts, read_texts, true_texts, share=2),
    Surface("class lists", draw_list, read_list, true_list),
    Surface("ag_news", draw_news, read_news, true_news),
)
