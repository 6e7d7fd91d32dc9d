"""`fedloom pretrain`: the models that a run begins with, trained ahead of it, over as many sittings as it takes."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from fedloom.cli import options
from fedloom.cli.run import watcher
from fedloom.cli.screen import grid, show, show_json
from fedloom.signals import Interrupted

HoursOption = Annotated[
    float | None,
    typer.Option("--hours", metavar="H", help="Stop after so many hours, at least 0 (default: when all is trained)."),
]


def pretrain(
    method: options.MethodOption = None,
    data: options.DataOption = None,
    root: options.RootOption = None,
    preset: options.PresetOption = None,
    config: options.ConfigOption = None,
    set_: options.SetOption = None,
    hours: HoursOption = None,
    retrain: options.RetrainOption = False,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Train the models that a run begins with, and keep them in the cache.

    CLIP, captioner, generator, judge and the clients' public backbones, as far as the run needs them; a run of the same
    configuration then begins at once. The state of what takes long is kept every minute: after --hours, an interrupt or
    a crash the same command goes on, to the same weights. Exit code 1 if more time is needed.

    Example: fedloom pretrain --preset food101_recipes --root DATA --hours 2
    """
    from fedloom.errors import BadInput, OutOfTime
    from fedloom.experiment.gates import pretrained

    if hours is not None and not 0 <= hours < float("inf"):
        raise BadInput(f"--hours {hours}: allowed are numbers from 0")
    given: dict[str, Any] = {"method": method, "data": data, "root": root, "preset": preset, "file": config}
    notes: list[str] = []
    chosen = options.configuration(**given, overrides=options.retrained(set_, retrain), notes=notes)
    with ExitStack() as stack:
        watch = watcher(stack, quiet or json)
        try:
            folders = pretrained(chosen, watch, None if hours is None else 3600 * hours)
        except OutOfTime as error:
            raise OutOfTime(f"{str(error).rstrip('.')}. {AGAIN}") from None
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted. {AGAIN}") from None
    if json:
        return show_json({name: str(folder) for name, folder in folders.items()})
    show(grid(("model", "folder"), [(name, _short(folder)) for name, folder in folders.items()]))


AGAIN = "The same command goes on from there"


def _short(folder: Path) -> str:
    home = str(Path.home())
    return str(folder).replace(home, "~", 1) if str(folder).startswith(home) else str(folder)
