"""What pretrained models are named by."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from fedloom.experiment.pretraining.keys import fingerprint, weights_print


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small folder of pretrained weights."""
    made = tmp_path / "weights"
    made.mkdir()
    (made / "model.safetensors").write_bytes(b"\x00weights")
    (made / "config.json").write_text("{}")
    (made / "vocab.txt").write_text("a\nb\n")
    return made


def test_weights_are_named_by_content_not_by_place(folder, tmp_path):
    first = weights_print(str(folder))
    shutil.copytree(folder, tmp_path / "elsewhere")
    os.utime(folder / "config.json", (0, 0))
    (folder / "README.md").write_text("not read by any model")
    assert weights_print(str(folder)) == weights_print(str(tmp_path / "elsewhere")) == first


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "vocab.txt"])
def test_another_content_or_name_is_another_weight(name, folder):
    first = weights_print(str(folder))
    file = folder / name
    file.write_bytes(file.read_bytes()[:-1] + b"?")  # the same size
    changed = weights_print(str(folder))
    file.rename(folder / f"x{name}")
    assert len({first, changed, weights_print(str(folder))}) == 3


def test_a_mobilenet_is_its_two_files(tmp_path):
    for name in ("net.npz", "net.json", "other.json"):
        (tmp_path / name).write_text(name)
    first = weights_print(str(tmp_path / "net.npz"))
    assert weights_print(str(tmp_path / "net")) == first
    (tmp_path / "other.json").write_text("of another net")
    assert weights_print(str(tmp_path / "net")) == first
    (tmp_path / "net.json").write_text("changed")
    assert weights_print(str(tmp_path / "net")) != first


def test_a_hub_name_stands_for_itself():
    assert weights_print("google/vit-base-patch16-224") == "google/vit-base-patch16-224"


def test_word_vectors_are_their_file(tmp_path):
    for name in ("glove.txt", "a.npz"):
        file = tmp_path / name
        file.write_text("the 1 2")
        first = weights_print(str(file))
        file.write_text("the 1 3")
        assert len({first, weights_print(str(file)), str(file)}) == 3


def test_two_weights_in_one_are_both(folder, tmp_path):
    vectors = tmp_path / "glove.txt"
    vectors.write_text("the 1 2")
    parts = [weights_print(str(folder)), weights_print(str(vectors))]
    assert weights_print(f"{folder}+{vectors}") == "+".join(parts)
    assert weights_print(f"+{vectors}") == f"+{parts[1]}"
    assert weights_print("some/vit+some/bert") == "some/vit+some/bert"
    (tmp_path / "a+b").write_text("one file after all")
    assert "+" not in weights_print(str(tmp_path / "a+b"))


def test_arrays_are_named_by_their_values_in_order():
    a = np.arange(24, dtype=np.int64).reshape(2, 3, 4)
    digest = hashlib.sha256(a.tobytes() + b"\x1e" + b"x\x1fy\x1e").hexdigest()
    assert fingerprint(a, ("x", "y")) == digest
    assert fingerprint(a.transpose(2, 1, 0).copy().transpose(2, 1, 0), ("x", "y")) == digest
    assert fingerprint(a[:0]) == fingerprint(np.zeros(0)) != fingerprint(a)


def test_what_has_not_changed_is_read_once(folder, monkeypatch):
    """By place, size and times; what has just been written is read again, as clocks tick slowly."""
    import fedloom.experiment.pretraining.keys as keys

    read: list[str] = []
    plain = keys._digest
    monkeypatch.setattr(keys, "_digest", lambda file: read.append(file.name) or plain(file))
    first = [weights_print(str(folder)) for _ in range(2)]
    assert len(read) == 6
    monkeypatch.setattr(keys, "_FRESH", 0)
    first += [weights_print(str(folder)) for _ in range(3)]
    assert len(read) == 9
    assert len(set(first)) == 1
    (folder / "vocab.txt").write_text("a\nc\n")
    assert weights_print(str(folder)) not in first
    assert read[9:] == ["vocab.txt"]
