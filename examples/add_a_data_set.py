"""A data set of your own in one file: pictures of stripes, their directions as classes. python add_a_data_set.py

`fedloom run --method fedavg --data add_a_data_set.py:STRIPES --set data.options.noise=40` reads it too.
"""

from __future__ import annotations

import numpy as np

import fedloom
from fedloom.data.containers import FederatedDataset, ImageSet
from fedloom.data.registry import Dataset

CLASSES = ("horizontal", "vertical", "diagonal")


def load(*, size: int = 12, each: int = 40, noise: float = 20.0, seed: int = 0) -> FederatedDataset:
    """The reader; its parameters are the options. One that reads a folder has a parameter `root`.

    Args:
        size: side of the pictures in pixels.
        each: training pictures of a class; a quarter as many for the test.
        noise: standard deviation of the grey values, of 255.
    """
    rng = np.random.default_rng(seed)

    def part(each: int) -> ImageSet:
        labels = np.repeat(np.arange(len(CLASSES)), each)  # (N,)
        y, x = np.mgrid[:size, :size]
        waves = np.stack([np.sin(1.5 * along) for along in (y, x, x + y)])  # (C, H, W)
        grey = 128 + 80 * waves[labels] + rng.normal(0, noise, (len(labels), size, size))
        pictures = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)  # (N, H, W, 3)
        return ImageSet(pictures, labels)

    return FederatedDataset("stripes", CLASSES, train={"image": part(each)}, test={"image": part(each // 4)})


STRIPES = Dataset("stripes", "stripes in three directions", load, tasks=("image",), classes=3, source="drawn here")

if __name__ == "__main__":
    vit = {"arch": "vit", "count": 2, "hidden": 16, "layers": 1, "heads": 2, "patch": 6, "width": 16}
    plan = {"base": {"rounds": 2, "clients": {"image": [vit], "text": [], "public_steps": 0, "warm_steps": 20}}}
    print(fedloom.compare(["fedavg", "standalone"], plan=plan, data=STRIPES, jobs=2, out="runs/own-data-set"))
