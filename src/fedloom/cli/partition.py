"""`fedloom partition`: who holds how much of which class, as numbers and as a picture."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedloom.cli import options
from fedloom.cli.screen import grid, show, show_json
from fedloom.tasks import CLIENT_TASKS, ClientTask

if TYPE_CHECKING:
    from fedloom.config import Config
    from fedloom.data.containers import ClientData, FederatedDataset

HELD = "held: samples that data.multi_ratio and data.corruption leave; by kind of data, those of them that have it"


def partition(
    method: Annotated[str | None, typer.Option(metavar="NAME", help="Method whose data and clients to use.")] = None,
    data: options.DataOption = None,
    root: options.RootOption = None,
    preset: options.PresetOption = None,
    config: options.ConfigOption = None,
    set_: options.SetOption = None,
    seed: options.SeedOption = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the split (PNG).")] = None,
    json: options.JsonOption = False,
) -> None:
    """Show who holds how much of which class.

    The split is the one that a run with these options has.

    Example: fedloom partition --data flora --set data.alpha=0.1 --plot split.png
    """
    from fedloom.data.notes import data_notes
    from fedloom.errors import BadInput
    from fedloom.experiment.datasets import cached_dataset
    from fedloom.experiment.resolve import counted, sized
    from fedloom.methods.base import load_method

    options.check_png("--plot", plot)
    notes: list[str] = []
    chosen = options.configuration(
        method=method, data=data, root=root, preset=preset, file=config, overrides=set_, seed=seed, notes=notes
    )
    with suppress(BadInput):  # a split is shown whatever a method could make of it
        chosen = sized(chosen, notes.append)
    dataset = cached_dataset(chosen.data)
    about_data = data_notes(dataset)
    try:
        chosen = counted(chosen, load_method(chosen.method)[0], dataset, notes.append)
        clients, splits = describe(chosen, dataset)
    except BadInput:  # what was left out of the data may be why
        options.tell(about_data)
        raise
    options.tell(notes)
    if plot is not None:
        _say_escaped(_draw(clients, dataset, plot))
    if json:
        facts = {"data": chosen.data.name, "seed": chosen.seed, "classes": dataset.class_names}
        facts |= {} if dataset.one_label_space else {"text_classes": dataset.text_class_names}
        facts |= {"splits": splits, "data_notes": about_data, "clients": clients, "plot": plot and str(plot)}
        show_json(facts)
        return
    show(_table(clients, dataset), *(_figures(task, figures) for task, figures in splits.items()))
    show(*([HELD] if _held_columns(clients) else []), *(f"data: {line}" for line in about_data))
    show(*([] if plot is None else [f"picture {plot}"]))


def _table(clients: list[dict[str, Any]], dataset: FederatedDataset) -> Any:
    """A row for each client."""
    held = _held_columns(clients)
    grouped = ("group",) if any("group" in c for c in clients) else ()
    head = ("client", "model", "samples", *("held" if key == "samples" else key for key in held), "classes", "most of")
    head = (*head[:2], *grouped, *head[2:])
    rows = [
        (
            *(c["client"], c["model"].replace("+", " + ")),  # so that it folds there
            *(c.get(key, "-") for key in (*grouped, "samples")),
            *(c.get("held", {}).get(key, "-") for key in held),
            *(_classes(c), _most(c, dataset)),
        )
        for c in clients
    ]
    return grid(head, rows, numbers=range(2 + len(grouped), 4 + len(grouped) + len(held)))


def describe(config: Config, dataset: FederatedDataset) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Every client with its samples of each class, and the figures of each task's split.

    Pairs have no classes: a client's `counts` is its number of pictures, alone, and `captions` how many they have.
    `held`, of multimodal clients and where something is corrupted: the samples that `data.multi_ratio` and
    `data.corruption` leave, of multimodal ones also how many have each modality, and both.
    """
    from fedloom.config.corruption import Corruption
    from fedloom.experiment.clients import client_names, private_samples
    from fedloom.experiment.datasets import group_of, split_scene

    light = _hollow(dataset)
    clients: list[dict[str, Any]] = []
    splits: dict[str, Any] = {}
    names = client_names(config)
    for task in CLIENT_TASKS:
        models = config.clients.models(task)
        if not models:
            continue
        split = split_scene(dataset, config.data, len(models), task, config.seed)
        splits[task] = split.describe()
        counts = split.counts(len(dataset.names_of(task)) or 1).tolist()
        for k, (name, model) in enumerate(zip(names[task], models)):
            facts: dict[str, Any] = {"client": name, "modality": task, "model": model.arch}
            facts |= {"samples": sum(counts[k]), "counts": counts[k]}
            if (group := group_of(dataset, config.data, task, k)) is not None:
                facts["group"] = group
            if task == ClientTask.MULTIMODAL_CLASSIFICATION or config.data.corruption != Corruption():
                facts["held"] = _count(private_samples(config, light, task, k))
            if task == ClientTask.RETRIEVAL:
                own, starts = split.indices[k], dataset.pairs("train").starts
                facts["captions"] = int((starts[own + 1] - starts[own]).sum())
            clients.append(facts)
    return clients, splits


