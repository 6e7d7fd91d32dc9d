"""Small data sets in their official layouts, with the awkward rows that real ones have."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SLICES = Path(os.environ.get("FEDLOOM_TEST_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"))
COLOURS = [(200, 40, 40), (40, 160, 60), (50, 70, 210), (190, 50, 30)]  # classes 0 and 3 look alike


def picture(path: Path, label: int, number: int, mode: str = "RGB", side: tuple[int, int] = (20, 16)) -> Path:
    """A picture in its class's colour with a little noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng([label, number]).integers(-20, 21, (side[1], side[0], 3))
    array = np.clip(np.array(COLOURS[label]) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(array).convert(mode).save(path)
    return path


def truncate(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-200])
    return path


@pytest.fixture
def recipes() -> Path:
    """The real slice of photographs and recipes."""
    path = SLICES / "food101_recipes"
    if not path.is_dir():
        pytest.skip(f"real data slice not found: {path} (set FEDLOOM_TEST_DATA)")
    return path


@pytest.fixture
def food(tmp_path: Path) -> Path:
    """Food-101: 3 classes, 4 train and 2 test pictures each; one is grey."""
    names = ["apple_pie", "beet_salad", "ceviche"]
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for c, name in enumerate(names):
        for i in range(6):
            picture(tmp_path / "images" / name / f"{100 + i}.jpg", c, i, "L" if (c, i) == (1, 0) else "RGB")
            lists["train" if i < 4 else "test"].append(f"{name}/{100 + i}")
    meta = tmp_path / "meta"
    meta.mkdir()
    (meta / "classes.txt").write_text("\n".join(names) + "\n")
    for part, entries in lists.items():
        (meta / f"{part}.txt").write_text("\n".join(reversed(entries)) + "\n")
    return tmp_path


@pytest.fixture
def upmc(tmp_path: Path) -> Path:
    """UPMC Food-101: a title with a comma, a row without image, an image without row, a blank title."""
    for part, n in (("train", 4), ("test", 2)):
        rows = []
        for c, name in enumerate(("apple_pie", "tacos")):
            for i in range(n):
                file = f"{name}_{i * 3}.jpg"  # gaps in the numbering
                picture(tmp_path / "images" / part / name / file, c, i)
                rows.append([file, f"Best {name.replace('_', ' ')}, quick and easy no. {'abcdef'[i]}", name])
        rows.append(["tacos_77.jpg", "A row whose picture is gone", "tacos"])
        picture(tmp_path / "images" / part / "tacos" / "tacos_99.jpg", 1, 99)
        if part == "train":
            rows[0][1] = ""
        (tmp_path / "texts").mkdir(exist_ok=True)
        with (tmp_path / "texts" / f"{part}_titles.csv").open("w", newline="", encoding="utf-8") as file_out:
            csv.writer(file_out).writerows(rows)
    return tmp_path


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    """Flowers-102 with labels 1, 3 and 102: 24 pictures, one with two captions only, one with none."""
    from scipy.io import savemat

    labels = np.repeat([1, 3, 102], 8)
    numbers = np.arange(1, 25)
    for n, label in zip(numbers, labels):
        picture(tmp_path / "jpg" / f"image_{n:05d}.jpg", [1, 3, 102].index(label), int(n))
        captions = [f"petals of picture {n} seen in way {w}" for w in range(2 if n == 1 else 10)]
        folder = tmp_path / "text_c10" / f"class_{label:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        if n != 24:
            (folder / f"image_{n:05d}.txt").write_text("\n".join(captions) + "\n\n")
    savemat(tmp_path / "imagelabels.mat", {"labels": labels[None].astype(np.uint8)})
    place = (numbers - 1) % 8
    sets = {
        "trnid": numbers[place < 2],
        "valid": numbers[(place >= 2) & (place < 4)],
        "tstid": numbers[place >= 4],
    }
    savemat(tmp_path / "setid.mat", {key: value[None].astype(np.uint16) for key, value in sets.items()})
    return tmp_path
