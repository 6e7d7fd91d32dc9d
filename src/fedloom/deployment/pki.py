"""Certificates for the server and keys for the silos: our own small authority in a folder.

ca.crt, ca.key                      the authority; the key never leaves this folder
server.crt, server.key              what the server shows
silos/NAME/                         a kit to hand to one silo, and nothing else of this folder:
    ca.crt                          whom the silo trusts
    node.key, node.pub              who the silo is
    local.crt, local.key, local.ca  for the silo's own endpoint on its own machine
revoked/NAME.pub                    keys that are refused from now on
"""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fedloom.deployment.certificates import (
    Signer,
    alternative,
    check_pair,
    hosts_of,
    make_authority,
    new_key,
    now,
    pem,
    public,
    read_certificate,
    read_key,
    secret,
    sign,
    write_new,
)
from fedloom.deployment.validity import KIT as CHAIN
from fedloom.deployment.validity import Validity, check_current, validity
from fedloom.errors import BadInput, unknown
from fedloom.federation.engines.silo.store import RUN_NAME
from fedloom.runs.disk import explained

LOCAL = ("localhost", "127.0.0.1")
OWN = ("ca.crt", "ca.key", "server.crt", "server.key")
KIT = ("ca.crt", "node.key", "node.pub", "local.crt", "local.key", "local.ca")


class Holder(NamedTuple):
    """A silo that has a kit. key: its public key, one line; validity: of all certificates in the kit."""

    name: str
    key: str
    validity: Validity


def init(folder: Path, hosts: Sequence[str], days: int = 825) -> None:
    """Makes the authority and the server's certificate, good for `hosts` and this machine, for `days` days.

    Raises BadInput: the folder already has an authority, or a host is none.
    """
    if there := [name for name in OWN if (folder / name).exists()]:
        raise BadInput(
            f"{folder} already has an authority ({there[0]}); kits of one authority are refused under another"
        )
    names = [*dict.fromkeys([*hosts, *LOCAL])]
    alternatives = [alternative(name) for name in names]
    until = now() + dt.timedelta(days=days)
    authority = make_authority("fedloom authority", until)
    server = sign(authority, names[0], alternatives, until)
    with explained("write", folder):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)  # also one that was there
        write_new(folder / "ca.crt", pem(authority[0]))
        write_new(folder / "server.crt", pem(server[0]))
        write_new(folder / "server.key", secret(server[1]), private=True)
        write_new(folder / "ca.key", secret(authority[1]), private=True)


def issue(folder: Path, name: str, days: int = 825) -> Path:
    """Makes the kit of the silo `name`; its folder. It is good for `days` days, or as long as the authority.

    Raises BadInput for a bad or taken name, or no authority that is good today.
    """
    check(folder)
    if not RUN_NAME.fullmatch(name):
        raise BadInput(f"silo name {name[:140]!r}, allowed: at most 128 letters, digits, '_', '-', '.'")
    kit = folder / "silos" / name
    if kit.exists():
        raise BadInput(
            f"{kit} is there already; revoke {name!r} first, or name another silo "
            f"(`fedloom pki renew {name}` extends it)"
        )
    until = min(now() + dt.timedelta(days=days), read_certificate(folder / "ca.crt").not_valid_after_utc)
    own, local = local_chain(name, until)
    key = new_key()
    part = folder / "silos" / f".{name}.part"
    with explained("write", kit):
        part.parent.mkdir(exist_ok=True, mode=0o700)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700)
        shutil.copyfile(folder / "ca.crt", part / "ca.crt")
        write_new(part / "local.ca", pem(own[0]))
        write_new(part / "local.crt", pem(local[0]))
        write_new(part / "local.key", secret(local[1]), private=True)
        write_new(part / "node.key", secret(key, openssh=True), private=True)
        write_new(part / "node.pub", public(key) + b"\n")
        part.rename(kit)  # a server that looks meanwhile sees a whole kit or none
    return kit


