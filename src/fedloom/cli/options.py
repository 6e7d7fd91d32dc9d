"""Options that several commands share, and the configuration they give."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fedloom.config import Config

DataOption = Annotated[str | None, typer.Option(metavar="NAME", help="Data set: see `fedloom datasets`.")]
RootOption = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of a data set that is not embedded.")]
PresetOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="A configuration that comes with fedloom; NAME,NAME: the second over the first."),
]
ConfigOption = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Configuration in YAML.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set one value, such as clients.batch=16. Can be repeated."),
]
SeedOption = Annotated[int | None, typer.Option(metavar="N", min=0, help="Seed of everything random.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print figures as JSON.")]
ServerOption = Annotated[Path, typer.Option("--server", metavar="DIR", help="The server's folder.")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")]


def configuration(
    *,
    method: str | None = None,
    data: str | None = None,
    root: Path | None = None,
    preset: str | None = None,
    file: Path | None = None,
    overrides: list[str] | None = None,
    seed: int | None = None,
    rounds: int | None = None,
    engine: str | None = None,
    notes: list[str] | None = None,
) -> Config:
    """The configuration from the options that were given; what fits them for the others.

    notes: gets a line for each thing that was filled in, to be told once nothing is refused any more.

    Raises:
        BadInput: a key or value that does not fit, or a file that cannot be read.
    """
    from fedloom.config import load_config

    values = given(
        method=method,
        seed=seed,
        rounds=rounds,
        data=given(name=data, root=None if root is None else str(root)),
        engine=given(name=engine),
    )
    return load_config(
        preset=preset,
        file=file,
        overrides=overrides or (),
        values=values,
        say=None if notes is None else notes.append,
    )


def tell(notes: Iterable[str]) -> None:
    """Lines for people, beside the figures."""
    for line in notes:
        typer.echo(line, err=True)


def given(**values: Any) -> dict[str, Any]:
    """The values that were given."""
    return {key: value for key, value in values.items() if value is not None and value != {}}
