from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fedloom.errors import BadInput, FedloomError
from fedloom.runs import cache as cache_module
from fedloom.runs import cache_root, cached


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEDLOOM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Builder:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        (folder / "data.bin").write_bytes(bytes(10))


def test_an_entry_is_built_once(root: Path) -> None:
    build, said = Builder(), list[str]()
    first = cached("features", {"b": 1, "a": [2]}, build, said.append)
    assert cached("features", {"a": [2], "b": 1}, build, said.append) == first
    assert first.parent == root / "features"
    assert (first / "data.bin").exists()
    assert cached("features", {"a": [2], "b": 2}, build) != first
    assert build.calls == 2
    assert len(said) == 1


@pytest.mark.parametrize("harm", ["manifest", "truncate", "lose"])
def test_a_damaged_entry_is_built_again(harm: str) -> None:
    build, said = Builder(), list[str]()
    entry = cached("features", {"a": 1}, build)
    if harm == "manifest":
        (entry / "manifest.json").unlink()
    elif harm == "truncate":
        (entry / "data.bin").write_bytes(b"")
    else:
        (entry / "data.bin").unlink()
    assert cached("features", {"a": 1}, build, said.append) == entry
    assert build.calls == 2
    assert (entry / "data.bin").stat().st_size == 10
    assert "damaged" in said[0]


def test_a_builder_that_fails_leaves_nothing(root: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise ValueError("no model")

    with pytest.raises(ValueError, match="no model"):
        cached("features", {}, fail)
    assert [p.suffix for p in (root / "features").iterdir()] == [".lock"]
    cached("features", {}, Builder())


def test_two_builders_at_once_build_once() -> None:
    calls: list[int] = []

    def slow(folder: Path) -> None:
        calls.append(1)
        time.sleep(0.2)
        (folder / "x").write_text("x")

    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(cached("k", {"a": 1}, slow))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert len(set(found)) == 1
    assert len(found) == 3


def test_the_lock_dies_with_its_builder(root: Path) -> None:
    code = (
        "import time\nfrom fedloom.runs import cached\n"
        "def build(folder):\n    (folder / 'half').write_text('x')\n"
        "    print('building', flush=True)\n    time.sleep(900)\n"
        "cached('k', {'a': 1}, build)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "building\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    entry = cached("k", {"a": 1}, Builder())
    assert sorted(p.name for p in entry.iterdir()) == ["data.bin", "manifest.json"]
    assert not [p for p in (root / "k").iterdir() if p.name.startswith(".tmp")]


def test_a_full_disk_or_a_bad_place_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device", str(folder / "x"))

    with pytest.raises(FedloomError, match=r"No space left on device\. Set FEDLOOM_CACHE") as caught:
        cached("k", {}, full)
    assert "\n" not in str(caught.value)
    assert str(cache_root()) in str(caught.value)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FEDLOOM_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(FedloomError, match="FEDLOOM_CACHE"):
        cached("k", {}, Builder())


def test_another_error_of_the_builder_stays_itself() -> None:
    def lost(folder: Path) -> None:
        Path("/no/such/input").read_bytes()

    with pytest.raises(FileNotFoundError, match="/no/such/input"):
        cached("k", {}, lost)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FEDLOOM_CACHE")
    monkeypatch.setattr(cache_module.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "fedloom"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == Path.home() / ".cache" / "fedloom"
    monkeypatch.setattr(cache_module.sys, "platform", "darwin")
    assert cache_root().parts[-2:] == ("Caches", "fedloom")


@pytest.mark.parametrize("kind", ["", "..", "a/b", ".x", f"a{os.sep}"])
def test_kinds_are_plain_names(kind: str) -> None:
    with pytest.raises(BadInput, match="cache kind"):
        cached(kind, {}, Builder())
