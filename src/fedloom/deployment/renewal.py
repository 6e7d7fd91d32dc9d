"""Renewal of certificates.

Keys stay, so what trusts them goes on working. Files are replaced atomically, one by one, in an order in which every
intermediate state works: an interrupted renewal does no harm and can be repeated.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from fedloom.deployment import certificates
from fedloom.deployment.certificates import (
    Signer,
    check_pair,
    common_name,
    hosts_of,
    make_authority,
    new_key,
    pem,
    read_certificate,
    read_key,
    secret,
    sign,
    write_new,
)
from fedloom.deployment.pki import OWN, complete, keys, known, local_chain
from fedloom.deployment.validity import AUTHORITY, KIT, SERVER, SOON, at, validity
from fedloom.errors import BadInput
from fedloom.runs.disk import explained, write_atomic


def due(folder: Path) -> tuple[bool, bool, list[str]]:
    """Whether the authority and the server's certificate end within thirty days, and the silos whose kits do."""
    _signer(folder)
    soon = certificates.now() + SOON
    authority, server = (validity(folder, names).until <= soon for names in (AUTHORITY, SERVER))
    # A new authority comes into the kits by itself.
    own = [name for name in KIT if not (authority and name in AUTHORITY)]
    return authority, server, [n for n in keys(folder) if validity(folder / "silos" / n, own).until <= soon]


def renew_authority(folder: Path, days: int) -> dt.datetime:
    """The authority anew, with its key, and the server's certificate; the end of both.

    In the kits that lie in `folder` its certificate is replaced too. Kits that were handed over work until their own
    copy ends. Raises BadInput: no authority, or the new one would end before the present one.
    """
    certificate, key = _signer(folder)
    until = _until(days, certificate.not_valid_after_utc, "the authority")
    new = make_authority(common_name(certificate), until, key)
    with explained("write", folder):
        write_atomic(folder / "ca.crt", pem(new[0]))  # signs what the old one signed: name and key are the same
        _server(folder, new, until)
        for name in keys(folder):
            write_atomic(folder / "silos" / name / "ca.crt", pem(new[0]))
    return new[0].not_valid_after_utc


def renew_server(folder: Path, days: int) -> dt.datetime:
    """The server's certificate anew, with its key, for the same hosts; its end. Raises BadInput, also as `_until`."""
    authority = _signer(folder)
    old = read_certificate(folder / "server.crt").not_valid_after_utc
    until = _until(days, old, "the server's certificate", authority)
    with explained("write", folder):
        _server(folder, authority, until)
    return until


def renew_silo(folder: Path, name: str, days: int) -> tuple[dt.datetime, list[str]]:
    """The kit of a silo anew; its end, and the names of the files in it that the silo needs.

    The silo's own key stays, so it stays admitted. Raises BadInput for an unknown silo, also as `_until`.
    """
    authority, (kit,) = _signer(folder), known(folder, [name])
    until = _until(days, validity(kit, KIT).until, f"the kit of {name}", authority)
    handed = ["ca.crt", "local.crt", "local.ca"]
    with explained("write", kit):
        if (kit / "local.key").is_file():
            key = read_key(kit / "local.key")
        else:  # deleted here, as it may be once it is handed over
            key = new_key()
            write_new(kit / "local.key", secret(key), private=True)
            handed.append("local.key")
        own, local = local_chain(name, until, key)
        old = (kit / "local.ca").read_bytes()
        write_atomic(kit / "ca.crt", pem(authority[0]))
        write_atomic(kit / "local.ca", pem(own[0]) + old)  # trusted are both, until the certificate is replaced
        write_atomic(kit / "local.crt", pem(local[0]))
        write_atomic(kit / "local.ca", pem(own[0]))
    return validity(kit, KIT).until, handed


def _signer(folder: Path) -> Signer:
    complete(folder, OWN, "fedloom pki init")
    check_pair(folder / "ca.crt", folder / "ca.key")
    return read_certificate(folder / "ca.crt"), read_key(folder / "ca.key")


def _until(days: int, old: dt.datetime, what: str, authority: Signer | None = None) -> dt.datetime:
    """The end in `days` days, or with the authority. Raises BadInput unless that is later than the old one."""
    until = certificates.now().replace(microsecond=0) + dt.timedelta(days=days)
    last = until if authority is None else min(until, authority[0].not_valid_after_utc)
    if abs(until - old) < dt.timedelta(days=1):
        raise BadInput(f"{what} is good until {at(old)}, for the {days} days of --days: there is nothing to renew")
    if last > old:
        return last
    if last < until:
        raise BadInput(
            f"{what} is good until {at(old)} and cannot be for longer, as the authority ends on {at(last)}: "
            "`fedloom pki renew --authority` first"
        )
    raise BadInput(f"{what} is good until {at(old)}, longer than the {days} days of --days")


def _server(folder: Path, authority: Signer, until: dt.datetime) -> None:
    old, key = read_certificate(folder / "server.crt"), read_key(folder / "server.key")
    write_atomic(folder / "server.crt", pem(sign(authority, common_name(old), hosts_of(old), until, key)[0]))
