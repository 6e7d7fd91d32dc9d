"""Certificates and keys: what is where and who may read it, whom TLS believes, what is refused in one line."""

from __future__ import annotations

import datetime as dt
import re
import shutil
import socket
import ssl
import threading
from pathlib import Path

import pytest

from fedloom.cli.main import main
from fedloom.deployment import pki
from fedloom.errors import BadInput

HOST = "fed.example.org"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    pki.init(tmp_path / "pki", [HOST, "10.1.2.3"])
    return tmp_path / "pki"


def modes(folder: Path) -> dict[str, int]:
    found = {str(p.relative_to(folder)): p.stat().st_mode & 0o777 for p in folder.rglob("*")}
    return {".": folder.stat().st_mode & 0o777, **found}


def handshake(certificate: Path, key: Path, authority: Path, name: str) -> None:
    """A client that trusts `authority` calls a server on loopback `name`. Raises what the client says."""
    inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    inside.load_cert_chain(certificate, key)
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            inside.wrap_socket(ours, server_side=True).close()
        except OSError:
            ours.close()

    server = threading.Thread(target=serve)
    server.start()
    try:
        with ssl.create_default_context(cafile=str(authority)).wrap_socket(theirs, server_hostname=name):
            pass
    finally:
        theirs.close()
        server.join(5)


# --------------------------------------------------------------------------------------------- what is where


def test_an_authority_is_for_its_owner_alone(keys: Path) -> None:
    found = modes(keys)
    assert found.pop(".") == 0o700
    assert set(found) == {"ca.crt", "ca.key", "server.crt", "server.key"}
    assert {name for name, mode in found.items() if mode == 0o600} == {"ca.key", "server.key"}


def test_a_folder_that_others_could_read_is_closed(tmp_path: Path) -> None:
    (tmp_path / "pki").mkdir(mode=0o755)
    pki.init(tmp_path / "pki", [])
    assert modes(tmp_path / "pki")["."] == 0o700


def test_a_kit_holds_what_a_silo_needs_and_no_key_of_the_authority(keys: Path) -> None:
    kit = pki.issue(keys, "clinic")
    assert kit == keys / "silos" / "clinic"
    found = modes(kit)
    assert found.pop(".") == 0o700
    assert set(found) == {"ca.crt", "node.key", "node.pub", "local.crt", "local.key", "local.ca"}
    assert {name for name, mode in found.items() if mode == 0o600} == {"node.key", "local.key"}
    assert (keys / "silos").stat().st_mode & 0o777 == 0o700
    secrets = [(keys / name).read_bytes() for name in ("ca.key", "server.key")]
    assert not any(secret in file.read_bytes() for file in kit.iterdir() for secret in secrets)
    assert (kit / "ca.crt").read_bytes() == (keys / "ca.crt").read_bytes()
    assert (kit / "node.pub").read_text().startswith("ecdsa-sha2-nistp384 ")


def test_no_two_silos_have_a_key_in_common(keys: Path) -> None:
    one, two = pki.issue(keys, "one"), pki.issue(keys, "two")
    for name in ("node.key", "node.pub", "local.key", "local.ca"):
        assert (one / name).read_bytes() != (two / name).read_bytes()


# ---------------------------------------------------------------------------------------- whom TLS believes


@pytest.mark.parametrize("name", [HOST, "10.1.2.3", "localhost", "127.0.0.1"])
def test_the_server_is_believed_under_each_of_its_names(keys: Path, name: str) -> None:
    handshake(keys / "server.crt", keys / "server.key", keys / "ca.crt", name)


def test_the_server_is_not_believed_under_another_name(keys: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"evil\.example\.org"):
        handshake(keys / "server.crt", keys / "server.key", keys / "ca.crt", "evil.example.org")


def test_another_authority_is_not_believed(keys: Path, tmp_path: Path) -> None:
    pki.init(tmp_path / "other", [HOST])
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(keys / "server.crt", keys / "server.key", tmp_path / "other" / "ca.crt", HOST)


