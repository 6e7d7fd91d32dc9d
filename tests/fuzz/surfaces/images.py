"""Pictures: as files, in class folders, in parquet files, and with captions."""

from __future__ import annotations

import io
import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from fedloom.data.containers import FederatedDataset
from fedloom.data.io.decode import decode_all
from fedloom.data.pairs import Pairs
from fedloom.data.registry import load_dataset, load_pairs
from fuzz.harness import Refused, Surface, Unsure
from fuzz.inputs import Input
from fuzz.mutate import change_tree, json_bytes
from fuzz.pictures import SIDE, bomb, gif_bomb, pixels, png
from fuzz.surfaces.tables import one_space, plain
from fuzz.truth import strict_json

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA")
MODES = ("RGB", "L", "RGBA", "P", "1", "CMYK", "LA")


def told(scene: FederatedDataset) -> dict[str, Any]:
    """The pictures of each part with the names of their classes, in order, and the classes."""
    found: dict[str, Any] = {"classes": list(scene.class_names)}
    for part in ("train", "test"):
        held: Any = getattr(scene, part)["image"]
        found[part] = [(p.tobytes(), scene.class_names[n]) for p, n in zip(held.images, held.labels.tolist())]
    return found


def told_pairs(pairs: Pairs) -> dict[str, Any]:
    """The pictures of each part, each with its captions."""
    return {
        part: [(held.images[i].tobytes(), held.of(i)) for i in range(len(held))] for part, held in pairs.parts.items()
    }


# ------------------------------------------------------------------------------------------------------ single files


def draw_picture(rng: Random) -> Input:
    """A picture in some format and mode, seldom ours."""
    if rng.random() < 0.4:
        return Input({"a.png": png(rng)})
    array = np.random.default_rng(rng.randrange(2**32)).integers(
        0, 256, (rng.randrange(1, 40), rng.randrange(1, 40), 3)
    )
    out = io.BytesIO()
    picture, kind = Image.fromarray(array.astype(np.uint8)), rng.choice(FORMATS)
    try:
        picture.convert(rng.choice(MODES)).save(out, kind)
    except (OSError, ValueError):
        picture.save(out := io.BytesIO(), kind)
    return Input({f"a.{kind.lower()}": out.getvalue()})


def damage_picture(rng: Random, given: Input) -> Input:
    """A picture that says it is as large as can be."""
    return Input({"a.png": bomb(rng) if rng.random() < 0.7 else gif_bomb()})


def read_picture(folder: Path, given: Input) -> Any:
    path = folder / next(iter(given.files), "a.png")
    images, _, _ = decode_all([path], [str(path)], SIDE)
    return images[0]


def true_picture(folder: Path, given: Input) -> Any:
    ((name, data), *_) = given.files.items()
    if not name.endswith(".png"):
        raise Unsure
    return pixels(data)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------ class folders


def draw_folder(rng: Random) -> Input:
    """Class folders with a test part; pictures in PNG."""
    names = rng.sample(["rose", "tulip", "lily"], 2)
    return Input(
        {f"images/{part}/{name}/p{i}.png": png(rng) for part in ("train", "test") for name in names for i in range(2)}
    )


def read_folder(folder: Path, given: Input) -> Any:
    return told(load_dataset("folder", folder, size=SIDE, generic_share=0.0))


def true_folder(folder: Path, given: Input) -> Any:
    """Every picture under the name of its folder."""
    found: dict[str, Any] = {"train": [], "test": []}
    names = set()
    for name, data in sorted(given.files.items(), key=lambda item: item[0].split("/")):
        parts = name.split("/")
        if (
            len(parts) != 4
            or not plain(name)
            or not name.isascii()
            or not name.endswith(".png")
            or parts[3].startswith(".")
        ):
            raise Unsure
        found[parts[1]].append((pixels(data).tobytes(), one_space(parts[2])))  # type: ignore[arg-type]
        names.add(one_space(parts[2]))
    return {"classes": sorted(names), **found}


# --------------------------------------------------------------------------------------------------------- parquet


