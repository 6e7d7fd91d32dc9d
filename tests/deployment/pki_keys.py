"""An authority with two kits, and ends of their certificates."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from fedloom.cli.main import main
from fedloom.deployment import certificates, pki, validity

DAY = dt.timedelta(days=1)
HOST = "fed.example.org"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """An authority and two kits, good for 825 days."""
    pki.init(tmp_path / "pki", [HOST])
    for name in ("clinic", "archive"):
        pki.issue(tmp_path / "pki", name)
    return tmp_path / "pki"


def authority_ends(folder: Path, days: float) -> None:
    """The authority's certificate, also in the kits, ends in so many days; the others as before."""
    key = certificates.read_key(folder / "ca.key")
    made = certificates.make_authority("fedloom authority", certificates.now() + days * DAY, key)
    for file in folder.rglob("ca.crt"):
        file.write_bytes(certificates.pem(made[0]))


def until(folder: Path, names: tuple[str, ...] = validity.KIT) -> dt.datetime:
    return validity.validity(folder, names).until


def call(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    code = main([str(a) for a in args])
    said = capsys.readouterr()
    return code, said.out, said.err
