"""X.509 certificates and keys in files: made, signed, read, written.

Times are aware datetimes in UTC.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import re
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fedloom.deployment.offline import require_flower
from fedloom.errors import BadInput

require_flower()  # which brings cryptography

from cryptography import x509  # noqa: E402
from cryptography.hazmat.primitives import hashes  # noqa: E402
from cryptography.hazmat.primitives import serialization as s  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402

Signer = tuple[x509.Certificate, Any]  # a certificate and its private key


def now() -> dt.datetime:
    """By this machine's clock."""
    return dt.datetime.now(dt.UTC)


def read_certificate(file: Path) -> x509.Certificate:
    """The first certificate of a file. Raises BadInput."""
    found: x509.Certificate = _read(file, "certificate", x509.load_pem_x509_certificate)
    return found


def read_key(file: Path, *, openssh: bool = False) -> Any:
    """The private key in a file, which is not encrypted. Raises BadInput."""
    load = s.load_ssh_private_key if openssh else s.load_pem_private_key
    return _read(file, "private key", lambda data: load(data, None))


def _read(file: Path, what: str, load: Callable[[bytes], Any]) -> Any:
    try:
        return load(file.read_bytes())
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError) as error:
        raise BadInput(f"{file} is no {what}: {' '.join(str(error).split())}") from None


def check_pair(certificate: Path, key: Path) -> None:
    """Raises BadInput unless the key is that of the certificate."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except OSError as error:  # ssl's own errors are of this kind
        raise BadInput(f"{key} is not the key of {certificate}: {error.strerror or error}") from None


def alternative(host: str) -> Any:
    """A host as a subject alternative name. Raises BadInput."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if not re.fullmatch(r"(\*\.)?[A-Za-z0-9_][A-Za-z0-9_.-]*", host):
        raise BadInput(f"host {host!r}, allowed: an address, or a name of letters, digits, '-', '.'; no port")
    return x509.DNSName(host)


def new_key() -> Any:
    """A private key."""
    return ec.generate_private_key(ec.SECP384R1())


def make_authority(subject: str, until: dt.datetime, key: Any = None) -> Signer:
    """An authority of that name with `key`, or a new one. Those of one name and key are interchangeable."""
    key, name = key or new_key(), _name(subject)
    blank = _blank(name, name, key, until)
    blank = blank.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    blank = blank.add_extension(_usage(authority=True), critical=True)
    identity = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return blank.add_extension(identity, critical=False).sign(key, hashes.SHA384()), key


def sign(authority: Signer, subject: str, names: Sequence[Any], until: dt.datetime, key: Any = None) -> Signer:
    """A server's certificate for `names` with `key`, or a new one. It ends at `until`, or with its authority."""
    certificate, signer = authority
    key = key or new_key()
    until = min(until, certificate.not_valid_after_utc)
    blank = _blank(_name(subject), certificate.subject, key, until)
    identity = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    for extension, critical in (
        (x509.SubjectAlternativeName(names), False),
        (_usage(authority=False), True),
        (x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (identity, False),
    ):
        blank = blank.add_extension(extension, critical=critical)
    return blank.sign(signer, hashes.SHA384()), key


def hosts_of(certificate: x509.Certificate) -> list[Any]:
    """The subject alternative names of a server's certificate."""
    return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


def common_name(certificate: x509.Certificate) -> str:
    """The common name of a certificate's subject."""
    return str(certificate.subject.get_attributes_for_oid(x509.oid.NameOID.COMMON_NAME)[0].value)


def pem(certificate: Any) -> bytes:
    """A certificate in PEM."""
    return bytes(certificate.public_bytes(s.Encoding.PEM))


def secret(key: Any, *, openssh: bool = False) -> bytes:
    """A private key in PEM, not encrypted."""
    form = s.PrivateFormat.OpenSSH if openssh else s.PrivateFormat.PKCS8
    return bytes(key.private_bytes(s.Encoding.PEM, form, s.NoEncryption()))


def public(key: Any) -> bytes:
    """The public key of a private key in OpenSSH form: one line without its end."""
    return bytes(key.public_key().public_bytes(s.Encoding.OpenSSH, s.PublicFormat.OpenSSH))


def write_new(path: Path, data: bytes, *, private: bool = False) -> None:
    """A private file is never readable by others, not even for a moment."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644)
    with os.fdopen(handle, "wb") as file:
        file.write(data)


def _name(subject: str) -> Any:
    return x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, subject[:64])])


def _blank(subject: Any, issuer: Any, key: Any, until: dt.datetime) -> Any:
    blank = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    blank = blank.serial_number(x509.random_serial_number())
    # An hour back, for machines whose clocks differ.
    return blank.not_valid_before(min(now(), until) - dt.timedelta(hours=1)).not_valid_after(until)


def _usage(*, authority: bool) -> Any:
    return x509.KeyUsage(not authority, False, False, False, False, authority, authority, False, False)