def _parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def draw_parquet(rng: Random) -> Input:
    """Labelled pictures: bytes or a struct of bytes and path; labels as text or numbers, the list in the metadata."""
    files: dict[str, Any] = {}
    numbers, struct = rng.random() < 0.5, rng.random() < 0.5
    for part in ("train", "test"):
        names = rng.sample(["rose", "tulip"], 2)
        cells: list[Any] = [png(rng) for _ in range(4)]
        cells = [{"bytes": c, "path": "a.png"} for c in cells] if struct else cells
        labels: list[Any] = [i % 2 if numbers else names[i % 2] for i in range(4)]
        table = pa.table({"image": cells, "label": labels})
        if numbers:
            table = table.replace_schema_metadata({"label_names": json.dumps(names)})
        files[f"images_{part}.parquet"] = _parquet(table)
    return Input(files)


def damage_parquet(rng: Random, given: Input) -> Input:
    """Another table: columns missing, doubled, of other types, cells that are null."""
    name = rng.choice(list(given.files))
    odd: Any = rng.choice([None, b"", b"x", png(rng), bomb(rng)])
    label: Any = rng.choice([None, "", "rose", "r\u00adose", 7, -1, 2**40, 1.5, True, b"\xff"])
    cells = [png(rng), odd, png(rng), png(rng)]
    try:
        columns: dict[str, Any] = {
            "image": cells,
            "label": [label, label, "rose", "tulip"] if isinstance(label, str) else [label] * 4,
        }
        table = pa.table({k: columns[k] for k in rng.sample(list(columns), rng.choice((1, 2, 2, 2)))})
        if rng.random() < 0.2:
            table = table.append_column("label", pa.array(["lily"] * 4))
        if rng.random() < 0.3:
            table = table.replace_schema_metadata({"label_names": json.dumps(change_tree(rng, ["rose", "tulip"]))})
        return given.replace(name, _parquet(table))
    except (pa.ArrowException, ValueError, TypeError):
        return given


def read_parquet(folder: Path, given: Input) -> Any:
    return told(load_dataset("folder", folder, size=SIDE, generic_share=0.0))


def true_parquet(folder: Path, given: Input) -> Any:
    """Rows as pyarrow gives them; the names of train's own list, else the labels that occur in it."""
    if set(given.files) != {"images_train.parquet", "images_test.parquet"}:
        raise Unsure
    parts: dict[str, list[tuple[Any, Any]]] = {}
    classes: list[str] = []
    for part in ("train", "test"):
        table = pq.read_table(io.BytesIO(given.files[f"images_{part}.parquet"]))  # type: ignore[arg-type]
        own = json.loads((table.schema.metadata or {}).get(b"label_names", b"null"))
        if not all(pa.types.is_integer(t) or pa.types.is_string(t) for t in [table.schema.field("label").type]):
            raise Refused("the type of labels")
        labels = table["label"].to_pylist()
        names = [str(own[n] if own and isinstance(n, int) and 0 <= n < len(own) else n) for n in labels]
        if any(n is None for n in labels):
            raise Refused("a label is missing")
        if not all(plain(n) and n == one_space(n) for n in names) or (own and any(isinstance(n, str) for n in labels)):
            raise Unsure
        if any(n.lstrip("-").isdecimal() for n in names):
            raise Unsure
        cells = [c["bytes"] if isinstance(c, dict) else c for c in table["image"].to_pylist()]
        parts[part] = [(pixels(cell).tobytes(), name) for cell, name in zip(cells, names)]
        if part == "train":
            classes = list(own) if own else sorted(set(names))
        elif own and sorted(own) != sorted(classes):
            raise Unsure
    return {"classes": classes, **parts}


# -------------------------------------------------------------------------------------------------------- captions


def draw_karpathy(rng: Random) -> Input:
    """Flickr30k by Karpathy's file."""
    images, files, n = [], {}, 0
    for i, part in enumerate(("train", "train", "val", "test")):
        sentences = [
            {"sentid": n + j, "raw": f"a {rng.choice(('red', 'café', 'blue  one'))} thing {j}"} for j in range(2)
        ]
        n += 2
        images.append({"imgid": i, "filename": f"{i}.png", "split": part, "sentences": sentences})
        files[f"flickr30k-images/{i}.png"] = png(rng)
    return Input({"dataset_flickr30k.json": json.dumps({"images": images}).encode(), **files})


