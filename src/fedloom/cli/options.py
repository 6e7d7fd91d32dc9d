"""Options that several commands share, and the configuration they give."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fedloom.config import Config
    from fedloom.registry import Registry

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
SiloSetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set one value, such as model.patch=6. Can be repeated."),
]
SettingsOption = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="These settings in YAML.")]
MethodOption = Annotated[str | None, typer.Option(metavar="NAME", help="Method: see `fedloom methods`.")]
RoundsOption = Annotated[int | None, typer.Option(metavar="N", min=0, help="Number of rounds.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace a run that --out holds.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
SeedOption = Annotated[int | None, typer.Option(metavar="N", min=0, help="Seed of everything random.")]
RetrainOption = Annotated[
    bool, typer.Option("--retrain", help="Train here also the models that come with fedloom, of the default data.")
]
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


def retrained(overrides: list[str] | None, retrain: bool) -> list[str] | None:
    """The values to set, --retrain among them."""
    return [*(overrides or ()), "server.retrain=true"] if retrain else overrides


def configuration_of(folder: Path, **options: Any) -> Config | None:
    """The options over the configuration of the run in `folder`; None where no option was given. As `configuration`."""
    from fedloom.runs.folder import RunFolder

    own = RunFolder.open(folder).path / "config.yaml"
    if not any(value not in (None, []) for value in options.values()):
        return None
    whole = options["preset"] is not None or options["file"] is not None
    return configuration(**options if whole else {**options, "file": own})


def check_resume(resume: Path | None, out: Path | None, overwrite: bool) -> None:
    """Raises BadInput where a run is resumed and a folder for a new one is named."""
    from fedloom.errors import BadInput

    if resume is not None and (out is not None or overwrite):
        raise BadInput("--resume goes on in the run's own folder: leave out --out and --overwrite")


def check_png(option: str, picture: Path | None) -> None:
    """Raises BadInput for a file that would be no PNG by its name."""
    from fedloom.errors import BadInput

    if picture is not None and picture.suffix.lower() != ".png":
        raise BadInput(f"{option} {str(picture)!r}: expected a picture, allowed: a name that ends in .png")


def tell_broken(registry: Registry) -> None:
    """A line for each installed item that cannot be loaded, and so is not listed."""
    tell(f"not listed: {error}" for error in registry.broken().values())


def tell(notes: Iterable[str]) -> None:
    """Lines for people, beside the figures."""
    for line in notes:
        typer.echo(line, err=True)


def given(**values: Any) -> dict[str, Any]:
    """The values that were given."""
    return {key: value for key, value in values.items() if value is not None and value != {}}
