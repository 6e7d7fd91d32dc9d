"""How long certificates are good is said in time, and none outlives its authority."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pki_keys import DAY, authority_ends, call, until
from pki_keys import keys as keys

from fedloom.deployment import certificates, pki, validity
from fedloom.errors import BadInput
from fedloom.runs.disk import json_text, locked


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets this machine's clock to so many days from now."""
    now = dt.datetime.now(dt.UTC)

    def move(days: float) -> None:
        monkeypatch.setattr("fedloom.deployment.certificates.now", lambda: now + days * DAY)

    return move


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
