"""Flickr30k (Young et al., 2014) by Karpathy's splits, and Flickr8k (Hodosh et al., 2013): five captions a picture."""

from __future__ import annotations

from pathlib import Path

from fedloom.data.captioned import Captioned, PairReading, assemble_pairs, inside
from fedloom.data.datasets.caption_parquet import LAYOUT as PARQUET_LAYOUT
from fedloom.data.datasets.caption_parquet import read_caption_parquet, shards
from fedloom.data.io.files import need_file, need_folder, numbered_lines, read_lines
from fedloom.data.io.karpathy import read_karpathy
from fedloom.data.names import composed
from fedloom.data.options import takes
from fedloom.data.pairs import Pairs, Part
from fedloom.data.registry import Dataset
from fedloom.errors import BadInput
from fedloom.tasks import ClientTask

LAYOUT_30K = "dataset_flickr30k.json (Karpathy's) and flickr30k-images/<id>.jpg"
LAYOUT_8K = (
    "Flicker8k_Dataset/<id>.jpg, Flickr8k.token.txt and Flickr_8k.{train,dev,test}Images.txt; or " + PARQUET_LAYOUT
)
LISTS: dict[Part, str] = {"train": "trainImages", "val": "devImages", "test": "testImages"}


@takes(PairReading)
def flickr30k(root: str | Path, *, reading: PairReading) -> Pairs:
    """Read Flickr30k: 29 000 / 1 014 / 1 000 pictures in train, val and test, in the order of the file.

    root: the folder that holds dataset_flickr30k.json and flickr30k-images/ (or flickr30k_images/ or images/). The
    other options: see PairReading. Images are uint8 (N, size, size, 3). Pairs.notes: see captioned.

    Raises:
        BadInput: a folder, file or picture is missing or broken; what read_karpathy finds.
    """
    base = need_folder(root, LAYOUT_30K)
    path = need_file(base / "dataset_flickr30k.json", LAYOUT_30K)
    names = ("flickr30k-images", "flickr30k_images", "images")
    there = next((base / name for name in names if (base / name).is_dir()), base / names[0])
    pictures = need_folder(there, LAYOUT_30K)
    notes: dict[str, int] = {}
    return assemble_pairs("flickr30k", read_karpathy(path, lambda _: pictures, True, notes), reading, notes)


@takes(PairReading)
def flickr8k(root: str | Path, *, reading: PairReading) -> Pairs:
    """Read Flickr8k: 6 000 / 1 000 / 1 000 pictures in train, val ('dev') and test, in the order of the lists.

    root: the folder that holds Flicker8k_Dataset/ (so spelt), Flickr8k.token.txt and the three lists; else
    {train,val,test}.parquet. The other options: see PairReading. Images are uint8 (N, size, size, 3). Pairs.notes: see
    captioned; `captions_without_image` are those of names on no list.

    Raises:
        BadInput: a folder, file or picture is missing or broken; a line of the token file without tab or number; a
            name on two lists.
    """
    base = need_folder(root, LAYOUT_8K)
    if not (base / "Flickr8k.token.txt").is_file() and (files := shards(base)):
        return assemble_pairs("flickr8k", read_caption_parquet(files), reading, {})
    captions = _tokens(need_file(base / "Flickr8k.token.txt", LAYOUT_8K))
    pictures = need_folder(base / "Flicker8k_Dataset", LAYOUT_8K)
    listed: dict[Part, list[Captioned]] = {}
    seen: dict[str, Path] = {}
    for part, list_name in LISTS.items():
        path = need_file(base / f"Flickr_8k.{list_name}.txt", LAYOUT_8K)
        listed[part] = []
        for name in map(composed, read_lines(path)):
            if name in seen:
                raise BadInput(f"{path}: {name!r} is listed already, in {seen[name].name}")
            seen[name] = path
            file = inside(pictures, name, str(path))
            listed[part].append(Captioned(file, captions.get(name, ()), str(file)))
    stray = sum(len(own) for name, own in captions.items() if name not in seen)
    return assemble_pairs("flickr8k", listed, reading, {"captions_without_image": stray})


def _tokens(path: Path) -> dict[str, list[tuple[str, str]]]:
    """The captions of each picture, (id, text), from lines `<file>#<number> TAB <caption>`."""
    captions: dict[str, list[tuple[str, str]]] = {}
    for number, line in numbered_lines(path):
        key, tab, caption = line.partition("\t")
        name, _, index = key.rpartition("#")
        if not tab or not name or not index.strip().isdecimal():
            raise BadInput(f"{path} line {number}: {line[:60]!r}, expected <file>#<number> TAB <caption>")
        captions.setdefault(composed(name), []).append((key.strip(), caption))
    return captions


FLICKR30K = Dataset(
    name="flickr30k",
    summary="Flickr30k by Karpathy's splits, five captions a picture",
    load=flickr30k,
    tasks=(ClientTask.RETRIEVAL,),
    captioned=True,
    layout=LAYOUT_30K,
    source="Young et al. 2014; splits: Karpathy and Fei-Fei 2015",
    licence="see the data set's page",
)


FLICKR8K = Dataset(
    name="flickr8k",
    summary="Flickr8k, five captions a picture",
    load=flickr8k,
    tasks=(ClientTask.RETRIEVAL,),
    captioned=True,
    layout=LAYOUT_8K,
    source="Hodosh et al. 2013",
    licence="see the data set's page",
)
