"""What a server says of its silos, read from Flower's log."""

from __future__ import annotations

import pytest

from fedloom.deployment import superlink_log
from fedloom.deployment.superlink_log import Reader

UNKNOWN = (
    "[/v1/fleet/activate-node][ApiError:2004] Attempted to register SuperNode with public key: b'ecdsa AAAA', "
    "exception: No SuperNode found with the given public key."
)
HELD = (
    "[/v1/fleet/activate-node][ApiError:2004] Attempted to register SuperNode with public key: b'ecdsa AAAA', "
    "exception: SuperNode with node ID 802 could not be activated."
)


def answered(status: int, client: str = "127.0.0.1:58454", verb: str = "activate-node") -> str:
    return f'2026-11-21T09:59:26.008Z INFO [uvicorn.access] {client} - "POST /v1/fleet/{verb} HTTP/1.1" {status}'


class Log:
    """A SuperLink's log and its reader."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.reader = Reader(self.said.append, lambda: {"802": "clinic"})

    def read(self, *lines: str) -> list[str]:
        """What is said of these lines."""
        self.said.clear()
        self.reader.read(lines)
        return self.said


@pytest.fixture
def log() -> Log:
    return Log()


def test_silos_that_come_and_go_are_called_by_their_names(log: Log) -> None:
    assert log.read("\x1b[92mINFO \x1b[0m:      [Fleet.ActivateNode] Activated node_id=802") == [
        "silo clinic connected"
    ]
    assert log.read("INFO : [Fleet.DeactivateNode] Deactivated node_id=802") == ["silo clinic left"]
    assert log.read("[Fleet.ActivateNode] Activated node_id=7") == ["silo 7 connected"]
    again = log.read(*["[Fleet.ActivateNode] Activated node_id=802"] * 2)
    assert again == ["silo clinic connected"] * 2  # each time it comes is news


def test_why_a_silo_is_refused(log: Log) -> None:
    assert log.read(UNKNOWN, answered(412)) == [
        "refused a silo at 127.0.0.1: its key is not registered; `fedloom pki issue NAME` gives a silo one"
    ]
    assert log.read(HELD, answered(412, "10.1.2.3:4")) == [
        "refused a silo at 10.1.2.3: it is connected already; a crashed silo counts as connected for up to a minute"
    ]
    assert log.read(answered(401, "10.1.2.3:5", "pull-messages")) == [
        "refused a silo at 10.1.2.3: its signature is not that of a silo that is admitted"
    ]
    assert log.read(answered(412, "10.1.2.3:6")) == ["refused a silo at 10.1.2.3: status 412"]


def test_a_reason_is_not_given_to_the_next_one_too(log: Log) -> None:
    log.read(UNKNOWN, answered(401))
    assert log.read(answered(412)) == ["refused a silo at 127.0.0.1: status 412"]


def test_a_client_that_does_not_trust_the_certificate(log: Log) -> None:
    assert log.read("fedloom: TLS handshake failed: TLSV1_ALERT_UNKNOWN_CA") == [
        "refused a client: it does not trust this server's certificate (unknown ca)"
    ]


def test_a_client_that_does_not_speak_tls(log: Log) -> None:
    assert log.read("fedloom: TLS handshake failed: HTTP_REQUEST") == [
        "refused a client without TLS, such as a silo with --insecure"
    ]
    assert log.read("fedloom: TLS handshake failed: UNEXPECTED_EOF") == []


def test_what_is_no_matter_of_silos_is_passed_over(log: Log) -> None:
    assert log.read(answered(200), "[Fleet.PullMessages]", "", 'GET /health HTTP/1.1" 200') == []
    assert log.read('10.0.0.1:3 - "POST /v1/control/run HTTP/1.1" 500') == []


def test_an_order_from_elsewhere(log: Log) -> None:
    assert log.read('... INFO [uvicorn.access] 10.0.0.1:3 - "POST /v1/control/start-run HTTP/1.1" 403') == [
        "refused a command from 10.0.0.1: this server takes commands from its own machine only"
    ]


def test_what_comes_with_every_try_is_said_once_in_half_a_minute(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(superlink_log.time, "monotonic", lambda: now[0])
    assert len(log.read(*[UNKNOWN, answered(412)] * 5)) == 1
    now[0] += 29
    assert log.read(UNKNOWN, answered(412)) == []
    assert len(log.read(UNKNOWN, answered(412, "10.1.2.3:4"))) == 1  # another one
    now[0] += 2
    assert len(log.read(UNKNOWN, answered(412))) == 1
