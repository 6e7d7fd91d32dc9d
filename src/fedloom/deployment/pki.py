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
import ipaddress
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fedloom.deployment.offline import require_flower
from fedloom.errors import BadInput, unknown
from fedloom.federation.silo.store import RUN_NAME

if TYPE_CHECKING:
    from cryptography import x509

LOCAL = ("localhost", "127.0.0.1")
KIT = ("ca.crt", "node.key", "node.pub", "local.crt", "local.key", "local.ca")


class Holder(NamedTuple):
    """A silo that has a kit. key: its public key, one line; until: when its local certificate ends."""

    name: str
    key: str
    until: dt.datetime


def init(folder: Path, hosts: Sequence[str], days: int = 825) -> None:
    """Makes the authority and the server's certificate, good for `hosts` and this machine, for `days` days.

    Raises BadInput: the folder holds an authority already, or a host is none.
    """
    require_flower()
    if (folder / "ca.key").exists():
        raise BadInput(f"{folder} holds an authority already; its kits would be worthless with another")
    names = [*dict.fromkeys([*hosts, *LOCAL])]
    alternatives = [_alternative(name) for name in names]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = _authority("fedloom authority", days)
    server = _issue(authority, names[0], alternatives, days)
    _write(folder / "ca.crt", _pem(authority[0]))
    _write(folder / "server.crt", _pem(server[0]))
    _write(folder / "server.key", _secret(server[1]), private=True)
    _write(
        folder / "ca.key", _secret(authority[1]), private=True
    )  # last: its presence says that all is there


def issue(folder: Path, name: str, days: int = 825) -> Path:
    """Makes the kit of the silo `name`; its folder. Raises BadInput for a bad or taken name, or no authority."""
    from cryptography.hazmat.primitives.asymmetric import ec

    check(folder)
    if not RUN_NAME.fullmatch(name):
        raise BadInput(f"silo name {name!r}, allowed: letters, digits, '_', '-', '.'")
    kit = folder / "silos" / name
    if kit.exists():
        raise BadInput(f"{kit} is there already; revoke {name!r} first, or name another silo")
    part = folder / "silos" / f".{name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True, mode=0o700)
    # The silo's own endpoint has an authority of its own, so that this folder's key signs nothing that a silo shows.
    own = _authority(f"{name} on its own machine", days)
    local = _issue(own, "localhost", [_alternative(host) for host in LOCAL], days)
    key = ec.generate_private_key(ec.SECP384R1())
    shutil.copyfile(folder / "ca.crt", part / "ca.crt")
    _write(part / "local.ca", _pem(own[0]))
    _write(part / "local.crt", _pem(local[0]))
    _write(part / "local.key", _secret(local[1]), private=True)
    _write(part / "node.key", _secret(key, openssh=True), private=True)
    _write(part / "node.pub", _public(key) + b"\n")
    part.rename(kit)
    return kit


def revoke(folder: Path, name: str) -> None:
    """Takes a silo's key back: a server that is up refuses it from now on. Raises BadInput for an unknown silo."""
    check(folder)
    names = [holder.name for holder in listing(folder)]
    if name not in names:
        raise unknown("silo", name, names) if names else BadInput(f"{folder} has issued no kit")
    (folder / "revoked").mkdir(exist_ok=True)
    stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%S")
    shutil.copyfile(folder / "silos" / name / "node.pub", folder / "revoked" / f"{name}.{stamp}.pub")
    shutil.rmtree(folder / "silos" / name)


def listing(folder: Path) -> list[Holder]:
    """The silos that have a kit."""
    from cryptography import x509

    found = []
    for kit in sorted((folder / "silos").glob("[!.]*/node.pub")):
        certificate = x509.load_pem_x509_certificate((kit.parent / "local.crt").read_bytes())
        found.append(Holder(kit.parent.name, kit.read_text().strip(), certificate.not_valid_after_utc))
    return found


