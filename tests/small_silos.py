"""Small silos: their data, their settings, and the client of one."""

from __future__ import annotations

import csv

import numpy as np
from PIL import Image

from fedloom.experiment.silo_client import build_silo_client

SIDE = 12
SIZES = {"hidden": 16, "layers": 1, "heads": 2, "width": 16}
MODELS = {
    "image": {"arch": "vit", "patch": 6, **SIZES},
    "text": {"arch": "bert", **SIZES},
    "pair": {"arch": "vit+bert", "patch": 6, **SIZES},
    "joint": {"arch": "audio-resnet+resnet", **SIZES},
}
STEPS = {"private_steps": 2, "shared_steps": 2, "server_steps": 1, "distill_steps": 1, "public": 10}
COLOURS = {"Poppy": (200, 40, 40), "LILY": (60, 160, 70), "iris": (60, 60, 210)}


def pictures(folder, classes=COLOURS, train=6, test=2, side=20):
    """Folders of PNG files, a colour a class."""
    rng = np.random.default_rng(0)
    for part, n in (("train", train), ("test", test)):
        for name, colour in classes.items():
            for i in range(n):
                place = folder / "images" / part / name / f"{i}.png"
                place.parent.mkdir(parents=True, exist_ok=True)
                noise = rng.integers(-20, 21, (side, side, 3))
                Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(place)
    return folder


def texts(folder, labels=("poppy", "Lily", "IRIS"), each=5):
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "test"):
        with (folder / f"texts_{part}.csv").open("w", newline="") as file:
            rows = [(f"{part} petals number {i} in front of a meadow", c) for c in labels for i in range(each)]
            csv.writer(file).writerows([("text", "label"), *rows])
    return folder


def silo(modality, root=None, *, model=None, **data):
    data = {"name": "folder", **data} | ({"root": str(root)} if root else {})
    return {"name": "clinic", "modality": modality, "model": MODELS[modality] | (model or {}), "data": data}


def joint_silo(server, model=None, holds=None, options=None, **data):
    """A silo of the run's own data, which takes the run's model unless it names one."""
    options = dict(server.config.data.options) if options is None else options
    data = {"name": server.config.data.name, "root": server.config.data.root, "options": options, **data}
    return {"name": "clinic", "modality": "joint", "model": model, "holds": holds, "data": data}


def build(server, own, /, name="clinic", **changes):
    return build_silo_client(name=name, silo=own, offer=server.offer | changes, public=str(server.public))


def same(one, two):
    a, b = one.state()[0], two.state()[0]
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
