"""Food-101 (Bossard et al., ECCV 2014) in its official layout: photographs of 101 dishes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedloom.data.assemble import Listing, Reading, assemble
from fedloom.data.captioned import inside
from fedloom.data.containers import FederatedDataset
from fedloom.data.io.files import need_file, need_folder, read_json, read_lines, read_names
from fedloom.data.names import composed
from fedloom.data.options import takes
from fedloom.data.registry import Dataset
from fedloom.errors import BadInput, unknown
from fedloom.tasks import ClientTask

LAYOUT = "images/<class>/<id>.jpg, meta/classes.txt, meta/train.txt and meta/test.txt (or .json)"


def _entries(meta: Path, part: str) -> tuple[Path, list[str]]:
    """The `<class>/<id>` entries of a part: of its .txt, else of its .json (class to list of entries)."""
    text = meta / f"{part}.txt"
    if text.is_file():
        return text, read_lines(text)
    path = need_file(meta / f"{part}.json", LAYOUT)
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(v, list) for v in content.values()):
        raise BadInput(f"{path}: expected an object of class to list of <class>/<id>")
    for name, entries in content.items():
        for entry in entries:
            if not isinstance(entry, str) or composed(entry.partition("/")[0]) != composed(name):
                raise BadInput(f"{path}: entry {str(entry)[:60]!r} in the list of {name!r}")
    return path, [entry for entries in content.values() for entry in entries]


def _list(root: Path, part: str, names: Sequence[str]) -> Listing:
    path, entries = _entries(root / "meta", part)
    at = {composed(name): i for i, name in enumerate(names)}
    entries = sorted(map(composed, entries))
    for entry in entries:
        name = entry.partition("/")[0]
        if name not in at or "/" not in entry:
            raise BadInput(f"{path}: entry {entry!r}: {unknown('class', name, at)}")
    labels = np.array([at[e.partition("/")[0]] for e in entries], dtype=np.int64)
    files = [inside(root / "images", f"{entry}.jpg", str(path)) for entry in entries]
    return Listing(files, labels, [str(f) for f in files], entries)


@takes(Reading, size=64)
def load(root: str | Path, *, reading: Reading) -> FederatedDataset:
    """Read Food-101: the image modality, official train and test lists, classes in the order of classes.txt.

    root: the folder that holds images/ and meta/. The other options: see Reading.

    Raises:
        BadInput: a folder, list or picture is missing or broken; an entry of an unknown class.
    """
    folder = need_folder(root, LAYOUT)
    need_folder(folder / "images", LAYOUT)
    names = read_names(need_file(need_folder(folder / "meta", LAYOUT) / "classes.txt", LAYOUT))
    train, test = ({ClientTask.IMAGE_CLASSIFICATION: _list(folder, part, names)} for part in ("train", "test"))
    return assemble("food101", names, train, test, reading)


DATASET = Dataset(
    name="food101",
    summary="Food-101 photographs, 750 train and 250 test a dish",
    load=load,
    tasks=(ClientTask.IMAGE_CLASSIFICATION,),
    classes=101,
    layout=LAYOUT,
    source="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
    licence="see the data set's page",
    samples={ClientTask.IMAGE_CLASSIFICATION: (75750, 25250)},
)