def test_a_silos_own_endpoint_is_believed_by_itself_alone(keys: Path) -> None:
    kit = pki.issue(keys, "clinic")
    handshake(kit / "local.crt", kit / "local.key", kit / "local.ca", "127.0.0.1")
    with pytest.raises(ssl.SSLCertVerificationError):  # a silo cannot play the server for others
        handshake(kit / "local.crt", kit / "local.key", kit / "ca.crt", "127.0.0.1")


def test_a_host_the_certificate_is_not_good_for_is_told_before_silos_find_out(keys: Path) -> None:
    for good in (HOST, HOST.upper(), "127.0.0.1"):
        pki.check_host(keys, good)
    with pytest.raises(BadInput, match=r"host '10.9.9.9': .*server.crt .* allowed: fed.example.org, 10.1.2.3, loc"):
        pki.check_host(keys, "10.9.9.9")
    pki.init(keys.parent / "wild", ["*.example.org"])
    pki.check_host(keys.parent / "wild", HOST)


# ------------------------------------------------------------------------------------------- what is refused


def test_an_authority_is_not_replaced(keys: Path) -> None:
    before = {p: p.read_bytes() for p in keys.iterdir()}
    with pytest.raises(BadInput, match="already has an authority"):
        pki.init(keys, [])
    (keys / "ca.key").rename(keys.parent / "in a safe")
    with pytest.raises(BadInput, match=r"already has an authority \(ca.crt\)"):
        pki.init(keys, [])
    assert all(p.read_bytes() == data for p, data in before.items() if p.exists())


@pytest.mark.parametrize("host", ["", "two words", "https://fed.example.org", "fed.example.org:9092", "bücher.de"])
def test_a_host_that_is_none_is_refused_and_nothing_made(tmp_path: Path, host: str) -> None:
    with pytest.raises(BadInput, match=f"host {host!r}, allowed: an address, or a name"):
        pki.init(tmp_path / "pki", [host])
    assert not (tmp_path / "pki").exists()


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../up", "a b", "ä", "x" * 129])
def test_a_silo_name_that_is_none_is_refused(keys: Path, name: str) -> None:
    with pytest.raises(BadInput, match=r"silo name .* allowed: at most 128 letters"):
        pki.issue(keys, name)
    assert not (keys / "silos").exists()


def test_a_taken_name_is_refused_and_its_kit_left_alone(keys: Path) -> None:
    key = (pki.issue(keys, "clinic") / "node.key").read_bytes()
    with pytest.raises(BadInput, match="clinic is there already; revoke 'clinic' first, or name another"):
        pki.issue(keys, "clinic")
    assert (keys / "silos" / "clinic" / "node.key").read_bytes() == key


def test_what_a_killed_issue_left_behind_is_no_kit(keys: Path) -> None:
    part = keys / "silos" / ".clinic.part"
    part.mkdir(parents=True)
    (part / "node.pub").write_text("half")
    assert pki.keys(keys) == {}
    assert pki.issue(keys, "clinic").is_dir()
    assert [p.name for p in (keys / "silos").iterdir()] == ["clinic"]


def test_revoking_takes_the_key_off_the_list_and_keeps_its_public_part(keys: Path) -> None:
    for name in ("one", "two"):
        pki.issue(keys, name, days=30)
    assert [h.name for h in pki.listing(keys)] == ["one", "two"]
    assert {h.name: h.key for h in pki.listing(keys)} == pki.keys(keys)
    assert (pki.listing(keys)[0].validity.until - dt.datetime.now(dt.UTC)).days in (29, 30)
    key = pki.keys(keys)["one"]
    pki.revoke(keys, "one")
    assert list(pki.keys(keys)) == ["two"]
    assert [p.name for p in (keys / "silos").iterdir()] == ["two"]
    kept = list((keys / "revoked").iterdir())
    assert [p.read_text().strip() for p in kept] == [key]
    assert re.fullmatch(r"one\.\d{8}T\d{6}\.pub", kept[0].name)
    pki.issue(keys, "one")  # the name is free again, under another key
    assert pki.keys(keys)["one"] != key


