"""A silo that is killed in mid-round, on a real federation: missed, waited out, back with its own state."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from federation_on_loopback import Federation, config_for, until


@pytest.fixture
def federation(fedloom_cache: Path, tmp_path: Path) -> Iterator[Federation]:
    made = Federation(tmp_path / "federation")
    yield made
    made.close()


@pytest.mark.timeout(400)
def test_a_killed_silo_is_missed_and_comes_back(federation: Federation, tmp_path: Path) -> None:
    """kill -9 of one silo's processes in mid-round: the round ends without it, later ones have it again."""
    config = config_for("standalone", "rounds=30", "engine.timeout=25", "settings.extra_steps=300")
    job = federation.submit(config, out=str(tmp_path / "run"))
    federation.wait_for_round(job, 1)
    victim = federation.silos[2]
    assert victim.worker is not None
    assert victim.node is not None
    log = victim.folder / "logs" / "worker.log"
    until(lambda: "round 1, train for text-0" in log.read_text())
    for pid in (victim.worker.pid, victim.node.pid):
        os.kill(pid, signal.SIGKILL)

    def back() -> bool:
        found = federation.rows(tmp_path / "run")
        return len(found) > 2 and bool(found[1]["missing"]) and not found[-1]["missing"]

    until(back, 240)
    rows = federation.rows(tmp_path / "run")
    federation.kill(job)
    assert {m["client"] for m in rows[1]["missing"]} == {"text-0"}
    assert rows[1]["per_client"].keys() == {"image-0", "image-1", "text-1"}  # the others' replies are used
    assert rows[-1]["per_client"].keys() == {"image-0", "image-1", "text-0", "text-1"}
    # It goes on with what it had: states are numbered on, and the client was built once before and once after.
    states = sorted(p.name for p in (victim.folder / "state" / "runs").glob("*/clients/text-0/*"))
    assert int(states[-1].split("-")[0]) == rows[-1]["round"]
    assert log.read_text().count(": text-0 (text)") == 2
    said = "\n".join(federation.said)
    assert "silo silo-2: the worker's process" in said
    assert "the server still holds it to be connected" in said