def _hollow(dataset: FederatedDataset) -> FederatedDataset:
    """The data set with multimodal training samples without bands, frames and words, so that none are read.

    What is taken from a client depends on labels and on which modalities are there alone.
    """
    from dataclasses import replace

    from fedloom.data.joint import MultimodalSamples

    samples = dataset.train.get(ClientTask.MULTIMODAL_CLASSIFICATION)
    if not isinstance(samples, MultimodalSamples):
        return dataset
    parts = {m: ("",) * len(part) if isinstance(part, tuple) else part[:, :0] for m, part in samples.parts.items()}
    hollow = MultimodalSamples(parts, samples.labels, samples.present)
    return replace(dataset, train={**dataset.train, ClientTask.MULTIMODAL_CLASSIFICATION: hollow})


def _count(samples: ClientData) -> dict[str, int]:
    """Samples; of multimodal ones also those that have a modality, and those that have both."""
    from fedloom.data.joint import MultimodalSamples

    if not isinstance(samples, MultimodalSamples):
        return {"samples": len(samples)}
    present = {str(m): int(there.sum()) for m, there in samples.present.items()}
    return {"samples": len(samples), **present, "both": sum(present.values()) - len(samples)}


def _held_columns(clients: list[dict[str, Any]]) -> list[str]:
    """The keys of `held` to show; none where every client has all of every sample."""
    given = [c for c in clients if "held" in c]
    if all(n == c["samples"] for c in given for n in c["held"].values()):
        return []
    return list(dict.fromkeys(key for c in given for key in c["held"]))


def _figures(task: str, split: dict[str, Any]) -> str:
    if task == ClientTask.RETRIEVAL:
        return f"pair: {split['samples']} pictures"
    return (
        f"{task}: {split['samples']} samples, skew {split['skew']:.2f} (0 alike, towards 1 apart), "
        f"label entropy {split['entropy_nats']:.2f} of {split['entropy_nats_global']:.2f} nats"
    )


def _classes(client: dict[str, Any]) -> int | str:
    return "-" if client["modality"] == ClientTask.RETRIEVAL else sum(n > 0 for n in client["counts"])


def _most(client: dict[str, Any], dataset: FederatedDataset) -> str:
    """The three classes the client has most of."""
    if client["modality"] == ClientTask.RETRIEVAL:
        return f"pictures with {client['captions']} captions"
    names, counts = dataset.names_of(client["modality"]), client["counts"]
    order = sorted(range(len(names)), key=lambda c: -counts[c])[:3]
    return ", ".join(f"{names[c]} {counts[c]}" for c in order if counts[c])


def _draw(clients: list[dict[str, Any]], dataset: FederatedDataset, path: Path) -> list[str]:
    """Draw the split; the characters of its names that no font has."""
    from fedloom.reporting.heatmaps import split_picture
    from fedloom.reporting.lettering import not_drawn
    from fedloom.runs.disk import explained

    with explained("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
    columns, rows = _columns(clients, dataset)
    split_picture(rows, [c["client"] for c in clients], columns, path)
    return not_drawn(columns)


def _say_escaped(chars: list[str]) -> None:
    if chars:
        shown = "".join(chars[:10]) + ("..." if len(chars) > 10 else "")
        typer.echo(
            f"no installed font has {shown}: the picture has their numbers instead; with a font that has them, "
            "such as one of Noto's, it has the names",
            err=True,
        )


def _columns(clients: list[dict[str, Any]], dataset: FederatedDataset) -> tuple[list[str], list[list[int]]]:
    """Names and counts of one table: label spaces side by side, then the pictures of pairs. A row a client."""

    def space(task: str) -> str:
        own = task == ClientTask.RETRIEVAL or (task == ClientTask.TEXT_CLASSIFICATION and not dataset.one_label_space)
        return task if own else ClientTask.IMAGE_CLASSIFICATION

    names: dict[str, tuple[str, ...]] = {}  # of each block of columns
    for client in clients:
        names.setdefault(space(client["modality"]), dataset.names_of(client["modality"]) or ("pictures",))
    rows = [
        [n for b, ns in names.items() for n in (client["counts"] if b == space(client["modality"]) else [0] * len(ns))]
        for client in clients
    ]
    return [name for own in names.values() for name in own], rows
