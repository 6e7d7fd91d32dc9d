"""`fedloom partition`: who holds how much of which class, as numbers and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedloom.cli.options import (
    ConfigOption,
    DataOption,
    JsonOption,
    PresetOption,
    RootOption,
    SeedOption,
    SetOption,
    configuration,
)
from fedloom.cli.screen import grid, show, show_json

if TYPE_CHECKING:
    from fedloom.config import Config
    from fedloom.data.scene import Scene


def partition(
    data: DataOption = None,
    root: RootOption = None,
    preset: PresetOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    seed: SeedOption = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the split (PNG).")] = None,
    json: JsonOption = False,
) -> None:
    """Show who holds how much of which class.

    The split is the one that a run with these options has.

    Example: fedloom partition --data flora --set data.alpha=0.1 --plot split.png
    """
    from fedloom.scenes import cached_scene

    chosen = configuration(data=data, root=root, preset=preset, file=config, overrides=set_, seed=seed)
    scene = cached_scene(chosen.data)
    clients, splits = describe(chosen, scene)
    if plot is not None:
        _draw(clients, scene, plot)
    if json:
        facts = {
            "data": chosen.data.name,
            "seed": chosen.seed,
            "classes": scene.class_names,
            "splits": splits,
        }
        show_json(facts | {"clients": clients, "plot": plot and str(plot)})
        return
    rows = [
        (c["client"], c["model"], c["samples"], sum(n > 0 for n in c["counts"]), _most(c, scene))
        for c in clients
    ]
    show(grid(("client", "model", "samples", "classes", "most of"), rows, numbers=(2, 3)))
    show(
        *(
            f"{modality}: {s['samples']} samples, skew {s['skew']:.2f} (0 alike, towards 1 apart), "
            f"label entropy {s['entropy_nats']:.2f} of {s['entropy_nats_global']:.2f} nats"
            for modality, s in splits.items()
        ),
        *([f"picture {plot}"] if plot is not None else []),
    )


def describe(config: Config, scene: Scene) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Every client with its samples of each class, and the figures of each modality's split."""
    from fedloom.scenes import split_scene
    from fedloom.sites import MODALITIES, client_names

    clients: list[dict[str, Any]] = []
    splits: dict[str, Any] = {}
    names = client_names(config)
    for modality in MODALITIES:
        learners = config.clients.learners(modality)
        if not learners:
            continue
        split = split_scene(scene, config.data, len(learners), modality, config.seed)
        splits[modality] = split.describe()
        for name, learner, counts in zip(names[modality], learners, split.counts(scene.classes).tolist()):
            facts = {"client": name, "modality": modality, "model": learner.arch}
            clients.append(facts | {"samples": sum(counts), "counts": counts})
    return clients, splits


def _most(client: dict[str, Any], scene: Scene) -> str:
    """The three classes the client has most of."""
    order = sorted(range(scene.classes), key=lambda c: -client["counts"][c])[:3]
    return ", ".join(f"{scene.class_names[c]} {client['counts'][c]}" for c in order if client["counts"][c])


def _draw(clients: list[dict[str, Any]], scene: Scene, path: Path) -> None:
    from fedloom.report.pictures import split_picture
    from fedloom.runs.disk import explained

    with explained("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
    split_picture([c["counts"] for c in clients], [c["client"] for c in clients], scene.class_names, path)