def local_chain(name: str, until: dt.datetime, key: Any = None) -> tuple[Signer, Signer]:
    """The authority and the certificate of a silo's own endpoint, with `key` or a new one.

    The authority is the silo's own, so that the key of the pki folder signs nothing that a silo shows.
    """
    own = make_authority(f"{name} on its own machine", until)
    return own, sign(own, "localhost", [alternative(host) for host in LOCAL], until, key)


def known(folder: Path, names: Sequence[str]) -> list[Path]:
    """The kits of those silos. Raises BadInput for a silo that has none."""
    there = list(keys(folder))
    for name in names:
        if name not in there:
            raise unknown("silo", name, there) if there else BadInput(f"{folder} has issued no kit")
    return [folder / "silos" / name for name in names]


def revoke(folder: Path, name: str) -> None:
    """Takes a silo's key back: a server that is up refuses it from now on. Raises BadInput for an unknown silo."""
    complete(folder, OWN, "fedloom pki init")  # with an authority that has ended, too
    (kit,) = known(folder, [name])
    stamp = now().strftime("%Y%m%dT%H%M%S")
    gone = folder / "silos" / f".{name}.{stamp}.revoked"
    with explained("write", folder):
        (folder / "revoked").mkdir(exist_ok=True, mode=0o700)
        shutil.copyfile(kit / "node.pub", folder / "revoked" / f"{name}.{stamp}.pub")
        kit.rename(gone)
        shutil.rmtree(gone)


def keys(folder: Path) -> dict[str, str]:
    """The silos that have a kit, and their public keys, one line each; without those whose key was ever revoked."""
    revoked = {file.read_text(errors="replace").strip() for file in (folder / "revoked").glob("*.pub")}
    found = {}
    for file in sorted((folder / "silos").glob("[!.]*/node.pub")):
        try:
            key = file.read_text(errors="replace").strip()
        except FileNotFoundError:  # revoked just now
            continue
        if key not in revoked:  # a kit that was put back is no pardon
            found[file.parent.name] = key
    return found


def listing(folder: Path) -> list[Holder]:
    """The silos that have a kit. Raises BadInput for a kit that is not whole."""
    return [Holder(name, key, validity(folder / "silos" / name, CHAIN)) for name, key in keys(folder).items()]


def check(folder: Path) -> None:
    """Raises BadInput unless `folder` has an authority whose certificates are valid now."""
    complete(folder, OWN, "fedloom pki init")
    check_current(folder / "ca.crt", "`fedloom pki renew --authority` makes a new one")
    check_current(folder / "server.crt", "`fedloom pki renew --server` makes a new one")
    check_pair(folder / "server.crt", folder / "server.key")


def check_kit(kit: Path) -> None:
    """Raises BadInput unless `kit` is whole, and its certificates good now."""
    complete(kit, KIT, "fedloom pki issue NAME")
    for name in CHAIN:
        check_current(kit / name, "who runs the server renews it with `fedloom pki renew`")
    check_pair(kit / "local.crt", kit / "local.key")
    read_key(kit / "node.key", openssh=True)


def check_host(folder: Path, host: str) -> None:
    """Raises BadInput unless the server's certificate is good for `host`."""
    file = folder / "server.crt"
    good = [str(name.value).lower() for name in hosts_of(read_certificate(file))]
    if not {host.lower(), f"*.{host.lower().partition('.')[2]}"} & set(good):
        raise BadInput(
            f"host {host!r}: {file} does not cover it, allowed: {', '.join(good)}; "
            f"`fedloom pki init --host {host}` makes one that does"
        )


def complete(folder: Path, names: Sequence[str], command: str) -> None:
    """Raises BadInput unless those files are in the folder."""
    with explained("read", folder):
        missing = [name for name in names if not (folder / name).is_file()]
    if missing == ["ca.key"]:  # kept elsewhere, as it should be
        raise BadInput(f"{folder} has no ca.key, the signing key; restore it from where it is kept")
    if missing:
        raise BadInput(f"{folder} has no {missing[0]}; `{command}` makes it")
