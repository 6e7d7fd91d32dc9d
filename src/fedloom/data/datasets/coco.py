"""MS-COCO captions (Chen et al., 2015): Karpathy's splits of 2014, or the official parts of 2017 and 2014."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from fedloom.data.assemble import check_choice
from fedloom.data.captioned import Captioned, PairReading, assemble_pairs, field, inside
from fedloom.data.datasets.caption_parquet import LAYOUT as PARQUET_LAYOUT
from fedloom.data.datasets.caption_parquet import Files, named_files, read_caption_parquet, shards
from fedloom.data.io.files import need_file, need_folder, read_json
from fedloom.data.io.karpathy import read_karpathy
from fedloom.data.options import takes
from fedloom.data.pairs import Pairs, Part
from fedloom.data.registry import Dataset
from fedloom.errors import BadInput
from fedloom.tasks import ClientTask

LAYOUT = (
    "dataset_coco.json (Karpathy's) with train2014/ and val2014/ (or allimages/); or "
    "annotations/captions_{train,val}2017.json with train2017/ and val2017/ (or 2014); or " + PARQUET_LAYOUT
)
YEARS = (2017, 2014)
OFFICIAL_PARTS: tuple[Part, ...] = ("train", "val")  # the captions of the official test part are not public
Annotations = Literal["karpathy", "official", "parquet"]


@takes(PairReading)
def coco(
    root: str | Path,
    *,
    restval: bool = True,
    annotations: Annotations | None = None,
    files: Files | None = None,
    reading: PairReading,
) -> Pairs:
    """Read MS-COCO: pictures with five captions or a few more, in the order of the file.

    Karpathy's splits: 113 287 / 5 000 / 5 000 pictures in train, val and test. Official: 118 287 / 5 000 in train and
    val (2017), no test part.

    Args:
        root: the folder that holds one of the layouts (LAYOUT).
        restval: Karpathy's 30 504 'restval' pictures go to train; otherwise they are left out and counted.
        annotations: 'karpathy', 'official' (2017 if both years are there) or 'parquet'; None: the first that is there.
        files: the parquet files of each part if they are not named after their parts, see caption_parquet.load.

    Returns:
        The parts, images uint8 (N, size, size, 3). `notes`: see captioned, and `annotations`, which were read.

    Raises:
        BadInput: a folder, file or picture is missing or broken; two images of one id; what read_karpathy finds.
    """
    if annotations is not None:
        check_choice("annotations", annotations, Annotations)
    base = need_folder(root, LAYOUT)
    if files is not None and annotations not in (None, "parquet"):
        raise BadInput(f"files name parquet files, but annotations={annotations!r}")
    kind = annotations or (_kind(base) if files is None else "parquet")
    notes: dict[str, int] = {}
    if kind == "karpathy":
        path, merged = need_file(base / "dataset_coco.json", LAYOUT), base / "allimages"
        listed = read_karpathy(
            path, lambda folder: merged if merged.is_dir() else inside(base, folder, str(path)), restval, notes
        )
    elif kind == "official":
        listed = _official(base, reading.parts, notes)
    else:
        listed = read_caption_parquet(shards(base) if files is None else named_files(base, files))
    return assemble_pairs("coco", listed, reading, {**notes, "annotations": kind})


def _kind(base: Path) -> Annotations:
    if (base / "dataset_coco.json").is_file():
        return "karpathy"
    if (base / "annotations").is_dir():
        return "official"
    if shards(base):
        return "parquet"
    raise BadInput(f"{base}: no captions of COCO found. Expected layout: {LAYOUT}")


def _official(base: Path, parts: Sequence[Part] | None, notes: dict[str, int]) -> dict[Part, list[Captioned]]:
    """The pictures of train and val, in the order of the files' `images`."""
    folder = need_folder(base / "annotations", LAYOUT)
    wanted = [p for p in OFFICIAL_PARTS if parts is None or p in parts]
    files: dict[Part, Path] = {}
    for year in YEARS:
        files = files or {p: f for p in wanted if (f := folder / f"captions_{p}{year}.json").is_file()}
    if not files:
        raise BadInput(f"{folder}: no captions_{{train,val}}2017.json. Expected layout: {LAYOUT}")
    notes["captions_without_image"] = 0
    seen: dict[int, str] = {}
    return {part: _part(path, base / path.stem.removeprefix("captions_"), seen, notes) for part, path in files.items()}


def _part(path: Path, pictures: Path, seen: dict[int, str], notes: dict[str, int]) -> list[Captioned]:
    """{"images": [{"id", "file_name"}], "annotations": [{"id", "image_id", "caption"}]}, captions in file order."""
    need_folder(pictures, LAYOUT)
    content = read_json(path)
    files: dict[int, Path] = {}
    for n, image in enumerate(field(content, "images", list, str(path))):
        place = f"{path} images[{n}]"
        key = field(image, "id", int, place)
        if key in seen:
            raise BadInput(f"{place}: id {key} is that of {seen[key]} already")
        seen[key] = f"{path.name} images[{n}]"
        files[key] = inside(pictures, field(image, "file_name", str, place), place)
    captions: dict[int, list[tuple[int, str]]] = {key: [] for key in files}
    for n, annotation in enumerate(field(content, "annotations", list, str(path))):
        place = f"{path} annotations[{n}]"
        key = field(annotation, "image_id", int, place)
        caption = field(annotation, "id", int, place), field(annotation, "caption", str, place)
        if key in captions:
            captions[key].append(caption)
        else:
            notes["captions_without_image"] += 1
    return [Captioned(file, captions[key], str(file)) for key, file in files.items()]


DATASET = Dataset(
    name="coco",
    summary="MS-COCO captions by Karpathy's splits or the official parts",
    load=coco,
    tasks=(ClientTask.RETRIEVAL,),
    captioned=True,
    layout=LAYOUT,
    source="Chen et al. 2015",
    licence="CC BY 4.0 (captions); pictures: see the data set's page",
)
