"""`fedloom init`: a configuration to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def init(
    data: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Your data: a folder, a CSV file of texts, a parquet file of pictures."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write.")] = Path("fedloom.yaml"),
) -> None:
    """Write a configuration to begin with, with a comment on every key.

    With --data it fits what lies there: columns, size of pictures, clients. Data are read, nothing is trained.

    Example: fedloom init --data mine
    """
    from fedloom.scaffolding import start

    for line in start(data, out):
        typer.echo(line)
    typer.echo(f"wrote {out}; next: fedloom run --config {out}")
