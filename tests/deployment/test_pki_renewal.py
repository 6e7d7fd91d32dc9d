"""How long certificates are good is said in time; renewing them breaks nothing, also where it is broken off."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_pki import handshake

from fedloom.cli.main import main
from fedloom.deployment import certificates, pki, renewal, validity
from fedloom.errors import BadInput
from fedloom.runs.disk import json_text, locked

DAY = dt.timedelta(days=1)
HOST = "fed.example.org"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """An authority and two kits, good for 825 days."""
    pki.init(tmp_path / "pki", [HOST])
    for name in ("clinic", "archive"):
        pki.issue(tmp_path / "pki", name)
    return tmp_path / "pki"


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets this machine's clock to so many days from now."""
    now = dt.datetime.now(dt.UTC)

    def move(days: float) -> None:
        monkeypatch.setattr("fedloom.deployment.certificates.now", lambda: now + days * DAY)

    return move


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


# ------------------------------------------------------------------------------------------- what is said, and when


def test_a_kit_is_good_as_long_as_its_authority(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority_ends(keys, 1)
    tomorrow = f"{dt.datetime.now(dt.UTC) + DAY:%Y-%m-%d}"
    code, out, err = call(capsys, "pki", "list", "--folder", keys)
    assert code == 0
    assert [line.split()[-5:] for line in out.splitlines() if tomorrow in line] == [
        [who, tomorrow, "ca.crt", "ends", "soon"] for who in ("authority", "server", "archive", "clinic")
    ]
    assert err.splitlines() == [err.strip()]  # the authority's end is said once, not for each kit
    assert "the authority ends in 0 days, on " in err
    assert "`fedloom pki renew --authority`" in err


@pytest.mark.parametrize(
    ("days", "state", "told"),
    [
        (0.0, "good", None),
        (794.0, "good", None),
        (795.5, "ends soon", "ends in 29 days"),
        (826.0, "ended", "ended on "),
        (-0.5, "not yet good", "is this machine's clock right?"),
    ],
)
def test_said_thirty_days_ahead_and_after_and_before(
    keys: Path, later: Callable[[float], None], days: float, state: str, told: str | None
) -> None:
    later(days)
    found = validity.validity(keys, validity.AUTHORITY)
    assert found.state == state
    for lines in (validity.of_server(keys), validity.of_kit(keys / "silos" / "clinic")):
        assert len(lines) <= (0 if told is None else 2)
        assert bool(lines) == (told is not None)
        assert all(told is not None and told in line for line in lines)
    if state == "ended":
        with pytest.raises(BadInput, match=r"ca.crt was good until .* renew --authority"):
            pki.check(keys)
        with pytest.raises(BadInput, match=r"clinic/.* was good until .* renew"):
            pki.check_kit(keys / "silos" / "clinic")
        pki.revoke(keys, "clinic")  # that must be possible all the same


def test_each_end_is_told_by_its_own_renewal(keys: Path) -> None:
    pki.issue(keys, "short", days=3)
    shutil.copytree(keys, keys.parent / "other")
    key = certificates.read_key(keys / "server.key")
    signer = certificates.read_certificate(keys / "ca.crt"), certificates.read_key(keys / "ca.key")
    ends = certificates.now() + 5 * DAY
    (keys / "server.crt").write_bytes(certificates.pem(certificates.sign(signer, "x", [], ends, key)[0]))
    (keys / "silos" / "archive" / "local.crt").write_text("rubbish")  # a server does not end for that
    server, kit = validity.of_server(keys)
    assert server.startswith("the server's certificate ends in ")
    assert "`fedloom pki renew --server`" in server
    assert kit.startswith("the kit of short ends in 2 days, on ")
    assert "`fedloom pki renew short`" in kit


def test_the_server_its_silos_and_status_say_it(
    keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    authority_ends(keys, 9.5)
    said: list[str] = []
    reminder = validity.Reminder(lambda: validity.of_server(keys), said.append)
    now = [1000.0]
    monkeypatch.setattr("fedloom.deployment.validity.time.monotonic", lambda: now[0])
    for _ in range(3):
        reminder.look()
    assert len(said) == 1
    assert said[0].startswith("the authority ends in 9 days, on ")
    now[0] += 90000.0
    reminder.look()
    assert len(said) == 2
    monkeypatch.undo()

    monkeypatch.chdir(tmp_path)
    server, silo = tmp_path / "fedloom-server", tmp_path / "silo"
    for folder in (server, silo):
        folder.mkdir()
    (server / "host.json").write_text(json_text({"address": "127.0.0.1:9", "pki": str(keys)}))
    (silo / "silo.json").write_text(json_text({"state": "stopped", "kit": str(keys / "silos" / "clinic")}))
    monkeypatch.setattr("fedloom.deployment.superlink.Host.silos", lambda self: [])
    with locked(server / ".lock"):
        assert "the authority ends in 9 days, on " in call(capsys, "status")[1]
        assert "the authority ends in 9 days, on " in call(capsys, "status", "--json")[1]
    out = call(capsys, "status", "--silo", silo)[1]
    assert f"{until(keys / 'silos' / 'clinic'):%Y-%m-%d}" in out
    assert "ends in 9 days" in out


class _Up:
    """Stands in for a SuperLink and a silo's supervisor, and is interrupted at its first look."""

    port = 9

    def __init__(self, folder: Path) -> None:
        self.pki = self.kit = folder

    def __enter__(self) -> _Up:
        return self

    def __exit__(self, *error: object) -> None: ...

    def check(self) -> None:
        raise KeyboardInterrupt


def test_server_up_and_silo_up_say_it(
    keys: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    authority_ends(keys, 3.5)
    monkeypatch.setattr("fedloom.deployment.superlink.SuperLink", lambda settings, say: _Up(keys))
    kit = keys / "silos" / "clinic"
    monkeypatch.setattr("fedloom.deployment.silo.supervise", lambda settings, say: _Up(kit))
    code, out, _ = call(capsys, "server", "up")
    assert code == 0
    assert "the authority ends in 3 days, on " in out
    words = ("--name", "clinic", "--modality", "text", "--model", "bert")
    code, out, _ = call(capsys, "silo", "up", *words)
    assert code == 0
    assert f"the kit {kit} ends in 3 days, on " in out
    assert "ask who runs the server to renew it" in out


# ------------------------------------------------------------------------------------- none outlives its authority


@pytest.mark.parametrize("days", [1, 40, 5000])
def test_nothing_issued_outlives_its_authority(keys: Path, days: int) -> None:
    authority_ends(keys, 40)
    end = until(keys, validity.AUTHORITY)
    kit = pki.issue(keys, "new", days=days)
    for name in validity.KIT:
        assert certificates.read_certificate(kit / name).not_valid_after_utc <= end
    pki.init(keys.parent / "own", [], days)
    own = [certificates.read_certificate(keys.parent / "own" / f"{who}.crt") for who in ("ca", "server")]
    assert own[1].not_valid_after_utc <= own[0].not_valid_after_utc


def test_what_is_cut_short_is_said(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority_ends(keys, 10)
    code, out, err = call(capsys, "pki", "issue", "new", "--folder", keys)
    assert code == 0
    assert f"good until {until(keys, validity.AUTHORITY):%Y-%m-%d}" in out
    assert "the authority ends in 9 days" in err


# -------------------------------------------------------------------------------------------------------- renewing


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
