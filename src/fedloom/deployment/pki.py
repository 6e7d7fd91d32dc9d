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
import os
import re
import shutil
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fedloom.deployment.offline import require_flower
from fedloom.errors import BadInput, unknown
from fedloom.federation.silo.store import RUN_NAME
from fedloom.runs.disk import explained

if TYPE_CHECKING:
    from cryptography import x509

LOCAL = ("localhost", "127.0.0.1")
OWN = ("ca.crt", "ca.key", "server.crt", "server.key")
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
    if there := [name for name in OWN if (folder / name).exists()]:
        raise BadInput(
            f"{folder} holds an authority already (it has {there[0]}); kits of one are worthless with another"
        )
    names = [*dict.fromkeys([*hosts, *LOCAL])]
    alternatives = [_alternative(name) for name in names]
    authority = _authority("fedloom authority", days)
    server = _issue(authority, names[0], alternatives, days)
    with explained("write", folder):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)  # also one that was there
        _write(folder / "ca.crt", _pem(authority[0]))
        _write(folder / "server.crt", _pem(server[0]))
        _write(folder / "server.key", _secret(server[1]), private=True)
        _write(folder / "ca.key", _secret(authority[1]), private=True)


def issue(folder: Path, name: str, days: int = 825) -> Path:
    """Makes the kit of the silo `name`; its folder. Raises BadInput for a bad or taken name, or no authority."""
    require_flower()
    from cryptography.hazmat.primitives.asymmetric import ec

    check(folder)
    if not RUN_NAME.fullmatch(name):
        raise BadInput(f"silo name {name[:140]!r}, allowed: at most 128 letters, digits, '_', '-', '.'")
    kit = folder / "silos" / name
    if kit.exists():
        raise BadInput(f"{kit} is there already; revoke {name!r} first, or name another silo")
    # The silo's own endpoint has an authority of its own, so that this folder's key signs nothing that a silo shows.
    own = _authority(f"{name} on its own machine", days)
    local = _issue(own, "localhost", [_alternative(host) for host in LOCAL], days)
    key = ec.generate_private_key(ec.SECP384R1())
    part = folder / "silos" / f".{name}.part"
    with explained("write", kit):
        part.parent.mkdir(exist_ok=True, mode=0o700)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700)
        shutil.copyfile(folder / "ca.crt", part / "ca.crt")
        _write(part / "local.ca", _pem(own[0]))
        _write(part / "local.crt", _pem(local[0]))
        _write(part / "local.key", _secret(local[1]), private=True)
        _write(part / "node.key", _secret(key, openssh=True), private=True)
        _write(part / "node.pub", _public(key) + b"\n")
        part.rename(kit)  # a server that looks meanwhile sees a whole kit or none
    return kit


def revoke(folder: Path, name: str) -> None:
    """Takes a silo's key back: a server that is up refuses it from now on. Raises BadInput for an unknown silo."""
    check(folder)
    names = list(keys(folder))
    if name not in names:
        raise unknown("silo", name, names) if names else BadInput(f"{folder} has issued no kit")
    stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%S")
    gone = folder / "silos" / f".{name}.{stamp}.revoked"
    with explained("write", folder):
        (folder / "revoked").mkdir(exist_ok=True, mode=0o700)
        shutil.copyfile(folder / "silos" / name / "node.pub", folder / "revoked" / f"{name}.{stamp}.pub")
        (folder / "silos" / name).rename(gone)
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
    return [
        Holder(name, key, _certificate(folder / "silos" / name / "local.crt").not_valid_after_utc)
        for name, key in keys(folder).items()
    ]


def check(folder: Path) -> None:
    """Raises BadInput unless `folder` holds an authority whose certificates are good today."""
    require_flower()
    _complete(folder, OWN, "fedloom pki init")
    for name in ("ca.crt", "server.crt"):
        _current(folder / name)
    _pair(folder / "server.crt", folder / "server.key")


def check_kit(kit: Path) -> None:
    """Raises BadInput unless `kit` is whole, and its certificates good today."""
    require_flower()
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    _complete(kit, KIT, "fedloom pki issue NAME")
    for name in ("ca.crt", "local.crt"):
        _current(kit / name)
    _pair(kit / "local.crt", kit / "local.key")
    try:
        load_ssh_private_key((kit / "node.key").read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise BadInput(f"{kit / 'node.key'} is no private key: {' '.join(str(error).split())}") from None


def check_host(folder: Path, host: str) -> None:
    """Raises BadInput unless the server's certificate is good for `host`."""
    from cryptography import x509

    file = folder / "server.crt"
    names = _certificate(file).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    good = [str(name.value).lower() for name in names]
    if not {host.lower(), f"*.{host.lower().partition('.')[2]}"} & set(good):
        raise BadInput(
            f"host {host!r}: {file} is not good for it, allowed: {', '.join(good)}; "
            f"`fedloom pki init --host {host}` makes one that is"
        )


def _complete(folder: Path, names: Sequence[str], command: str) -> None:
    with explained("read", folder):
        missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise BadInput(f"{folder} has no {missing[0]}; `{command}` makes it")


def _certificate(file: Path) -> x509.Certificate:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(file.read_bytes())
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise BadInput(f"{file} is no certificate: {' '.join(str(error).split())}") from None


def _current(file: Path) -> None:
    certificate, now = _certificate(file), dt.datetime.now(dt.UTC)
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > ends:
        raise BadInput(f"{file} was good until {ends:%Y-%m-%d}, today is {now:%Y-%m-%d}")
    if now < begins:
        raise BadInput(f"{file} is good from {begins:%Y-%m-%d}, today is {now:%Y-%m-%d}")


def _pair(certificate: Path, key: Path) -> None:
    """Raises BadInput unless the key is that of the certificate."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except OSError as error:  # ssl's own errors are of this kind
        raise BadInput(f"{key} is not the key of {certificate}: {error.strerror or error}") from None


def _alternative(host: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if not re.fullmatch(r"(\*\.)?[A-Za-z0-9_][A-Za-z0-9_.-]*", host):
        raise BadInput(f"host {host!r}, allowed: an address, or a name of letters, digits, '-', '.'; no port")
    return x509.DNSName(host)


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
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
