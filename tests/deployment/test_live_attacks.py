"""Attacks on a live federation, TLS and all: one hostile silo answers, two more would join. The run goes on without."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from federation_on_loopback import SILOS, Federation, config_for
from hostile_silo import OTHER, SCRIPT, SITE

from fedloom.deployment import pki

pytestmark = pytest.mark.conformance  # in ordinary tests: the same answers over a grid in this process
HOSTILE = f"silo-{SILOS}"


@contextmanager
def on_the_path(folder: Path) -> Iterator[None]:
    """Processes that are started meanwhile find the modules in `folder`."""
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


def test_a_run_goes_on_with_the_others(fedloom_cache: Path, tmp_path: Path) -> None:
    """Every answer of the hostile silo is refused, by name and in one line; the others' rounds are whole."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE)
    federation = Federation(tmp_path / "federation")
    try:
        with on_the_path(site):
            for name in (HOSTILE, "many", "taker"):
                kit = pki.issue(federation.keys, name)
                federation.silos.append(federation.silo(name, kit, initialiser="hostile_silo:settle"))
        more = (f"rounds={len(SCRIPT)}", f"engine.silos={SILOS + 1}", "engine.timeout=600")
        run = federation.finish(federation.submit(config_for("fedavg", *more), out=str(tmp_path / "run")))
    finally:
        federation.close()
    assert run.finished
    attacked = {m["client"] for row in run.rounds[1:] for m in row["missing"] if m["verb"] == "fit"}
    assert len(attacked) == 1  # of four clients, over three silos
    for row, (attack, said) in zip(run.rounds[1:], SCRIPT.items()):
        told = [m for m in row["missing"] if m["verb"] == "fit"]
        assert [(m["client"], m["error"]) for m in told] == [(*attacked, "refused")], attack
        assert said in told[0]["detail"], attack
        assert "\n" not in told[0]["detail"]
        assert len(row["per_client"]) == 3, attack
        assert attacked.isdisjoint(row["per_client"]), attack
    joins = {m["client"]: m["detail"] for row in run.rounds for m in row["missing"] if m["verb"] == "join"}
    assert "brings client 'image-0' and 99 more, allowed: none" in joins["many"]
    assert f"silo '{OTHER}' has the key of 'taker', and can only take part as 'taker'" in joins[OTHER]
