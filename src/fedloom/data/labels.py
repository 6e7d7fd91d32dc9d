"""From labels as people write them to indices into one list of classes.

A label is a class name (see `names`), or a number that counts the classes of the list from 0, where their own names are
no numbers. A file that has a list of its own (a parquet file's metadata) counts those; they are names when they get
here, so that two files may have their lists in different order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedloom.data.assemble import Listing
from fedloom.data.io.files import read_json, read_names
from fedloom.data.io.raw import Raw
from fedloom.data.names import alike, by_name, check_name, merged, numeric, position, spelled
from fedloom.errors import BadInput, unknown

SHOWN = 10  # numbers that a note spells out


@dataclass(frozen=True)
class Classes:
    """The list of all classes, in order of index.

    source: the file or folder it is from; given: whether it is a list, which numbers may count, or was gathered from
    the labels themselves.
    """

    names: tuple[str, ...]
    source: str
    given: bool = True


def class_list(path: Path) -> tuple[str, ...]:
    """Class names of a file: a JSON list, a JSON object of index to name or of name to index, or a name a line.

    Raises:
        BadInput: there is no such file, it holds something else, or a name that is empty or given twice.
    """
    if not path.is_file():
        raise BadInput(f"{path}: there is no such labels file")
    if path.suffix.lower() != ".json":
        return tuple(map(spelled, read_names(path)))
    content = read_json(path)
    names = _in_order(content) if isinstance(content, dict) else content
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise BadInput(
            f"{path}: expected a list of class names, or an object of 0, 1, ... to names or names to 0, 1, ..."
        )
    by_name(names, str(path))
    return tuple(map(spelled, names))


def _in_order(content: Mapping[str, Any]) -> list[Any] | None:
    """The names of an object of index to name, or of name to index; None where the indices are not 0, 1, ..."""
    if all(type(value) is int for value in content.values()):
        content = {str(index): name for name, index in content.items()}
    indices = {position(key) for key in content}
    if len(indices) < len(content) or indices != set(range(len(content))):
        return None
    return [content[str(index)] for index in range(len(content))]


def classes_of(labels_file: Path | None, beside: Sequence[Path], raws: Mapping[str, Raw]) -> Classes:
    """The list of all classes: labels_file, a labels.json beside the data, the data's own list; else gathered from the
    training labels of the first modality.

    Args:
        labels_file: as given.
        beside: folders that may hold labels.json.
        raws: what was read, by a name for messages, training parts only.
    """
    if labels_file is not None:
        return Classes(class_list(labels_file), str(labels_file))
    files = dict.fromkeys(folder / "labels.json" for folder in beside)
    if lists := {file: class_list(file) for file in files if file.is_file()}:
        (first, names), *others = lists.items()
        for file, other in others:
            if list(map(alike, other)) != list(map(alike, names)):
                raise BadInput(f"{first} and {file}: not the same names in the same order. Say which in labels_file")
        return Classes(names, str(first))
    for where, raw in raws.items():
        if raw.names is not None:
            by_name(raw.names, where)
            return Classes(tuple(map(spelled, raw.names)), where)
    where, raw = next(iter(raws.items()))
    return Classes(merged(_spellings(raw)), where, given=False)


def _spellings(raw: Raw) -> list[str]:
    """The labels that occur, each once. BadInput, with both places, where one is written in two visible ways."""
    first: dict[str, int] = {}
    for label, n in _first(raw.written).items():
        check_name(label, f"{raw.places[n]}: the label")
        if (i := first.setdefault(alike(label), n)) != n and spelled(label) != spelled(str(raw.written[i])):
            raise BadInput(
                f"{raw.places[n]}: label {label!r}, but {raw.written[i]!r} in {raw.places[i]}: they differ only by "
                "case, space or underscore. Write it in one way, or list the classes in labels.json"
            )
    return list(_first(raw.written))


def _first(labels: Sequence[str | int]) -> dict[str, int]:
    """Where each label occurs first."""
    found: dict[str, int] = {}
    for n, label in enumerate(labels):
        found.setdefault(str(label), n)
    return found


def encode(raw: Raw, classes: Classes, where: str) -> tuple[Listing, str | None]:
    """The samples with their labels as indices into `classes`, and a line on what numbers were taken for, or None.

    Raises:
        BadInput: a label that is empty, on no list or out of range, with its place.
    """
    at = {alike(name): i for i, name in enumerate(classes.names)}
    index: dict[str, int] = {}
    counted: set[int] = set()
    for label, n in _first(raw.written).items():
        check_name(label, f"{raw.places[n]}: the label")
        if (i := at.get(alike(label))) is None:
            counted.add(i := _counting(label, classes, raw.places[n]))
        index[label] = i
    labels = np.array([index[str(label)] for label in raw.written], dtype=np.int64)
    return Listing(raw.items, labels, raw.places, raw.ids), _said(where, classes, counted) if counted else None


def _counting(label: str, classes: Classes, place: str) -> int:
    """The index that a label is which is no name. BadInput: it is none."""
    C = len(classes.names)
    countable = classes.given and not any(map(numeric, classes.names))
    number = position(label) if countable else None
    if number is not None and number < C:
        return number
    also = f" Or an index 0..{C - 1}." if countable else ""
    if number == C:
        also += " Numbers count from 0: where yours count from 1, write the names."
    raise BadInput(
        f"{place}: {unknown('label', label, classes.names)}{also} The classes are those of {classes.source}."
    )


def _said(where: str, classes: Classes, counted: set[int]) -> str:
    """What the numbers in a file were taken for."""
    shown = [f"{i} = {classes.names[i]}" for i in sorted(counted)]
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    absent = "" if 0 in counted else f"; none is 0 = {classes.names[0]}: if they count from 1, write the names instead"
    return (
        f"{where}: labels are numbers, counted from 0 in the classes of {classes.source}: "
        f"{', '.join(shown[:SHOWN])}{more}{absent}"
    )
