"""A real federation on loopback: TLS, node keys, resident workers. The same numbers, also after a kill; who is refused.

Each message costs Flower some seconds, mostly asleep, so these tests are few, and what can is done at once.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from federation_on_loopback import Federation, config_for, until

import fedloom
from fedloom.deployment import pki
from fedloom.deployment.events import standing
from fedloom.deployment.job import event_file
from fedloom.deployment.silo import SiloSupervisor
from fedloom.errors import FedloomError
from fedloom.federation.silo.letters import Letter
from fedloom.federation.silo.relay import relay
from fedloom.methods.base import load_method
from fedloom.methods.catalogue import CATALOGUE
from fedloom.runs.load import Run
from test_engines import assert_same, overrides

WITH_CLIENTS = tuple(name for name in CATALOGUE if load_method(name)[0].clients)
FEW = ("l-fedmmkt",)  # of the ordinary tests; fedmmkt comes below
REST = tuple(name for name in WITH_CLIENTS if name not in FEW)


@pytest.fixture(scope="module")
def federation(fedloom_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("federation"))
    yield made
    made.close()


def local_run(method: str, out: Path, *more: str) -> Run:
    return fedloom.run(preset="smoke", method=method, overrides=(*overrides(method), *more), out=out)


def ping(silo: SiloSupervisor) -> dict[str, Any]:
    return relay(Letter({"op": "ping"}), str(silo.socket), silo.token).header


@pytest.mark.parametrize(
    "methods",
    [
        pytest.param(FEW, id="few", marks=pytest.mark.timeout(280)),
        pytest.param(REST, id="all-others", marks=(pytest.mark.conformance, pytest.mark.timeout(1800))),
    ],
)
def test_methods_give_the_local_numbers(
    federation: Federation, tmp_path: Path, methods: tuple[str, ...]
) -> None:
    """Several methods at once, over TLS with node keys; the workers stay the same processes."""
    jobs = {m: federation.submit(config_for(m, "rounds=1"), out=str(tmp_path / m)) for m in methods}
    own = {m: local_run(m, tmp_path / f"local-{m}", "rounds=1") for m in methods}
    before = [ping(silo)["pid"] for silo in federation.silos]
    for method, job in jobs.items():
        assert_same(federation.finish(job), own[method])
    assert [ping(silo)["pid"] for silo in federation.silos] == before


@pytest.mark.timeout(280)
def test_a_killed_server_goes_on_to_the_unbroken_numbers(federation: Federation, tmp_path: Path) -> None:
    """kill -9 of the run's process in round 2; the silos are further on than its checkpoint, and go back."""
    unbroken = local_run("fedmmkt", tmp_path / "unbroken")
    before = [ping(silo)["loads"] for silo in federation.silos]
    config = config_for("fedmmkt")
    broken = federation.submit(config, out=str(tmp_path / "run"))
    federation.wait_for_round(broken, 2)
    time.sleep(3.0)  # the silos have been asked something by now
    os.kill(standing(event_file(federation.link.folder, broken.id))["pid"], signal.SIGKILL)
    with pytest.raises(FedloomError, match="has died"):
        federation.finish(broken)
    resumed = federation.submit(config, resume=str(tmp_path / "run"))
    assert_same(federation.finish(resumed), unbroken)
    after = [ping(silo)["loads"] for silo in federation.silos]
    assert after == [n + 1 for n in before]  # clients are built once a run, whatever becomes of the server


@pytest.mark.timeout(120)
def test_who_is_refused(federation: Federation, tmp_path: Path) -> None:
    """A key that is not registered, a server that is not trusted: one line on either side, and nothing is let in."""
    elsewhere = tmp_path / "elsewhere"
    pki.init(elsewhere, [])
    stranger, mistaken = pki.issue(elsewhere, "stranger"), pki.issue(elsewhere, "mistaken")
    (stranger / "ca.crt").write_bytes((federation.keys / "ca.crt").read_bytes())
    federation.said.clear()
    refused = {}
    for name, kit in (("stranger", stranger), ("mistaken", mistaken)):
        silo = federation.silo(name, kit)
        with pytest.raises(FedloomError) as error:
            until(lambda silo=silo: silo.check(), 60)
        silo.stop()
        refused[name] = str(error.value)
    address = federation.link.address
    assert refused["stranger"] == (
        f"silo stranger: the server at {address} refused this silo: "
        "its key is not registered there, or another process uses it"
    )
    assert refused["mistaken"].startswith(
        f"silo mistaken: this silo does not trust the server at {address}, by {mistaken}"
    )
    assert all("\n" not in line for line in refused.values())
    mine = "refused a silo at 127.0.0.1: its key is not registered; `fedloom pki issue NAME` gives a silo one"
    turned = "a client turned away: it does not trust this server's certificate (unknown ca)"
    until(lambda: {mine, turned} <= set(federation.said), 10)
    assert {row["name"] for row in federation.link.silos()} == {"silo-0", "silo-1", "silo-2"}
