"""Your own pictures and texts: a folder of class folders and a CSV file. python own_data.py

The picture folder and the texts need not be paired; they share the class names.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

import fedloom
from fedloom.config import DataSettings, load_config

CLASSES = {"sky": (90, 150, 230), "grass": (70, 160, 60), "brick": (170, 70, 50)}


def make_data(root: Path, each: int = 24) -> Path:
    """images/<class>/<n>.png and texts_train.csv with the columns text and label."""
    rows = []
    for name, colour in CLASSES.items():
        (root / "images" / name).mkdir(parents=True, exist_ok=True)
        for n in range(each):
            rng = np.random.default_rng(n)
            noisy = np.clip(np.array(colour) + rng.normal(0, 20, (16, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(root / "images" / name / f"{n}.png")
            rows.append((f"seen from {n} steps, much {name} and little else", name))
    with (root / "texts_train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return root


def main(root: Path = Path("own-data")) -> None:
    data = DataSettings(name="folder", root=str(make_data(root)), options={"size": 12}, minimum=4)
    config = load_config(preset="smoke").model_copy(update={"data": data})
    run = fedloom.run(config, out="runs/own-data", overwrite=True)
    print(f"classes: {', '.join(run.split['classes'])}")
    for client, counts in run.split["clients"].items():
        print(f"{client}: {counts} samples, accuracy {run.rounds[-1]['per_client'][client]:.2f}")


if __name__ == "__main__":
    main()
