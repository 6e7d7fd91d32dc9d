from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedloom.errors import BadInput, FedloomError
from fedloom.runs import CheckpointStore, newest_checkpoint
from fedloom.runs.checkpoint import refuse_old_checkpoints


def save(store: CheckpointStore, round: int, text: str = "state") -> None:
    with store.writing(round) as folder:
        (folder / "server.txt").write_text(f"{text} {round}")
        (folder / "clients").mkdir()
        (folder / "clients" / "image-0.bin").write_bytes(bytes(100))


def names(store: CheckpointStore) -> list[str]:
    return sorted(path.name for path in store.root.iterdir())


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints")


def test_the_newest_two_are_kept(store: CheckpointStore) -> None:
    assert store.latest() is None
    for r in range(4):
        save(store, r)
    assert names(store) == ["round_0002", "round_0003"]
    latest = store.latest()
    assert latest is not None
    assert latest.round == 3
    assert (latest.path / "server.txt").read_text() == "state 3"
    manifest = json.loads((latest.path / "manifest.json").read_text())
    assert manifest["round"] == 3
    assert set(manifest["files"]) == {"server.txt", "clients/image-0.bin"}
    assert manifest["files"]["clients/image-0.bin"]["bytes"] == 100


def _fail(folder: Path) -> None:
    (folder / "half").write_text("x")
    raise RuntimeError("boom")


def test_an_error_inside_the_block_changes_nothing(store: CheckpointStore) -> None:
    save(store, 1)
    with pytest.raises(RuntimeError, match="boom"), store.writing(2) as folder:
        _fail(folder)
    assert names(store) == ["round_0001"]


def test_a_full_disk_keeps_the_earlier_one(store: CheckpointStore) -> None:
    save(store, 1)
    with (
        pytest.raises(FedloomError, match=r"round_0002: No space left.*before it are untouched"),
        store.writing(2),
    ):
        raise OSError(28, "No space left on device")
    assert names(store) == ["round_0001"]


@pytest.mark.parametrize("harm", ["truncate", "change", "lose", "no manifest", "bad manifest", "strange manifest"])
def test_a_damaged_checkpoint_is_skipped_with_a_warning(store: CheckpointStore, harm: str) -> None:
    save(store, 1)
    save(store, 2)
    folder = store.root / "round_0002"
    file = folder / "clients" / "image-0.bin"
    if harm == "truncate":
        file.write_bytes(bytes(40))
    elif harm == "change":
        file.write_bytes(b"\1" + bytes(99))
    elif harm == "lose":
        file.unlink()
    elif harm == "no manifest":
        (folder / "manifest.json").unlink()
    else:
        (folder / "manifest.json").write_text('{"files": ' if harm == "bad manifest" else '{"files": [1]}')
    said: list[str] = []
    found = CheckpointStore(store.root, log=said.append).latest()
    assert found is not None
    assert found.round == 1
    assert len(said) == 1
    assert "round_0002 is skipped" in said[0]
    (store.root / "round_0001" / "manifest.json").unlink()
    with pytest.raises(FedloomError, match=r"no usable checkpoint.*round_0002.*round_0001.*no manifest") as caught:
        newest_checkpoint(store.root)
    assert "\n" not in str(caught.value)


def test_going_back_replaces_the_abandoned_future(store: CheckpointStore) -> None:
    for r in (3, 4, 5):
        save(store, r)
    (store.root / "round_0005" / "server.txt").write_text("")
    found = store.latest()
    assert found is not None
    assert found.round == 4
    save(store, 4, "again")
    assert names(store) == ["round_0004"]  # 3 was pruned before; 5 belonged to what was abandoned
    assert (store.root / "round_0004" / "server.txt").read_text() == "again 4"


def test_what_a_killed_writer_left_is_tidied(store: CheckpointStore) -> None:
    save(store, 1)
    save(store, 2)
    half = store.root / ".tmp-abcd"
    half.mkdir()
    (half / "server.txt").write_text("hal")
    # Killed between moving the old one away and the new one in.
    (store.root / "round_0002").rename(store.root / ".old-round_0002")
    again = CheckpointStore(store.root)
    assert names(again) == ["round_0001", "round_0002"]
    # Killed after moving in, before removing the old one.
    (store.root / ".old-round_0002").mkdir()
    assert names(CheckpointStore(store.root)) == ["round_0001", "round_0002"]


def test_killed_at_every_step_of_writing(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop, as SIGKILL would, before each rename and each fsync in turn: a sound one is always there."""

    class Killed(BaseException):
        pass

    save(store, 1)
    for step in range(40):
        left = [step]

        def dying(call, left=left):  # type: ignore[no-untyped-def]
            def wrapped(*args, **kwargs):  # type: ignore[no-untyped-def]
                if left[0] == 0:
                    raise Killed
                left[0] -= 1
                return call(*args, **kwargs)

            return wrapped

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", dying(Path.rename))
            patch.setattr(os, "fsync", dying(os.fsync))
            patch.setattr("shutil.rmtree", lambda *a, **k: None)  # a killed process cleans nothing
            try:
                save(store, 2)
                finished = True
            except Killed:
                finished = False
        store = CheckpointStore(store.root)
        found = store.latest()
        assert found is not None
        assert found.round in (1, 2)
        if finished:
            break
    assert finished
    assert step > 8


def test_sigkill_while_writing(store: CheckpointStore) -> None:
    save(store, 1)
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom fedloom.runs import CheckpointStore\n"
        "with CheckpointStore(Path(sys.argv[1])).writing(2) as folder:\n"
        "    (folder / 'server.txt').write_text('half')\n"
        "    print('writing', flush=True)\n    time.sleep(900)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(store.root)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "writing\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert any(name.startswith(".tmp-") for name in names(store))
    again = CheckpointStore(store.root)
    found = again.latest()
    assert found is not None
    assert found.round == 1
    assert names(again) == ["round_0001"]


def test_bad_arguments(store: CheckpointStore) -> None:
    with pytest.raises(BadInput, match="keep=0"):
        CheckpointStore(store.root, keep=0)
    with pytest.raises(BadInput, match="round=-1"), store.writing(-1):
        pass


def test_a_checkpoint_of_an_older_layout_is_refused_in_one_line(tmp_path: Path) -> None:
    refuse_old_checkpoints(tmp_path)
    with CheckpointStore(tmp_path).writing(3) as folder:
        (folder / "server.safetensors").write_bytes(b"state")
    refuse_old_checkpoints(tmp_path)
    manifest = tmp_path / "round_0003" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 2', '"format": 1'))
    with pytest.raises(BadInput, match=r"round_0003: checkpoint format 1, this version of fedloom resumes format 2"):
        refuse_old_checkpoints(tmp_path)
