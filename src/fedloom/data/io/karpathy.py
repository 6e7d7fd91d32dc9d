"""Karpathy's splits (Karpathy and Fei-Fei, 2015): dataset_flickr30k.json and dataset_coco.json, as listings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fedloom.data.captioned import Captioned, field, inside
from fedloom.data.io.files import read_json
from fedloom.data.pairs import PARTS, Part
from fedloom.errors import BadInput, unknown

RESTVAL = "restval"  # COCO: the rest of the official validation part, which most works train on


def read_karpathy(
    path: Path, folder_of: Callable[[str], Path], restval: bool, notes: dict[str, int]
) -> dict[Part, list[Captioned]]:
    """The pictures of each part, in the order of the file.

    Args:
        path: {"images": [{"filename", "split", "imgid", "filepath" (COCO), "sentences": [{"raw", "sentid"}]}]}.
        folder_of: from an image's filepath ('' where it has none) to the folder that holds the picture.
        restval: 'restval' goes to train; otherwise it is left out and counted in notes['images_of_restval'].

    Raises:
        BadInput: not this JSON; an unknown split; two images of one imgid or one file; a name that leads out of its
            folder.
    """
    listed: dict[Part, list[Captioned]] = {part: [] for part in PARTS}
    by_split = {**{str(part): part for part in PARTS}, RESTVAL: PARTS[0] if restval else None}
    seen: dict[str, int] = {}
    for n, image in enumerate(field(read_json(path), "images", list, str(path))):
        place = f"{path} images[{n}]"
        name, split = (field(image, key, str, place) for key in ("filename", "split"))
        if split not in by_split:
            raise BadInput(f"{place} ({name}): {unknown('split', split, by_split)}")
        folder = field(image, "filepath", str, place) if "filepath" in image else ""
        imgid = field(image, "imgid", int, place)
        for key in (f"imgid {imgid}", f"file {folder}/{name}" if folder else f"file {name}"):
            if seen.setdefault(key, n) != n:
                raise BadInput(f"{place}: {key} is that of images[{seen[key]}] already")
        captions = [
            (field(s, "sentid", int, place), field(s, "raw", str, place))
            for s in field(image, "sentences", list, place)
        ]
        part = by_split[split]
        if part is None:
            notes["images_of_restval"] = notes.get("images_of_restval", 0) + 1
            continue
        file = inside(folder_of(folder), name, place)
        listed[part].append(Captioned(file, captions, str(file)))
    return listed