def draw_coco(rng: Random) -> Input:
    """COCO by its official files."""
    files: dict[str, Any] = {}
    for k, part in enumerate(("train", "val")):
        images = [{"id": 10 * k + i, "file_name": f"{i}.png"} for i in range(2)]
        notes = [{"id": 100 * k + i, "image_id": 10 * k + i % 2, "caption": f"words {i}"} for i in range(5)]
        files[f"annotations/captions_{part}2017.json"] = json.dumps({"images": images, "annotations": notes}).encode()
        files |= {f"{part}2017/{i}.png": png(rng) for i in range(2)}
    return Input(files)


def damage_listing(rng: Random, given: Input) -> Input:
    """A node of a JSON file changed."""
    name = rng.choice([n for n in given.files if n.endswith(".json")] or [""])
    try:
        return given.replace(name, json_bytes(rng, change_tree(rng, json.loads(given.files[name]))))  # type: ignore[arg-type]
    except (ValueError, TypeError, KeyError, RecursionError):
        return given


def _captions(entries: list[tuple[int, str]], seen: set[int]) -> tuple[str, ...]:
    """The captions with words, each id once, blanks single."""
    kept = []
    for key, text in entries:
        if type(key) is not int or not isinstance(text, str):
            raise Refused("a caption")
        if key not in seen and text.split():
            kept.append(" ".join(text.split()))
        seen.add(key)
    return tuple(kept[:5])


def _picture(given: Input, folder: str, name: Any) -> bytes:
    if not isinstance(name, str) or f"{folder}/{name}" not in given.files:
        raise Unsure if isinstance(name, str) and not name.isascii() else Refused("no such picture")
    return pixels(given.files[f"{folder}/{name}"]).tobytes()  # type: ignore[arg-type]


def read_karpathy(folder: Path, given: Input) -> Any:
    return told_pairs(load_pairs("flickr30k", folder, size=SIDE))


def true_karpathy(folder: Path, given: Input) -> Any:
    """Pictures in order of the file, by part."""
    found: dict[str, list[Any]] = {"train": [], "val": [], "test": []}
    seen: set[int] = set()
    for image in strict_json(given.files["dataset_flickr30k.json"], finite=False, own=True)["images"]:  # type: ignore[arg-type]
        if "filepath" in image:
            raise Unsure
        part = "train" if image["split"] == "restval" else image["split"]
        found[part].append((image, None))
    for part, listed in found.items():
        kept = [(i, _captions([(s["sentid"], s["raw"]) for s in i["sentences"]], seen)) for i, _ in listed]
        found[part] = [(_picture(given, "flickr30k-images", i["filename"]), c) for i, c in kept if c]
    return {part: held for part, held in found.items() if held}


def read_coco(folder: Path, given: Input) -> Any:
    return told_pairs(load_pairs("coco", folder, size=SIDE))


def true_coco(folder: Path, given: Input) -> Any:
    """Pictures in order of the file, captions in theirs."""
    found = {}
    seen: set[int] = set()
    for part in ("train", "val"):
        if (data := given.files.get(f"annotations/captions_{part}2017.json")) is None:
            continue
        content = strict_json(data, finite=False, own=True)  # type: ignore[arg-type]
        listed = {image["id"]: (image["file_name"], []) for image in content["images"]}
        for note in content["annotations"]:
            if note["image_id"] in listed:
                listed[note["image_id"]][1].append((note["id"], note["caption"]))
        kept = [(name, _captions(entries, seen)) for name, entries in listed.values()]
        found[part] = [(_picture(given, f"{part}2017", name), captions) for name, captions in kept if captions]
    return {part: held for part, held in found.items() if held}


SURFACES = (
    Surface("picture files", draw_picture, read_picture, true_picture, (damage_picture,), share=1.5),
    Surface("picture folders", draw_folder, read_folder, true_folder),
    Surface("parquet", draw_parquet, read_parquet, true_parquet, (damage_parquet,), share=1.5),
    Surface("flickr30k", draw_karpathy, read_karpathy, true_karpathy, (damage_listing, damage_listing)),
    Surface("coco", draw_coco, read_coco, true_coco, (damage_listing, damage_listing)),
)
