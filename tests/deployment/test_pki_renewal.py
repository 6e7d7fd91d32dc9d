"""Renewing certificates breaks nothing, also where it is broken off."""

from __future__ import annotations

import os
import shutil
import ssl
from pathlib import Path
from typing import Any

import pytest
from pki_keys import DAY, HOST, authority_ends, call, until
from pki_keys import keys as keys
from test_pki import handshake

from fedloom.deployment import certificates, pki, renewal, validity
from fedloom.errors import BadInput


def test_a_renewed_authority_and_the_old_one_are_good_for_the_same(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    authority_ends(keys, 20)
    shutil.copytree(keys, keys.parent / "old")
    code, out, _ = call(capsys, "pki", "renew", "--authority", "--folder", keys)
    assert code == 0
    assert "the authority and the server's certificate are good until " in out
    assert f"{keys}/ca.crt, which is no secret, goes to every silo (archive, clinic)" in out
    assert until(keys, validity.SERVER) - certificates.now() > 800 * DAY
    for trusted in (
        keys,
        keys.parent / "old",
        keys / "silos" / "clinic",
        keys.parent / "old" / "silos" / "clinic",
    ):
        for server in (keys, keys.parent / "old"):
            handshake(server / "server.crt", server / "server.key", trusted / "ca.crt", HOST)
    assert (keys / "ca.key").read_bytes() == (keys.parent / "old" / "ca.key").read_bytes()
    pki.check(keys)
    assert not validity.of_server(keys)
    pki.init(keys.parent / "foreign", [HOST])
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(keys / "server.crt", keys / "server.key", keys.parent / "foreign" / "ca.crt", HOST)


def test_a_renewed_kit_is_the_same_silo(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kit = pki.issue(keys, "short", days=3)
    names = pki.keys(keys)
    old = {file.name: file.read_bytes() for file in kit.iterdir()}
    code, out, _ = call(capsys, "pki", "renew", "short", "--folder", keys)
    assert code == 0
    assert "ca.crt, local.crt, local.ca of it go to short, in place of those that it has (good until " in out
    new = {file.name: file.read_bytes() for file in kit.iterdir()}
    assert {name for name in old if old[name] != new[name]} == {"local.crt", "local.ca"}
    assert pki.keys(keys) == names
    pki.check_kit(kit)
    handshake(kit / "local.crt", kit / "local.key", kit / "local.ca", "127.0.0.1")
    assert until(kit) - certificates.now() > 800 * DAY
    assert (kit / "local.key").stat().st_mode & 0o777 == 0o600


def test_a_kit_whose_private_keys_were_deleted_here(keys: Path) -> None:
    """As the guide allows once it is handed over."""
    kit = pki.issue(keys, "short", days=3)
    for name in ("node.key", "local.key"):
        (kit / name).unlink()
    _, handed = renewal.renew_silo(keys, "short", 400)
    assert handed == ["ca.crt", "local.crt", "local.ca", "local.key"]
    assert not (kit / "node.key").exists()
    assert (kit / "local.key").stat().st_mode & 0o777 == 0o600
    handshake(kit / "local.crt", kit / "local.key", kit / "local.ca", "127.0.0.1")


def test_a_renewed_server_has_its_key_and_its_names(keys: Path) -> None:
    authority_ends(keys, 2000)
    key = (keys / "server.key").read_bytes()
    renewal.renew_server(keys, 1000)
    assert (keys / "server.key").read_bytes() == key
    for name in (HOST, "127.0.0.1"):
        handshake(keys / "server.crt", keys / "server.key", keys / "ca.crt", name)


@pytest.mark.parametrize("days", [10.0, -1.0])
def test_renew_alone_renews_what_needs_it(keys: Path, days: float, capsys: pytest.CaptureFixture[str]) -> None:
    """Also of a federation that has ended."""
    assert "nothing ends within thirty days" in call(capsys, "pki", "renew", "--folder", keys)[1]
    pki.issue(keys, "short", days=3)
    authority_ends(keys, days)
    code, out, err = call(capsys, "pki", "renew", "--folder", keys)
    assert (code, err) == (0, "")
    assert [line.split(" good until ")[0] for line in out.splitlines()][::2] == [
        "the authority and the server's certificate are",
        f"{keys}/silos/short is",
    ]
    assert not validity.of_server(keys)
    pki.check(keys)
    for name in ("short", "clinic"):
        pki.check_kit(keys / "silos" / name)
    assert "nothing ends within thirty days" in call(capsys, "pki", "renew", "--folder", keys)[1]


REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown": (("clinik",), "unknown silo 'clinik'. Did you mean 'clinic'?"),
    "sooner": (("clinic", "--days", "10"), "the kit of clinic is good until "),
    "authority sooner": (("--authority", "--days", "10"), "longer than the 10 days of --days"),
    "as long as the authority": (("--server", "--days", "5000"), "`fedloom pki renew --authority` first"),
    "days": (("--authority", "--days", "0"), "--days"),
    "just made": (("clinic",), "for the 825 days of --days: there is nothing to renew"),
    "all just made": (("--server",), "there is nothing to renew"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_renewed_is_left_as_it_is(keys: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = {file: file.read_bytes() for file in keys.rglob("*") if file.is_file()}
    args, told = REFUSED[name]
    code, out, err = call(capsys, "pki", "renew", *args, "--folder", keys)
    assert (code, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1
    assert {file: file.read_bytes() for file in keys.rglob("*") if file.is_file()} == before


def test_renewing_needs_the_authoritys_key(keys: Path) -> None:
    (keys / "ca.key").rename(keys.parent / "in a safe")
    with pytest.raises(BadInput, match=r"has no ca.key, the signing key; restore it"):
        renewal.renew_server(keys, 1000)
    pki.init(keys.parent / "other", [])
    shutil.copy(keys.parent / "other" / "ca.key", keys / "ca.key")
    with pytest.raises(BadInput, match=r"ca.key is not the key of .*ca.crt"):
        renewal.renew_authority(keys, 1000)


@pytest.mark.parametrize("after", range(8))
def test_a_renewal_that_is_broken_off_leaves_what_works(
    keys: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many files it has replaced: the server is believed, old kits too; given again, it is done."""
    authority_ends(keys, 5)
    kit = pki.issue(keys, "short", days=3)
    old = shutil.copytree(kit, keys.parent / "old kit")
    written: list[Path] = []

    def write(path: Path, content: bytes) -> None:
        if len(written) == after:
            raise KeyboardInterrupt
        written.append(path)
        path.write_bytes(content)

    with monkeypatch.context() as patch:
        patch.setattr(renewal, "write_atomic", write)
        with pytest.raises(KeyboardInterrupt):
            _renew_all(keys)
    pki.check(keys)
    for trusted in (keys, kit, old, keys / "silos" / "archive"):
        handshake(keys / "server.crt", keys / "server.key", trusted / "ca.crt", HOST)
    pki.check_kit(kit)
    handshake(kit / "local.crt", kit / "local.key", kit / "local.ca", "127.0.0.1")
    _renew_all(keys)
    assert not validity.of_server(keys)
    assert not [name for name in os.listdir(kit) if name.endswith(".part")]


def _renew_all(folder: Path) -> None:
    authority, server, silos = renewal.due(folder)
    if authority:
        renewal.renew_authority(folder, 825)
    elif server:
        renewal.renew_server(folder, 825)
    for name in silos:
        renewal.renew_silo(folder, name, 825)


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (
            "certificate has expired",
            "(certificate has expired): its certificate or the authority's has ended",
        ),
        ("certificate is not yet valid", "(certificate is not yet valid): is this machine's clock right?"),
    ],
)
def test_a_silo_says_whose_clock_or_certificate_it_is(log: str, told: str, tmp_path: Path) -> None:
    from fedloom.deployment.supernode_log import refusal

    found: Any = refusal(f"CERTIFICATE_VERIFY_FAILED] certificate verify failed: {log} (_ssl.c:1006)", "h:1", tmp_path)
    assert told in found.line
