"""Clients that wait in files: the same replies, so many in memory and no more, checkpoints that write what changed."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from toy_clients import CONTRACT, Empty, Wish
from toy_federations import NAMES, PROBE, federation, kill, pids, rounds, three_rounds, words

from fedloom.errors import BadInput, FedloomError
from fedloom.federation import ClientSpec, LocalFederation


@pytest.fixture(scope="module")
def expected() -> dict[tuple[int, str], bytes]:
    return three_rounds(0)


def parked(folder: Path, workers: int = 0, resident: int = 1) -> Any:
    return federation(workers, resident=resident, parking=folder / "parked")


def built(f: Any) -> list[str]:
    return [name for name, host in f._host._hosts.items() if host.built]


def inodes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.glob("*.safetensors")}


@pytest.mark.parametrize(("workers", "resident"), [(0, 1), (0, 2), (2, 1)])
def test_the_same_replies(workers: int, resident: int, expected: Any, tmp_path: Path) -> None:
    (tmp_path / "parked").mkdir()
    (tmp_path / "parked" / "image-0.json").write_text("left by a run that was killed")
    with parked(tmp_path, workers, resident) as f:
        assert rounds(f) == expected
        assert (tmp_path / "parked").is_dir()
    assert not (tmp_path / "parked").exists()


def test_clients_are_built_when_they_are_asked_and_no_more_than_that(tmp_path: Path) -> None:
    with parked(tmp_path, resident=2) as f:
        assert built(f) == []
        f.round = 1
        words(f.ask("evaluate", {"text-0": Empty()}))
        assert built(f) == ["text-0"]
        words(f.ask("evaluate", Empty()))
        assert built(f) == ["image-1", "text-0"]  # those that were asked last
        assert set(inodes(tmp_path / "parked")) == {"image-0.safetensors", "text-0.safetensors"}


@pytest.mark.parametrize("resident", [None, 1])
def test_a_checkpoint_writes_the_clients_that_have_changed(resident: int | None, tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("one", "two", "three")]
    with federation(0, resident=resident, parking=tmp_path / "parked") as f:
        for f.round, asked in enumerate((NAMES, ("image-1",), ()), start=1):
            words(f.ask("evaluate", Empty()))
            list(f.ask("infer", dict.fromkeys(asked, PROBE)))
            f.checkpoint(tmp_path / "part")
            assert inodes(tmp_path / "parked") == {}
            (tmp_path / "part").rename(places[f.round - 1])
            f.checkpoint_moved(places[f.round - 1])
        said = words(f.ask("evaluate", Empty()))
    one, two, three = map(inodes, places)
    assert {name for name in one if one[name] != two[name]} == {"image-1.safetensors"}
    assert two == three
    for other in (None, 1):  # whoever wrote it, either reads it
        with federation(0, resident=other, parking=tmp_path / "parked") as f:
            f.restore(places[2])
            assert f.round == 3
            assert words(f.ask("evaluate", Empty())) == said


@pytest.mark.parametrize("workers", [0, 2])
def test_back_to_an_earlier_checkpoint(workers: int, tmp_path: Path) -> None:
    with parked(tmp_path, workers) as f:
        f.round = 1
        list(f.ask("infer", PROBE))
        f.checkpoint(tmp_path / "one")
        before = words(f.ask("evaluate", Empty()))
        f.round = 2
        list(f.ask("infer", PROBE))
        assert {said.split()[2] for said in words(f.ask("evaluate", Empty())).values()} == {"2"}
        f.restore(tmp_path / "one")
        assert words(f.ask("evaluate", Empty())) == before


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no)
    with parked(tmp_path) as f:
        for f.round in (1, 2):
            f.checkpoint(tmp_path / str(f.round))
    one, two = inodes(tmp_path / "1"), inodes(tmp_path / "2")
    assert one.keys() == two.keys()
    assert not {*one.values()} & {*two.values()}


def test_a_killed_worker_goes_back_to_the_checkpoint(tmp_path: Path) -> None:
    with parked(tmp_path, workers=2) as f:
        f.round = 1
        where = pids(f)  # a call each
        f.checkpoint(tmp_path / "part")
        (tmp_path / "part").rename(tmp_path / "one")
        f.checkpoint_moved(tmp_path / "one")
        f.round = 2
        pids(f)
        kill(where["image-0"])
        assert words(f.ask("retrain", Wish(""))) == {
            "image-0": "image-0 2 2",  # this is its second
            "image-1": "image-1 2 3",
            "text-0": "text-0 2 2",
        }
        assert {m.client for m in f.missing} == {"image-0", "text-0"}


@pytest.mark.parametrize("workers", [0, 1])
def test_who_cannot_be_built_is_one_line(workers: int, tmp_path: Path) -> None:
    specs = [ClientSpec("a", "image", "toy_clients:make"), ClientSpec("b", "image", "toy_clients:broken")]
    with LocalFederation(specs, CONTRACT, workers=workers, resident=1, parking=tmp_path / "parked") as f:
        with pytest.raises(FedloomError, match="client 'b' cannot be built: OSError: no model for b") as found:
            list(f.ask("evaluate", Empty()))
        assert "\n" not in str(found.value)


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Path.replace

    def full(self: Path, target: Path) -> Path:
        if "parked" in target.parts:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return plain(self, target)

    monkeypatch.setattr(Path, "replace", full)
    with parked(tmp_path) as f:
        said = r"^cannot write .*parked/image-0\.safetensors: No space left on device\.$"
        with pytest.raises(FedloomError, match=said):
            list(f.ask("evaluate", Empty()))
    assert not (tmp_path / "parked").exists()


def test_files_that_have_gone_are_one_line(tmp_path: Path) -> None:
    with parked(tmp_path) as f:
        words(f.ask("evaluate", Empty()))
        (tmp_path / "parked" / "image-0.json").unlink()
        with pytest.raises(FedloomError, match="no checkpoint of client 'image-0'"):
            list(f.ask("evaluate", Empty()))


def test_none_in_memory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="resident = 0, allowed: 1 or more"):
        LocalFederation([ClientSpec("a", "image", "toy_clients:make")], CONTRACT, resident=0, parking=tmp_path / "p")