def test_a_kit_that_goes_while_the_list_is_read(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pki.issue(keys, "one")
    pki.issue(keys, "two")
    real = Path.read_text

    def read(path: Path, **how: str) -> str:
        if path.parent.name == "one":
            pki.shutil.rmtree(path.parent)
        return real(path, **how)

    monkeypatch.setattr(Path, "read_text", read)
    assert list(pki.keys(keys)) == ["two"]


def test_revoking_whom_nobody_knows(keys: Path) -> None:
    with pytest.raises(BadInput, match="has issued no kit"):
        pki.revoke(keys, "clinic")
    pki.issue(keys, "clinic")
    with pytest.raises(BadInput, match=r"unknown silo 'clinik'. Did you mean 'clinic'\? Allowed: clinic"):
        pki.revoke(keys, "clinik")


def test_a_certificate_that_has_ended_is_told_with_its_date(tmp_path: Path) -> None:
    keys, today = tmp_path / "pki", dt.datetime.now(dt.UTC)
    pki.init(keys, [], days=0)
    told = rf"ca.crt was good until {today:%Y-%m-%d} \d\d:\d\d UTC, it is {today:%Y-%m-%d} \d\d:\d\d UTC; "
    with pytest.raises(BadInput, match=told):
        pki.check(keys)


def test_a_kit_that_has_ended_is_told_with_its_date(keys: Path) -> None:
    kit = pki.issue(keys, "clinic", days=0)
    with pytest.raises(BadInput, match=r"clinic/local.crt was good until \d{4}-\d\d-\d\d"):
        pki.check_kit(kit)


def test_a_certificate_of_tomorrow_is_told_with_its_date(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)

    monkeypatch.setattr("fedloom.deployment.certificates.now", lambda: yesterday)
    with pytest.raises(BadInput, match=r"ca.crt is good from .*, it is .* UTC: is this machine's clock right\?"):
        pki.check(keys)


def test_a_key_that_is_kept_elsewhere(keys: Path) -> None:
    """It is put back, not made; what it signed is listed without it."""
    (keys / "ca.key").unlink()
    with pytest.raises(BadInput, match=r"has no ca.key, the signing key; restore it from where it is kept"):
        pki.issue(keys, "clinic")
    assert main(["pki", "list", "--folder", str(keys)]) == 0


@pytest.mark.parametrize("name", ["ca.crt", "server.crt", "server.key"])
def test_a_missing_file_is_told_by_name_with_the_command_that_makes_it(keys: Path, name: str) -> None:
    (keys / name).unlink()
    with pytest.raises(BadInput, match=f"has no {name}; `fedloom pki init` makes it"):
        pki.issue(keys, "clinic")
    assert not (keys / "silos").exists()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ca.crt", "ca.crt is no certificate"),
        ("local.crt", "local.crt is no certificate"),
        ("local.key", "local.key is not the key of .*local.crt"),
        ("node.key", "node.key is no private key"),
    ],
)
def test_a_broken_file_of_a_kit_is_told_by_name(keys: Path, name: str, told: str) -> None:
    kit = pki.issue(keys, "clinic")
    pki.check_kit(kit)
    (kit / name).write_text("rubbish")
    with pytest.raises(BadInput, match=told) as error:
        pki.check_kit(kit)
    assert "\n" not in str(error.value)


def test_a_key_of_another_certificate_is_told(keys: Path) -> None:
    (keys / "server.key").write_bytes((keys / "ca.key").read_bytes())
    with pytest.raises(BadInput, match=r"server.key is not the key of .*server.crt"):
        pki.check(keys)


def test_a_folder_that_is_no_kit(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"kit has no ca.crt; `fedloom pki issue NAME` makes it"):
        pki.check_kit(tmp_path / "kit")


def test_a_revoked_kit_that_is_put_back_stays_revoked(keys: Path, tmp_path: Path) -> None:
    kit = pki.issue(keys, "clinic")
    copy = tmp_path / "copy"
    shutil.copytree(kit, copy)
    pki.revoke(keys, "clinic")
    shutil.copytree(copy, kit)
    assert pki.keys(keys) == {}
