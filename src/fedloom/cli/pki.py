"""`fedloom pki`: certificates for the server, keys for the silos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedloom.cli.options import JsonOption
from fedloom.cli.screen import grid, show, show_json

if TYPE_CHECKING:
    from datetime import datetime

    from fedloom.deployment.validity import Validity

FolderOption = Annotated[Path, typer.Option("--folder", metavar="DIR", help="Folder of certificates and keys.")]
DaysOption = Annotated[int, typer.Option("--days", metavar="N", min=1, max=36500, help="Days of validity.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the silo.")]

pki = typer.Typer(
    help="Make certificates for the server and keys for the silos.", no_args_is_help=True, suggest_commands=False
)


@pki.command()
def init(
    host: Annotated[
        list[str] | None,
        typer.Option("--host", metavar="NAME", help="Name or address of the server. Can be repeated."),
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

    A server that is up admits it at once. The kit is good for so many days, or as long as the authority.

    Example: fedloom pki issue hospital-a
    """
    from fedloom.deployment.pki import issue as make
    from fedloom.deployment.validity import KIT, validity

    kit = make(folder, name, days)
    show(
        f"{kit}: hand this folder to {name}, by a way that nobody else can read; "
        f"good until {validity(kit, KIT).until:%Y-%m-%d}"
    )
    _say_what_ends(folder)


@pki.command()
def renew(
    names: Annotated[list[str] | None, typer.Argument(metavar="[SILO]...", help="Kits to renew.")] = None,
    server: Annotated[bool, typer.Option("--server", help="Renew the server's certificate.")] = False,
    authority: Annotated[
        bool, typer.Option("--authority", help="Renew the authority, and the server's certificate with it.")
    ] = False,
    folder: FolderOption = Path("pki"),
    days: DaysOption = 825,
) -> None:
    """Make certificates good for longer, and say what has to be handed over again.

    Without a name or an option: what has expired or expires within thirty days. Keys stay, so silos stay admitted, and
    what was handed over before works until it ends.

    Example: fedloom pki renew hospital-a
    """
    from fedloom.deployment import renewal
    from fedloom.deployment.pki import known
    from fedloom.deployment.validity import KIT, validity

    wanted = list(dict.fromkeys(names or []))
    if not (wanted or server or authority):
        authority, server, wanted = renewal.due(folder)
    kits = known(folder, wanted)
    before = {kit.name: validity(kit, KIT).until for kit in kits}
    if authority:
        show(*_authority_renewed(folder, days))
    elif server:
        until = renewal.renew_server(folder, days)
        show(f"the server's certificate is good until {until:%Y-%m-%d}: restart `fedloom server up`")
    for kit in kits:
        until, files = renewal.renew_silo(folder, kit.name, days)
        show(
            f"{kit} is good until {until:%Y-%m-%d}: {', '.join(files)} of it go to {kit.name}, in place of those that "
            f"it has ({_ended(before[kit.name])}); then `fedloom silo up` is restarted there"
        )
    if not (kits or server or authority):
        show("nothing ends within thirty days; name a silo, --server or --authority to renew it all the same")


def _authority_renewed(folder: Path, days: int) -> list[str]:
    from fedloom.deployment import renewal
    from fedloom.deployment.pki import keys
    from fedloom.deployment.validity import AUTHORITY, validity

    old = validity(folder, AUTHORITY).until
    until = renewal.renew_authority(folder, days)
    lines = [f"the authority and the server's certificate are good until {until:%Y-%m-%d}: restart `fedloom server up`"]
    if silos := ", ".join(keys(folder)):
        lines.append(
            f"{folder}/ca.crt, which is no secret, goes to every silo ({silos}), in place of the ca.crt of its kit "
            f"({_ended(old)}); then `fedloom silo up` is restarted there"
        )
    return lines


def _ended(old: datetime) -> str:
    from fedloom.deployment.certificates import now

    return f"good until {old:%Y-%m-%d}" if old > now() else f"they ended on {old:%Y-%m-%d}"


@pki.command()
def revoke(name: NameArgument, folder: FolderOption = Path("pki")) -> None:
    """Revoke a silo's key: a running server refuses it at once.

    Example: fedloom pki revoke hospital-a
    """
    from fedloom.deployment.pki import revoke as take_back

    take_back(folder, name)
    show(f"{name}'s key is no longer accepted")


@pki.command("list")
def listed(folder: FolderOption = Path("pki"), json: JsonOption = False) -> None:
    """Show until when the authority, the server's certificate and each silo's kit are good.

    A kit is good as long as all certificates in it are, the authority's among them.

    Example: fedloom pki list --json
    """
    from fedloom.deployment.pki import complete, listing
    from fedloom.deployment.validity import AUTHORITY, SERVER, validity

    complete(folder, ("ca.crt", "server.crt"), "fedloom pki init")
    own = {"authority": validity(folder, AUTHORITY), "server": validity(folder, SERVER)}
    silos = {holder.name: holder.validity for holder in listing(folder)}
    if json:
        kits = [{"name": name, **_facts(found)} for name, found in silos.items()]
        show_json({**{name: _facts(found) for name, found in own.items()}, "silos": kits})
        return
    rows = {
        **{f"the {name}": v for name, v in own.items()},
        **{f"silo {name}": v for name, v in silos.items()},
    }
    show(
        grid(
            ("whose", "good until", "ends first", ""),
            [
                (who, f"{v.until:%Y-%m-%d}", v.first.name, "" if v.state == "good" else v.state)
                for who, v in rows.items()
            ],
        )
    )
    if not silos:
        show("no kit has been issued")
    _say_what_ends(folder)


def _facts(found: Validity) -> dict[str, Any]:
    return {
        "from": f"{found.begins:%Y-%m-%d}",
        "until": f"{found.until:%Y-%m-%d}",
        "first": found.first.name,
        "state": found.state,
    }


def _say_what_ends(folder: Path) -> None:
    from fedloom.deployment.validity import of_server

    for line in of_server(folder):
        typer.echo(line, err=True)
