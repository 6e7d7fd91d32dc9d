"""A real federation on loopback: TLS, node keys, resident workers. The same numbers, also after a kill; who is refused.

Then a silo that is lost, `fedloom run --engine flower` with a whole federation up and down again, and simulation. Each
message costs Flower some seconds, mostly asleep, and a federation that is up asks and answers all the time, so these
tests are few and share one. All are in one file, which one process runs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from federation_on_loopback import Federation, config_for, until

import fedloom
from fedloom.deployment import pki
from fedloom.deployment.events import run_status
from fedloom.deployment.job import event_file
from fedloom.deployment.silo import SiloSupervisor
from fedloom.errors import FedloomError
from fedloom.federation.engines.silo.envelopes import Envelope
from fedloom.federation.engines.silo.relay import relay
from fedloom.methods.base import load_method
from fedloom.methods.catalogue import CATALOGUE
from fedloom.results import Run, load_run
from test_engines import assert_same, overrides

WITH_CLIENTS = tuple(name for name in CATALOGUE if load_method(name)[0].tasks)
ROUNDS = "rounds=1"
TOO_LONG = 1200.0  # seconds after which nothing will come any more, on a machine with much else to do


@pytest.fixture(scope="module")
def federation(fedloom_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("federation"))
    yield made
    made.close()


def local_run(method: str, out: Path, *more: str) -> Run:
    return fedloom.run(preset="smoke", method=method, overrides=(*overrides(method), *more), out=out)


def ping(silo: SiloSupervisor) -> dict[str, Any]:
    return relay(Envelope({"op": "ping"}), str(silo.socket), silo.token).header


# --------------------------------------------------------------------------------------- up and down in one command


def processes_of(folder: Path) -> list[str]:
    """The command lines of processes that name this folder, or work in it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            where = os.readlink(entry / "cwd")
        except OSError:
            continue
        if int(entry.name) != os.getpid() and (str(folder) in line or where.startswith(str(folder))):
            found.append(line)
    return found


def test_killed_it_leaves_no_process(fedloom_cache: Path, tmp_path: Path) -> None:
    """kill -9 of the process that brought everything up: the kernel and the pipes end the rest."""
    argv = [sys.executable, "-m", "fedloom.cli", "run", "--preset", "smoke", "--engine", "flower"]
    argv += ["--set", "engine.silos=2", "--out", str(tmp_path / "run")]
    started = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    until(lambda: len(processes_of(tmp_path)) >= 6, TOO_LONG)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    until(lambda: not processes_of(tmp_path), TOO_LONG)


# --------------------------------------------------------------------------------------- one that stays up


@pytest.mark.conformance  # in ordinary tests what is killed and interrupted below gives the local numbers
def test_methods_give_the_local_numbers(federation: Federation, tmp_path: Path) -> None:
    """Two methods at once, over TLS with node keys; the workers stay the same processes."""
    before = None
    for methods in (WITH_CLIENTS[i : i + 2] for i in range(0, len(WITH_CLIENTS), 2)):
        jobs = {m: federation.submit(config_for(m, "rounds=1"), out=str(tmp_path / m)) for m in methods}
        own = {m: local_run(m, tmp_path / f"local-{m}", "rounds=1") for m in methods}
        for method, job in jobs.items():
            assert_same(federation.finish(job), own[method])
        before = before or [ping(silo)["pid"] for silo in federation.silos]
    assert [ping(silo)["pid"] for silo in federation.silos] == before


@pytest.mark.conformance  # in ordinary tests: a server killed under a local run (test_resume)
def test_a_killed_server_goes_on_to_the_unbroken_numbers(federation: Federation, tmp_path: Path) -> None:
    """kill -9 of the run's process in round 2; the silos are further on than its checkpoint, and go back."""
    unbroken = local_run("fedmmkt", tmp_path / "unbroken")
    before = [ping(silo)["loads"] for silo in federation.silos]
    config = config_for("fedmmkt")
    broken = federation.submit(config, out=str(tmp_path / "run"))
    federation.wait_for_round(broken, 2)
    logs = [silo.folder / "logs" / "worker.log" for silo in federation.silos]
    until(lambda: any("round 2, " in log.read_text() for log in logs))
    os.kill(run_status(event_file(federation.link.folder, broken.id))["pid"], signal.SIGKILL)
    with pytest.raises(FedloomError, match="has died"):
        federation.finish(broken)
    resumed = federation.submit(config, resume=str(tmp_path / "run"))
    assert_same(federation.finish(resumed), unbroken)
    after = [ping(silo)["loads"] for silo in federation.silos]
    assert after == [n + 1 for n in before]  # clients are built once a run, whatever becomes of the server


def test_who_is_refused(federation: Federation, tmp_path: Path) -> None:
    """A key that is not registered, a server that is not trusted: one line on either side, and nothing is let in."""
    elsewhere = tmp_path / "elsewhere"
    pki.init(elsewhere, [])
    stranger, mistaken = pki.issue(elsewhere, "stranger"), pki.issue(elsewhere, "mistaken")
    (stranger / "ca.crt").write_bytes((federation.keys / "ca.crt").read_bytes())
    federation.said.clear()
    refused = {}
    for name, kit in (("stranger", stranger), ("mistaken", mistaken)):
        silo = federation.silo(name, kit, computes=False)
        with pytest.raises(FedloomError) as error:
            until(lambda silo=silo: silo.check(), TOO_LONG)
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
    turned = "refused a client: it does not trust this server's certificate (unknown ca)"
    until(lambda: {mine, turned} <= set(federation.said), TOO_LONG)
    assert {row["name"] for row in federation.link.silos()} == {"silo-0", "silo-1"}


