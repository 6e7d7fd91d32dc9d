"""Weights that lie on no hub, and folders that are made from what was published."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fedloom.errors import FedloomError
from fedloom.references import load_reference
from fedloom.weights.catalogue import File, Source, sources
from fedloom.weights.lock import faults
from fedloom.weights.place import LOCK, MARK
from tiny_hub import bring, sha256


def made_source(hub):
    hub.plain = {"/base.pt": b"base" * 99, "/vocab.gz": b"words"}
    files = tuple(File(path[1:], url=hub.url + path) for path in hub.plain)
    return Source("tiny/glide", kind="files", files=files, made_by=f"{__name__}:join", made_bytes=500)


def join(published: Path, out: Path) -> None:
    (out / "unet").mkdir()
    (out / "unet" / "weights.safetensors").write_bytes((published / "base.pt").read_bytes())
    (out / "model_index.json").write_bytes(b"{}")


def test_a_folder_is_made_from_what_was_published(hub, root):
    source = made_source(hub)
    target = bring(root, source)
    assert sorted(p.name for p in target.folder.iterdir()) == sorted([LOCK, "model_index.json", "unet"])
    lock = json.loads((target.folder / LOCK).read_text())
    assert set(lock["files"]) == {"model_index.json", "unet/weights.safetensors"}
    assert lock["made_from"]["base.pt"] == {"bytes": 396, "sha256": sha256(hub.plain["/base.pt"])}
    assert faults(source, target.folder) == []


def test_making_that_failed_loads_nothing_again(hub, root, monkeypatch):
    def fail(published, out):
        (out / "half").write_text("")
        raise FedloomError("no")

    source = made_source(hub)
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[__name__], "join", fail)
        with pytest.raises(FedloomError, match="no"):
            bring(root, source)
    assert (root / source.name / MARK).is_file()
    hub.stop()
    assert bring(root, source).state == "ready"
    assert sorted(p.name for p in (root / source.name).iterdir()) == sorted([LOCK, "model_index.json", "unet"])


def test_glide_is_made_by_our_converter(monkeypatch, tmp_path):
    called = []
    monkeypatch.setattr("fedloom.models.generators.glide.convert.convert", lambda *files: called.append(files))
    load_reference(str(sources()["openai/glide"].made_by), "converter")(tmp_path, tmp_path / "out")
    assert called == [tuple(tmp_path / name for name in ("base.pt", "upsample.pt", "vocab.bpe.gz", "out"))]
    assert {p.name for p in called[0][:3]} == {f.path for f in sources()["openai/glide"].files}
