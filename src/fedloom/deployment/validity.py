"""Validity of certificate chains: from the latest beginning to the first end. Times are aware datetimes in UTC.

There is a warning from thirty days before a chain ends, and while it is not valid yet, as when a clock is wrong.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from fedloom.deployment import certificates
from fedloom.deployment.certificates import read_certificate
from fedloom.errors import BadInput, FedloomError

SOON = dt.timedelta(days=30)
_NEAR = dt.timedelta(days=2)  # so near, the time of day matters
_DAY = 86400.0  # seconds between two reminders

# Certificates whose ends are those of a chain.
AUTHORITY, SERVER = ("ca.crt",), ("server.crt", "ca.crt")
KIT = ("local.crt", "local.ca", "ca.crt")

State = Literal["good", "ends soon", "ended", "not yet good"]


class Validity(NamedTuple):
    """begins, until: between which all of a chain are good; first: the certificate that ends first."""

    begins: dt.datetime
    until: dt.datetime
    first: Path

    @property
    def state(self) -> State:
        """As of now."""
        now = certificates.now()
        if now > self.until:
            return "ended"
        if now < self.begins:
            return "not yet good"
        return "ends soon" if self.until - now <= SOON else "good"

    def words(self) -> str | None:
        """A warning, as the end of a sentence; None while it is good for long."""
        now = certificates.now()
        ends = f"{at(self.until)} ({self.first.name})"
        match self.state:
            case "ended":
                return f"ended on {ends}, it is {at(now, self.until)} now"
            case "not yet good":
                return f"is good from {at(self.begins)}, it is {at(now, self.begins)}: is this machine's clock right?"
            case "ends soon":
                days = (self.until - now).days
                return f"ends in {days} day{'' if days == 1 else 's'}, on {ends}"
        return None


def validity(folder: Path, names: Sequence[str]) -> Validity:
    """Of the chain of those files in `folder`. Raises BadInput for one that is no certificate."""
    chain = {folder / name: read_certificate(folder / name) for name in names}
    first = min(chain, key=lambda file: chain[file].not_valid_after_utc)
    begins = max(certificate.not_valid_before_utc for certificate in chain.values())
    return Validity(begins, chain[first].not_valid_after_utc, first)


def check_current(file: Path, renewed_by: str) -> None:
    """Raises BadInput unless the certificate is good now."""
    found = validity(file.parent, (file.name,))
    now = certificates.now()
    if found.state == "ended":
        raise BadInput(f"{file} was good until {at(found.until)}, it is {at(now, found.until)}; {renewed_by}")
    if found.state == "not yet good":
        raise BadInput(
            f"{file} is good from {at(found.begins)}, it is {at(now, found.begins)}: is this machine's clock right?"
        )


def at(moment: dt.datetime, beside: dt.datetime | None = None) -> str:
    """A date; with the time of day where it is near to now (or to `beside`, in the same words)."""
    near = abs((beside or moment) - certificates.now()) < _NEAR
    return f"{moment:%Y-%m-%d %H:%M} UTC" if near else f"{moment:%Y-%m-%d}"


def of_server(folder: Path) -> list[str]:
    """Warnings on the certificates in a pki folder, a line each; files that cannot be read are passed over."""
    own, authority = [], None
    with suppress(BadInput):
        authority = validity(folder, AUTHORITY)
        server = validity(folder, SERVER)
        if words := authority.words():
            own.append(f"the authority {words}: `fedloom pki renew --authority`")
        elif words := server.words():
            own.append(f"the server's certificate {words}: `fedloom pki renew --server`")
        if server.state == "not yet good":
            return [f"the server's certificate {server.words()}"]
    kits: dict[str, list[str]] = {}
    for kit in sorted((folder / "silos").glob("[!.]*")):
        with suppress(BadInput):
            found = validity(kit, KIT)
            at_the_authoritys_end = authority is not None and found.until == authority.until
            if (words := found.words()) and not at_the_authoritys_end:
                kits.setdefault(words, []).append(kit.name)
    return own + [f"the kit of {', '.join(s)} {words}: `fedloom pki renew {' '.join(s)}`" for words, s in kits.items()]


def of_kit(kit: Path) -> list[str]:
    """The warning on a silo's kit, if there is one."""
    with suppress(BadInput):
        if words := validity(kit, KIT).words():
            return [f"the kit {kit} {words}: ask who runs the server to renew it (`fedloom pki renew`)"]
    return []


class Reminder:
    """Says `lines` once a day, as long as `look` is called."""

    def __init__(self, lines: Callable[[], Sequence[str]], say: Callable[[str], None]) -> None:
        self._lines, self._say = lines, say
        self._due = 0.0

    def look(self) -> None:
        """Says them if it is time to."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + _DAY
            with suppress(FedloomError):
                for line in self._lines():
                    self._say(line)