# ------------------------------------------------------------------------------------------------- a silo is lost


@pytest.mark.conformance  # in ordinary tests: a lost silo over a grid; a supervisor that starts its processes again
def test_a_killed_silo_is_missed_and_comes_back(federation: Federation, tmp_path: Path) -> None:
    """kill -9 of one silo's processes in mid-round: the round ends without it, later ones have it again."""
    # As many rounds as it takes Flower to give up the dead one and let it in again. The first waits for it almost as
    # long, as waiting costs nothing.
    more = ("rounds=1000", "engine.timeout=75", "settings.extra_steps=100")
    victim = federation.silos[1]
    log = victim.folder / "logs" / "worker.log"
    earlier, told = len(log.read_text()), len(federation.said)
    job = federation.submit(config_for("standalone", *more), out=str(tmp_path / "run"))

    def says() -> str:
        return log.read_text()[earlier:]

    until(lambda: "round 1, train for image-1" in says(), TOO_LONG)
    assert victim.worker is not None
    assert victim.node is not None
    for pid in (victim.worker.pid, victim.node.pid):
        os.kill(pid, signal.SIGKILL)

    def back() -> bool:
        found = federation.rows(tmp_path / "run")
        return len(found) > 2 and bool(found[1]["missing"]) and not found[-1]["missing"]

    until(back, TOO_LONG)
    rows = federation.rows(tmp_path / "run")
    federation.kill(job)
    assert {m["client"] for m in rows[1]["missing"]} == {"image-1", "text-1"}
    assert rows[1]["per_client"].keys() == {"image-0", "text-0"}  # the others' replies are used
    assert rows[-1]["per_client"].keys() == {"image-0", "image-1", "text-0", "text-1"}
    # It goes on with what it had: states are numbered on, and the client was built once before and once after.
    states = [p.name for p in (victim.folder / "state" / "runs").glob("*/clients/text-1/*")]
    assert rows[-1]["round"] in {int(name.split("-")[0]) for name in states}
    assert says().count("text-1 (text)") == 2
    said = "\n".join(federation.said[told:])
    assert "silo silo-1: the worker's process" in said
    assert "the server still counts it as connected" in said


@pytest.mark.conformance  # in ordinary tests: killed, it leaves no process; a killed server goes on
def test_interrupted_it_leaves_no_process_and_goes_on_to_the_local_numbers(fedloom_cache: Path, tmp_path: Path) -> None:
    local = fedloom.run(preset="smoke", overrides=(*overrides("fedmmkt"), ROUNDS), out=tmp_path / "local")
    out = tmp_path / "run"
    words = ["run", "--preset", "smoke", "--engine", "flower", "--set", "engine.silos=3", "--set", ROUNDS]
    words += [word for value in overrides("fedmmkt") for word in ("--set", value)]
    argv = [sys.executable, "-m", "fedloom.cli", *words, "--out", str(out)]
    with (tmp_path / "said.txt").open("wb") as said:
        started = subprocess.Popen(argv, stdout=said, stderr=said, start_new_session=True)
        until(lambda: (out / "checkpoints" / "round_0000").exists(), TOO_LONG)
        assert processes_of(tmp_path)
        os.killpg(started.pid, signal.SIGTERM)  # as a batch system does, to all of the group
        assert started.wait(TOO_LONG) == 143
    assert f"go on with: fedloom run --resume {out}" in (tmp_path / "said.txt").read_text()
    until(lambda: not processes_of(tmp_path), TOO_LONG)
    resumed = fedloom.run(resume=out)
    assert_same(resumed, local)
    assert processes_of(tmp_path) == []
    assert {p.name for p in (out / "export").iterdir()} == {p.name for p in (local.path / "export").iterdir()}
    assert {p.name for p in (out / "federation").iterdir()} == {"server", "logs"}


OTHERS = [method for method in WITH_CLIENTS if method != "fedmmkt"]


@pytest.mark.parametrize(
    "methods",
    [
        pytest.param(("fedmmkt",), id="fedmmkt"),
        *(pytest.param(tuple(OTHERS[third::3]), id=f"a third, {third}") for third in range(3)),  # each a run of Ray
    ],
)
@pytest.mark.conformance  # Ray alone takes a minute of two processors to come up
def test_simulation_gives_the_local_numbers(fedloom_cache: Path, tmp_path: Path, methods: tuple[str, ...]) -> None:
    code = """
import sys, fedloom
from pathlib import Path
for method, *given in (line.split() for line in sys.argv[2:]):
    engine = ("engine.name=flower", "engine.mode=simulation", "engine.silos=3", "engine.cpus=0.5")
    fedloom.run(preset="smoke", method=method, overrides=(*given, *engine), out=Path(sys.argv[1]) / method)
"""
    given = {m: (*overrides(m), ROUNDS) for m in methods}
    lines = [" ".join((m, *g)) for m, g in given.items()]
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), *lines], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    for method, own in given.items():
        local = fedloom.run(preset="smoke", method=method, overrides=own, out=tmp_path / f"local-{method}")
        assert_same(load_run(tmp_path / method), local)
