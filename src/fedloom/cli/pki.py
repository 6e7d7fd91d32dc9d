"""`fedloom pki`: certificates for the server, keys for the silos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedloom.cli.options import JsonOption
from fedloom.cli.screen import grid, show, show_json

FolderOption = Annotated[
    Path, typer.Option("--folder", metavar="DIR", help="Where certificates and keys lie.")
]
DaysOption = Annotated[
    int, typer.Option("--days", metavar="N", min=1, max=36500, help="How long they are good.")
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Of the silo.")]

pki = typer.Typer(help="Make certificates for the server and keys for the silos.", no_args_is_help=True)


@pki.command()
def init(
    host: Annotated[
        list[str] | None,
        typer.Option("--host", metavar="NAME", help="Name or address silos reach the server by; repeatable."),
    ] = None,
    folder: FolderOption = Path("pki"),
    days: DaysOption = 825,
) -> None:
    """Make an authority and the server's certificate.

    Example: fedloom pki init --host fed.example.org
    """
    from fedloom.deployment.pki import LOCAL
    from fedloom.deployment.pki import init as make

    make(folder, host or [], days)
    names = ", ".join(dict.fromkeys([*(host or []), *LOCAL]))
    show(f"{folder}/ca.crt, server.crt and their keys, good for {names} and {days} days")


@pki.command()
def issue(name: NameArgument, folder: FolderOption = Path("pki"), days: DaysOption = 825) -> None:
    """Make the kit of a silo: a folder to hand over to it, and to nobody else.

    A server that is up admits it at once.

    Example: fedloom pki issue hospital-a
    """
    from fedloom.deployment.pki import issue as make

    kit = make(folder, name, days)
    show(f"{kit}: hand this folder to {name}, by a way that nobody else can read")


@pki.command()
def revoke(name: NameArgument, folder: FolderOption = Path("pki")) -> None:
    """Take a silo's key back: a server that is up refuses it at once.

    Example: fedloom pki revoke hospital-a
    """
    from fedloom.deployment.pki import revoke as take_back

    take_back(folder, name)
    show(f"{name}'s key is worthless from now on")


@pki.command("list")
def listed(folder: FolderOption = Path("pki"), json: JsonOption = False) -> None:
    """List the silos that have a kit.

    Example: fedloom pki list --json
    """
    from fedloom.deployment.pki import check, listing

    check(folder)
    rows = [(holder.name, f"{holder.until:%Y-%m-%d}") for holder in listing(folder)]
    if json:
        show_json([{"name": name, "until": until} for name, until in rows])
    else:
        show(grid(("silo", "good until"), rows) if rows else "no kit has been issued")
