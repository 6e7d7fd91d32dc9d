"""A silo's SuperNode looked after: let in, refused, mistrusting, alone, crashed; each told in one line."""

from __future__ import annotations

import pytest
from supervised_silo import AGAIN, FAILING, ID, MISTRUST, NO_TLS, REFUSED, SERVER, Silo, connect

from fedloom.deployment import supervisor
from fedloom.errors import FedloomError


def test_a_silo_that_was_never_let_in_ends_with_one_line(silo: Silo) -> None:
    silo.orders["supernode"] = f"say {REFUSED.replace(chr(10), '|')}\nexit 1"
    silo.supervisor.start()
    silo.check(lambda: silo.supervisor.state == "waiting")
    assert silo.said[-1].endswith("; retrying in 10 s: a starting server admits its silos last")
    silo.now += supervisor.PAUSE
    with pytest.raises(FedloomError) as error:
        silo.check(lambda: False)
    assert str(error.value) == (
        f"silo clinic: the server at {SERVER} refused this silo: its key is not registered there, "
        "or another process uses it"
    )
    assert silo.file()["state"] == "refused"


def test_one_that_was_let_in_before_waits_and_says_so_once(up: Silo) -> None:
    connect(up)
    up.orders["supernode"] = f"say {REFUSED.replace(chr(10), '|')}\nexit 1"
    up.said.clear()
    up.started[1][1].process.kill()
    up.check(lambda: up.said)
    assert "the SuperNode's process" in up.said.pop()
    for tries in range(2, 5):
        up.now += supervisor.PAUSE - 0.1
        up.supervisor.check()
        assert up.count("supernode") == tries - 1
        up.now += 0.2
        up.check(lambda tries=tries: up.count("supernode") == tries and up.supervisor.node is None)
    line = "silo clinic: the server still counts it as connected, or revoked its key; retrying every 10 s"
    assert up.said == [line]
    assert up.file()["state"] == "waiting"
    up.orders["supernode"] = f"say {ID}"
    up.now += supervisor.PAUSE
    up.check(lambda: up.supervisor.state == "connected")
    assert up.said[1:] == [f"silo clinic is connected to {SERVER}"]


def test_having_been_let_in_elsewhere_is_no_reason_to_wait(silo: Silo) -> None:
    silo.supervisor.start()
    connect(silo)
    silo.supervisor.stop()
    silo.orders["supernode"] = f"say {REFUSED.replace(chr(10), '|')}\nexit 1"
    silo.supervisor = silo.another(server="other.example.org:9092")
    silo.supervisor.start()
    silo.check(lambda: silo.supervisor.state == "waiting")
    silo.now += supervisor.PAUSE
    with pytest.raises(FedloomError, match=r"other.example.org:9092 refused this silo"):
        silo.check(lambda: False)


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (
            MISTRUST,
            f"does not trust the server at {SERVER}, by .*clinic/ca.crt .unable to get local issuer certificate.$",
        ),
        (NO_TLS, f"the server at {SERVER} does not speak TLS$"),
    ],
)
def test_a_server_that_is_not_the_one(silo: Silo, log: str, told: str) -> None:
    silo.orders["supernode"] = f"say {log.replace(chr(10), '|')}\nexit 1"
    silo.supervisor.start()
    with pytest.raises(FedloomError, match=told) as error:
        silo.check(lambda: False)
    assert "\n" not in str(error.value)


def test_a_server_whose_certificate_changed_is_waited_for(up: Silo) -> None:
    connect(up)
    up.said.clear()
    up.orders["supernode"] = f"say {MISTRUST.replace(chr(10), '|')}\nexit 1"
    up.hear(MISTRUST)
    up.started[1][1].process.kill()
    up.check(lambda: up.supervisor.state == "refused")
    assert up.said[0].endswith("; retrying every 10 s")
    up.now += 11
    up.check(lambda: up.count("supernode") == 2 and up.supervisor.node is None)
    assert len(up.said) == 1


def test_a_supernode_that_crashes_is_started_again_and_why_is_told(silo: Silo) -> None:
    silo.orders["supernode"] = "say starting|OSError: cannot assign requested address\nexit 2"
    silo.supervisor.start()
    silo.check(lambda: silo.said)
    assert "ended with status 2 (OSError: cannot assign requested address); restarting it in 10 s" in silo.said[0]
    silo.now += 11
    silo.supervisor.check()
    assert silo.count("supernode") == 2


def test_a_server_that_does_not_answer_is_told_once_and_only_after_a_while(up: Silo) -> None:
    up.hear(FAILING)
    up.now += 14
    up.hear(FAILING)
    assert up.said == []
    up.now += 2
    up.hear(FAILING)
    up.now += 60
    up.hear(FAILING)
    assert up.said == [f"silo clinic: {SERVER} does not answer; trying on"]
    assert up.file()["state"] == "waiting"
    up.hear(AGAIN)  # it answers; whether it lets the silo in is another matter
    assert up.file()["state"] == "waiting"
    connect(up)


def test_a_server_that_is_gone_for_a_while_is_told_and_that_it_is_back(up: Silo) -> None:
    connect(up)
    up.hear(FAILING)
    up.hear(AGAIN)
    up.now += 60
    up.supervisor.check()
    assert len(up.said) == 1  # a short break is no news
    up.hear(FAILING)
    up.now += 16
    up.supervisor.check()
    assert up.file()["state"] == "waiting"
    up.hear(AGAIN)
    assert up.file()["state"] == "connected"
    connected = f"silo clinic is connected to {SERVER}"
    assert up.said == [connected, f"silo clinic: {SERVER} does not answer; trying on", connected]


def test_code_that_is_not_ours_is_told(up: Silo) -> None:
    up.hear("fedloom: refused to run code that is not fedloom's, of run 6")
    assert up.said == ["silo clinic: the server sent code that is not fedloom's; it was not run"]