def revoked(folder: Path) -> list[str]:
    """Public keys, one line each, that were taken back."""
    return [path.read_text().strip() for path in sorted((folder / "revoked").glob("*.pub"))]


def check(folder: Path) -> None:
    """Raises BadInput unless `folder` holds an authority whose certificates are good today."""
    require_flower()
    _complete(folder, ("ca.crt", "ca.key", "server.crt", "server.key"), "fedloom pki init")
    for name in ("ca.crt", "server.crt"):
        _current(folder / name)


def check_kit(kit: Path) -> None:
    """Raises BadInput unless `kit` is whole, and its certificates good today."""
    require_flower()
    _complete(kit, KIT, "fedloom pki issue NAME")
    for name in ("ca.crt", "local.crt"):
        _current(kit / name)


def _complete(folder: Path, names: Sequence[str], command: str) -> None:
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise BadInput(f"{folder} has no {missing[0]}; `{command}` makes it")


def _current(file: Path) -> None:
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
    except ValueError as error:
        raise BadInput(f"{file} is no certificate: {' '.join(str(error).split())}") from None
    now, ends = dt.datetime.now(dt.UTC), certificate.not_valid_after_utc
    if now > ends:
        raise BadInput(f"{file} was good until {ends:%Y-%m-%d}, today is {now:%Y-%m-%d}")
    if now < certificate.not_valid_before_utc:
        raise BadInput(
            f"{file} is good from {certificate.not_valid_before_utc:%Y-%m-%d}, today is {now:%Y-%m-%d}"
        )


def _alternative(host: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError as error:
        raise BadInput(f"host {host!r} is no name and no address: {error}") from None


def _authority(subject: str, days: int) -> tuple[x509.Certificate, Any]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP384R1())
    blank = _blank(subject, subject, key, days)
    blank = blank.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    blank = blank.add_extension(_usage(authority=True), critical=True)
    identity = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return blank.add_extension(identity, critical=False).sign(key, hashes.SHA384()), key


def _issue(
    authority: tuple[x509.Certificate, Any], subject: str, names: Sequence[Any], days: int
) -> tuple[Any, Any]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    certificate, signer = authority
    key = ec.generate_private_key(ec.SECP384R1())
    issuer = certificate.subject.get_attributes_for_oid(x509.oid.NameOID.COMMON_NAME)[0].value
    blank = _blank(subject, str(issuer), key, days)
    identity = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    for extension, critical in (
        (x509.SubjectAlternativeName(names), False),
        (_usage(authority=False), True),
        (x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (identity, False),
    ):
        blank = blank.add_extension(extension, critical=critical)
    return blank.sign(signer, hashes.SHA384()), key


def _blank(subject: str, issuer: str, key: Any, days: int) -> Any:
    from cryptography import x509

    name, by = (
        x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, n[:64])]) for n in (subject, issuer)
    )
    now = dt.datetime.now(dt.UTC)
    blank = x509.CertificateBuilder().subject_name(name).issuer_name(by).public_key(key.public_key())
    blank = blank.serial_number(x509.random_serial_number())
    # An hour back, for machines whose clocks differ.
    return blank.not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + dt.timedelta(days=days))


def _usage(*, authority: bool) -> Any:
    from cryptography import x509

    return x509.KeyUsage(not authority, False, False, False, False, authority, authority, False, False)


def _pem(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _secret(key: Any, *, openssh: bool = False) -> bytes:
    from cryptography.hazmat.primitives import serialization as s

    form = s.PrivateFormat.OpenSSH if openssh else s.PrivateFormat.PKCS8
    return bytes(key.private_bytes(s.Encoding.PEM, form, s.NoEncryption()))


def _public(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization as s

    return bytes(key.public_key().public_bytes(s.Encoding.OpenSSH, s.PublicFormat.OpenSSH))


def _write(path: Path, data: bytes, *, private: bool = False) -> None:
    """A private file is never readable by others, not even for a moment."""
    import os

    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
