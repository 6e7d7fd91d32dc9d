"""`fedloom silo up`: the process of a client, with its data and its model."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedloom.cli.options import SettingsOption, SiloSetOption, given
from fedloom.tasks import ClientTask

if TYPE_CHECKING:
    from fedloom.config.silo import SiloSettings

_LAYOUT = (
    "images",
    "images_train.parquet",
    "train",
    "texts_train.csv",
)  # what the reader `folder` finds by itself

DataOption = Annotated[
    str | None, typer.Option(metavar="PATH", help="The client's data: class folders, a CSV file, or a data set's name.")
]
PretrainedOption = Annotated[
    str | None, typer.Option(metavar="PATH", help="The model's own weights: a folder or a hub name.")
]
MethodsOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="A method to take part in. Can be repeated. Needed unless the server is local."),
]
InsecureOption = Annotated[
    bool, typer.Option("--insecure", help="Use neither TLS nor a key: in a closed test network only.")
]

silo = typer.Typer(
    help="Join a federation as a client, with local data and a local model.",
    no_args_is_help=True,
    suggest_commands=False,
)


@silo.callback()
def _group() -> None:
    """Keeps `up` a subcommand."""


@silo.command()
def up(
    name: Annotated[str | None, typer.Option(metavar="NAME", help="The client's name in every result.")] = None,
    server: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Address of the server.")] = None,
    kit: Annotated[str | None, typer.Option(metavar="DIR", help="Folder made by `fedloom pki issue NAME`.")] = None,
    data: DataOption = None,
    modality: Annotated[str | None, typer.Option(metavar="KIND", help="image, text, pair or joint.")] = None,
    model: Annotated[str | None, typer.Option(metavar="ARCH", help="Architecture: see `fedloom models`.")] = None,
    pretrained: PretrainedOption = None,
    method: MethodsOption = None,
    folder: Annotated[str | None, typer.Option(metavar="DIR", help="The silo's own folder.")] = None,
    insecure: InsecureOption = False,
    set_: SiloSetOption = None,
    config: SettingsOption = None,
) -> None:
    """Join a federation with local data and a local model, until Ctrl-C, SIGTERM or the end of the terminal.

    Data and model stay here; `bounds` in --config says what a server may have. What leaves is in the folder's
    state/runs/RUN/ledger.jsonl; the trained model is in state/runs/RUN/export when a run is over. After a crash the
    silo goes on with its own state.

    Example: fedloom silo up --name hospital-a --kit hospital-a --data scans --modality image --model vit
    """
    from fedloom.cli.service import say, until_asked_to_end
    from fedloom.config.silo import SiloSettings
    from fedloom.config.trees import read_settings
    from fedloom.deployment.silo import supervise
    from fedloom.deployment.validity import Reminder, of_kit

    values: dict[str, Any] = given(
        name=name,
        server=server,
        kit=kit,
        data=_data(data, modality),
        modality=modality,
        model=given(arch=model, pretrained=pretrained) or None,
        folder=folder,
        insecure=insecure or None,
        bounds=given(methods=method or None) or None,
    )
    settings: SiloSettings = read_settings(SiloSettings, config, values, set_ or ())
    with until_asked_to_end(), supervise(settings, say) as supervisor:
        arch = settings.model.arch if settings.model else "the run's model"
        say(f"silo {settings.name} up ({settings.modality}, {arch}), folder {settings.folder}")
        reminder = Reminder(lambda: [] if supervisor.kit is None else of_kit(supervisor.kit), say)
        while True:
            reminder.look()
            time.sleep(0.5)
            supervisor.check()
    say(f"silo {settings.name} down")


def _data(where: str | None, modality: str | None) -> dict[str, Any] | None:
    """A data set by its name; else a CSV file of texts, a folder of class folders, or a folder that holds both.

    For modality "pair": parquet files with captioned pictures. Multimodal samples have a reader for each set.
    """
    from fedloom.data.registry import DATASETS, PAIR_SETS
    from fedloom.errors import BadInput, nearest

    if where is None:
        return None
    path = Path(os.path.expanduser(where)).resolve()
    if not path.exists():
        known = [*DATASETS, *PAIR_SETS]
        if where in known:
            return {"name": where}
        raise BadInput(
            f"--data {where}: there is no such file or folder, nor a data set of that name."
            f"{nearest(where, known)} Data sets: {', '.join(known)}"
        )
    if modality == ClientTask.MULTIMODAL_CLASSIFICATION:
        from fedloom.experiment.silo_data import joint_sets

        raise BadInput(
            f"--data {where}: each data set of multimodal samples has its own reader, so in place of --data: "
            f"--set data.name=NAME --set data.root={where}; allowed for NAME: {', '.join(joint_sets())}"
        )
    if modality == ClientTask.RETRIEVAL:
        if not path.is_dir():
            layout = PAIR_SETS["caption_parquet"].layout
            raise BadInput(f"--data {where}: pairs are read from a folder that holds {layout}")
        return {"name": "caption_parquet", "root": str(path)}
    if path.suffix.lower() == ".csv":
        return {"name": "folder", "options": {"texts_train": str(path)}}
    if path.suffix.lower() in (".parquet", ".pq") or not any((path / part).exists() for part in _LAYOUT):
        return {"name": "folder", "options": {"images_train": str(path)}}
    return {"name": "folder", "root": str(path)}
