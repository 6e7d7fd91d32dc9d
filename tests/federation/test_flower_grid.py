"""The Flower adapter on an in-process Grid: same numbers as the local engine; silos that restart, are late or gone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from grid_silos import Silos
from toy_clients import Blob, Empty, Wish
from toy_federations import NAMES, PROBE, rounds, three_rounds, words

from fedloom.errors import FedloomError
from fedloom.federation.engines.flower.records import unpack
from fedloom.federation.engines.silo.host import SiloHost
from fedloom.federation.engines.silo.store import SiloStore


@pytest.mark.parametrize("count", [1, 2, 3])
def test_same_replies_as_the_local_engine(tmp_path: Path, count: int) -> None:
    with Silos(tmp_path, count).federation() as f:
        assert f.clients == NAMES
        assert rounds(f) == three_rounds(0)
        assert f.missing == []


def test_clients_are_built_once_a_run(silos: Silos) -> None:
    with silos.federation() as f:
        rounds(f)
        f.refresh_clients()
    assert [host.loads for host in silos.hosts.values()] == [1, 1, 1]


def test_a_broadcast_is_carried_once(tmp_path: Path) -> None:
    silos = Silos(tmp_path)
    data = np.random.default_rng(0).integers(0, 256, 20_000_000, dtype=np.uint8)
    with silos.federation() as f:
        before = silos.grid.pushed_bytes
        replies = list(f.ask("echo", Blob(data)))
        assert all(r.ok and np.array_equal(r.message.data, data) for r in replies)
    assert len(replies) == 3
    assert silos.grid.pushed_bytes - before < 1.02 * data.nbytes


def test_a_silo_that_restarts_goes_on_with_its_own_state(silos: Silos) -> None:
    with silos.federation() as f:
        said = rounds(f, (1,))
        for name in silos.hosts:
            silos.restart(name)
        said |= rounds(f, (2, 3))
        assert f.missing == []
    assert said == three_rounds(0)
    assert [host.loads for host in silos.hosts.values()] == [1, 1, 1]


def test_a_repeated_request_is_answered_from_the_record(silos: Silos) -> None:
    with silos.federation() as f:
        f.round = 1
        list(f.ask("infer", PROBE))
        letter = unpack(silos.grid.pushed[-3].content)
        host = silos.hosts["silo-0"]
        again = host.answer(letter)
        silos.restart("silo-0")
        after_restart = silos.hosts["silo-0"].answer(letter)
        assert again.payloads == after_restart.payloads
        assert words(f.ask("evaluate", Empty()))["image-0"].split()[2] == "1"  # one call, not three


def test_rewind_goes_back_to_the_end_of_a_round(silos: Silos, tmp_path: Path) -> None:
    with silos.federation() as f:
        said = rounds(f, (1,))
        f.checkpoint(tmp_path / "c1")
        rounds(f, (2,))
        f.round = 3
        list(f.ask("infer", PROBE))  # the server dies here
    silos.restart("silo-1")
    with silos.federation() as f:
        f.restore(tmp_path / "c1")
        assert f.round == 1
        said |= rounds(f, (2, 3))
    assert said == three_rounds(0)


def test_gone_silent_and_late_silos(silos: Silos) -> None:
    silos.grid.offline = {13}
    with silos.federation(silos=2) as f:
        f.round = 1
        assert words(f.ask("retrain", Wish("")))["text-0"] == "lost"
        assert "no silo has brought it yet" in f.missing[-1].detail
        silos.grid.offline = set()
        f.refresh_clients()  # joins late
        f.round = 2
        assert "lost" not in words(f.ask("retrain", Wish(""))).values()
        silos.grid.offline = {11}
        f.round = 3
        assert words(f.ask("retrain", Wish("")))["image-0"] == "lost"
        assert f.missing[-1][:4] == (3, "retrain", "image-0", "lost")
        silos.grid.offline, silos.grid.silent = set(), {12}
        f.round = 4
        assert words(f.ask("retrain", Wish(""), timeout=0.3))["image-1"] == "timeout"
        assert words(f.ask("retrain", Wish(""), quorum=2))["image-1"] == "timeout"
        silos.grid.silent = set()
        f.round = 5
        assert "timeout" not in words(f.ask("retrain", Wish(""))).values()


def test_a_round_waits_for_somebody(silos: Silos) -> None:
    with silos.federation(patience=0.4) as f:
        silos.grid.offline = {11, 12, 13}
        with pytest.raises(FedloomError, match=r"0 clients are connected after 0\.4 s, 1 needed"):
            f.refresh_clients()
        silos.grid.offline = {11, 12}
        f.refresh_clients()
        assert words(f.ask("retrain", Wish("")))["text-0"] == "text-0 0 1"


def test_a_silo_that_lost_its_disk_joins_anew(silos: Silos, tmp_path: Path) -> None:
    with silos.federation() as f:
        rounds(f, (1,))
        silos.hosts["silo-2"] = SiloHost(SiloStore(tmp_path / "new disk"), "silo-2")
        f.round = 2
        assert words(f.ask("retrain", Wish("")))["text-0"] == "lost"
        assert "has not joined" in f.missing[-1].detail
        f.refresh_clients()
        assert words(f.ask("retrain", Wish("")))["text-0"] == "text-0 2 1"


def test_too_few_silos_is_an_error(silos: Silos) -> None:
    silos.grid.offline = {12, 13}
    with pytest.raises(FedloomError, match=r"1 of 3 silos are connected after 0\.2 s"):
        silos.federation(patience=0.2)
