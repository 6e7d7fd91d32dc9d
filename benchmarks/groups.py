"""What a client that holds one style of emoji, or one language, knows of the others: the two sides of `data.by_group`.

    fedloom fetch emoji
    python benchmarks/groups.py docs/images/groups.png

For each group a linear classifier on the frozen features of the preset's clients learns its training samples alone, and
is scored on the test samples of every group. Emoji of training and test are different ones.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloom.config import Config, load_config
from fedloom.data.containers import Attribute, FederatedDataset
from fedloom.errors import FedloomError
from fedloom.experiment.client_builder import ClientBuilder, features_once, picture_side
from fedloom.experiment.datasets import cached_dataset
from fedloom.tasks import ClientTask

LANGUAGES = ("en", "de", "es", "fr")  # those of the study emoji-groups
TITLES = {
    ClientTask.IMAGE_CLASSIFICATION: "styles of pictures",
    ClientTask.TEXT_CLASSIFICATION: "languages of names",
}


def features(config: Config, scene: FederatedDataset, task: ClientTask, part: str) -> NDArray[np.float32]:
    """What the backbone of the preset's clients of that task makes of a part, "train" or "test": (N, F)."""
    builder = ClientBuilder(
        name=f"{task}-0",
        task=task,
        settings=config.clients.models(task)[0],
        seed=0,
        class_names=scene.names_of(task),
        image_size=picture_side(scene),
        tokenizer="",
        tokens=config.server.tokens,
    )
    context = builder.context(getattr(scene, part)[task], augment=False, features=features_once)
    return context.private["features"].numpy()  # type: ignore[no-any-return]


def transfer(
    seen: Sequence[NDArray[np.float32]], labels: Sequence[NDArray[np.int64]], groups: Sequence[Attribute]
) -> NDArray[np.float64]:
    """Accuracy (G, G) of a classifier of one group's training samples, a row, on each group's test samples.

    seen, labels, groups: of the training and the test samples, features (N, F) and classes (N,).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    count = len(groups[0].values)
    found = np.zeros((count, count))
    for own in range(count):
        here = groups[0].labels == own
        reader = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
        reader.fit(seen[0][here], labels[0][here])
        right = reader.predict(seen[1]) == labels[1]
        found[own] = [right[groups[1].labels == other].mean() for other in range(count)]
    return found


def matrices(config: Config) -> dict[ClientTask, tuple[tuple[str, ...], NDArray[np.float64]]]:
    """Of both tasks the names of the groups, and `transfer`."""
    scene, out = cached_dataset(config.data), {}
    for task in TITLES:
        groups = [scene.groups[part][task] for part in ("train", "test")]
        seen = [features(config, scene, task, part) for part in ("train", "test")]
        labels: Any = [part[task].labels for part in (scene.train, scene.test)]  # type: ignore[union-attr]
        out[task] = (groups[0].values, transfer(seen, labels, groups))
    return out


def draw(found: dict[ClientTask, tuple[tuple[str, ...], NDArray[np.float64]]], path: Path) -> None:
    """A heat map a task."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for ax, (task, (names, values)) in zip(figure.subplots(1, len(found)), found.items()):
        ax.imshow(values, cmap="Blues", vmin=0, vmax=1)
        short = [name.removeprefix("OpenMoji ") for name in names]
        ax.set_xticks(range(len(short)), short)
        ax.set_yticks(range(len(short)), short)
        ax.set_xlabel("tested on")
        ax.set_ylabel("a client that holds")
        ax.set_title(f"Accuracy across {TITLES[task]}", fontsize=10)
        for at, value in np.ndenumerate(values):
            ax.text(at[1], at[0], f"{value:.2f}", ha="center", va="center", color="white" if value > 0.6 else "black")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        figure.savefig(file, format="png", dpi=130)


def main() -> int:
    """Exit code 2: bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path, help="the PNG")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the preset emoji")
    given = parser.parse_args()
    try:
        languages = f"data.options.languages=[{', '.join(LANGUAGES)}]"
        found = matrices(load_config(preset="emoji", overrides=[languages, *given.set]))
    except FedloomError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    draw(found, given.picture)
    for task, (names, values) in found.items():
        for name, row in zip(names, values):
            print(f"{TITLES[task]}, {name}: " + ", ".join(f"{other} {v:.2f}" for other, v in zip(names, row)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
