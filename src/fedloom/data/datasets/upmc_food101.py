"""UPMC Food-101 (Wang et al., 2015): the 101 dishes of Food-101, web pictures paired with page titles.

FedMMKT's "Food101". Its `<part>_titles.csv` have no header: file name, title (quoted when it holds a comma),
class.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedloom.data.assemble import Listing, Reading, assemble
from fedloom.data.containers import FederatedDataset
from fedloom.data.io.files import folders, need_file, need_folder, pictures
from fedloom.data.io.tables import read_fields
from fedloom.data.names import composed
from fedloom.data.options import takes
from fedloom.data.registry import Dataset
from fedloom.errors import BadInput, unknown
from fedloom.tasks import SINGLE_MODALITY, ClientTask

LAYOUT = "images/{train,test}/<class>/<class>_<n>.jpg and texts/{train,test}_titles.csv (file name, title, class)"


def _list(root: Path, part: str, at: dict[str, int], notes: dict[str, int]) -> tuple[Listing, Listing]:
    """Images and titles of a part, paired by file name; what lacks the other half is counted in `notes`."""
    there = {
        (composed(d.name), composed(p.name)): p
        for d in folders(need_folder(root / "images" / part, LAYOUT))
        for p in pictures(d)
    }
    path = need_file(root / "texts" / f"{part}_titles.csv", LAYOUT)
    rows: dict[tuple[str, str], tuple[str, int]] = {}  # (class, file name): title, row number
    for number, row in read_fields(path, ("file name", "title", "class")):
        file, title, name = composed(row[0].strip()), row[1].strip(), composed(row[2].strip())
        if name not in at:
            raise BadInput(f"{path} row {number}: {unknown('class', name, at)}")
        if (name, file) not in there:
            notes["rows_without_image"] += 1
        elif (name, file) in rows:
            notes["rows_repeated"] += 1
        else:
            rows[name, file] = title, number
    notes["images_without_row"] += len(there) - len(rows)
    pairs = sorted(rows)
    labels = np.array([at[name] for name, _ in pairs], dtype=np.int64)
    keys = [f"{part}/{name}/{file}" for name, file in pairs]
    images = Listing([there[p] for p in pairs], labels, [str(there[p]) for p in pairs], keys, keys)
    titles = [i for i, p in enumerate(pairs) if rows[p][0]]
    notes["empty_titles"] += len(pairs) - len(titles)
    places = [f"{path} row {rows[p][1]}" for p in pairs]
    texts = Listing([rows[p][0] for p in pairs], labels, places, keys, keys)
    return images, texts.take(titles)


@takes(Reading, size=64)
def load(root: str | Path, *, reading: Reading) -> FederatedDataset:
    """Read UPMC Food-101: images and titles, classes in the order of the folders' names in images/train.

    root: the folder that holds images/ and texts/. The other options: see Reading. A public picture's
    caption is made of its own title, without the dish's name. `notes` counts `rows_without_image`,
    `images_without_row`, `rows_repeated` and `empty_titles`; all of these are left out.

    Raises:
        BadInput: a folder, file or picture is missing or broken; a row without three fields or of an unknown
            class.
    """
    folder = need_folder(root, LAYOUT)
    names = sorted(composed(d.name) for d in folders(need_folder(folder / "images" / "train", LAYOUT)))
    at = {name: i for i, name in enumerate(names)}
    notes = dict.fromkeys(("rows_without_image", "images_without_row", "rows_repeated", "empty_titles"), 0)
    train, test = (dict(zip(SINGLE_MODALITY, _list(folder, part, at, notes))) for part in ("train", "test"))
    return assemble("upmc_food101", names, train, test, reading, notes=notes)


DATASET = Dataset(
    name="upmc_food101",
    summary="UPMC Food-101: web pictures of the 101 dishes with page titles",
    load=load,
    tasks=(ClientTask.IMAGE_CLASSIFICATION, ClientTask.TEXT_CLASSIFICATION),
    classes=101,
    layout=LAYOUT,
    source="Wang et al., Recipe recognition with large multimodal food dataset, 2015",
    licence="see the data set's page",
    # The rows of the two lists, as they are usually distributed; pictures that cannot be read make it fewer.
    samples={ClientTask.IMAGE_CLASSIFICATION: (67988, 22716), ClientTask.TEXT_CLASSIFICATION: (67988, 22716)},
)
