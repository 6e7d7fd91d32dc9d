"""A folder like Oxford Flowers-102's, drawn and not photographed: to measure how long rounds take, never quality.

    python benchmarks/made_flowers102.py FOLDER --side 500

The official layout and split (102 classes; 1020 pictures to train on, 1020 to validate, 6149 to test), ten captions a
picture. `--classes` and `--per-class` make a smaller one. About 300 MB at side 500.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedloom.data.datasets.flowers102 import NAMES

OFFICIAL = (10, 10, 0)  # pictures a class in train and validation; 0: what is left of 8189
PICTURES = 8189
COLOURS = ("red", "blue", "white", "yellow", "pink", "purple", "orange", "green")


def picture(label: int, rng: np.random.Generator, side: int) -> NDArray[np.uint8]:
    """A flower of as many petals as the class says, in the class's colours, on noise: uint8 (side, side, 3)."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j] - rng.uniform(-0.2, 0.2, (2, 1, 1))
    petals, own = 3 + label % 9, np.random.default_rng(label)
    edge = rng.uniform(0.5, 0.7) * (0.75 + 0.25 * np.cos(petals * np.arctan2(y, x) + rng.uniform(0, 6)))
    inside = (np.hypot(x, y) < edge)[..., None]
    ground = np.kron(rng.uniform(0, 120, (side // 8 + 1, side // 8 + 1, 3)), np.ones((8, 8, 1)))[:side, :side]
    return np.where(inside, own.uniform(60, 255, 3), ground).astype(np.uint8)


def captions(label: int, rng: np.random.Generator) -> list[str]:
    """Ten sentences."""
    colour, petals = COLOURS[label % len(COLOURS)], 3 + label % 9
    seen = ("round", "long", "small", "pointed", "soft")
    return [f"this flower has {petals} {seen[rng.integers(5)]} {colour} petals and a centre" for _ in range(10)]


def write(folder: Path, side: int, classes: int = 102, per_class: tuple[int, int, int] = OFFICIAL) -> None:
    """The folder in the official layout; `per_class`: pictures to train on, to validate and to test, each class."""
    from scipy.io import savemat

    train, valid, test = per_class
    rest = PICTURES - classes * (train + valid)
    shares = [test or rest // classes + (c < rest % classes) for c in range(classes)]
    labels = np.repeat(np.arange(classes), [train + valid + n for n in shares])
    parts = np.concatenate([np.repeat([0, 1, 2], [train, valid, n]) for n in shares])
    numbers = np.arange(1, len(labels) + 1)
    (folder / "jpg").mkdir(parents=True, exist_ok=True)
    for number, label in zip(numbers.tolist(), labels.tolist(), strict=True):
        rng = np.random.default_rng(number)
        Image.fromarray(picture(label, rng, side)).save(folder / "jpg" / f"image_{number:05d}.jpg", quality=85)
        words = folder / "text_c10" / f"class_{label + 1:05d}"
        words.mkdir(parents=True, exist_ok=True)
        (words / f"image_{number:05d}.txt").write_text("\n".join(captions(label, rng)), encoding="utf-8")
    savemat(folder / "imagelabels.mat", {"labels": labels[None].astype(np.uint8) + 1})
    sets = {key: numbers[None, parts == n].astype(np.uint16) for n, key in enumerate(("trnid", "valid", "tstid"))}
    savemat(folder / "setid.mat", sets)


def main() -> None:
    """Write the folder, if it is not there."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=500, help="of the pictures in pixels")
    parser.add_argument("--classes", type=int, default=len(NAMES))
    parser.add_argument("--per-class", type=int, nargs=3, default=OFFICIAL, metavar=("TRAIN", "VALID", "TEST"))
    given = parser.parse_args()
    if not (given.folder / "setid.mat").is_file():  # it is written last
        write(given.folder, given.side, given.classes, tuple(given.per_class))
    print(given.folder)


if __name__ == "__main__":
    main()
