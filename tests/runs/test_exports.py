"""Exported models and their manifests: what is damaged is named before anything is loaded."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from fedloom.errors import BadInput
from fedloom.results import Run
from fedloom.runs.exports import check_export, is_sealed, seal_export


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """A sealed model of two files."""
    folder = tmp_path / "export" / "image-0"
    (folder / "text").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(1000))
    (folder / "text" / "tokenizer.json").write_text("{}")
    seal_export(folder)
    return folder


def test_a_whole_export_is_taken(export: Path) -> None:
    assert is_sealed(export)
    check_export(export)
    assert Run(export.parent.parent, {}).exported("image-0") == export
    (export / "__pycache__").mkdir()
    (export / "__pycache__" / "model.cpython-313.pyc").touch()
    (export / ".DS_Store").touch()
    check_export(export)
    seal_export(export)  # a run that ends again, after a resume
    check_export(export)


@pytest.mark.parametrize("how", ["flipped", "cut", "gone", "swapped", "added", "a folder", "no manifest of ours"])
def test_a_damaged_export_is_one_line_that_names_the_file(export: Path, how: str) -> None:
    weights, name = export / "model.safetensors", "model.safetensors"
    if how == "flipped":
        weights.write_bytes(bytes(500) + b"\1" + bytes(499))
    elif how == "cut":
        weights.write_bytes(bytes(999))
    elif how == "gone":
        weights.unlink()
    elif how == "swapped":
        weights.write_bytes((export / "text" / "tokenizer.json").read_bytes())
    elif how == "added":
        name = "pipeline.py"
        (export / name).write_text("print('hello')")
    elif how == "a folder":
        weights.unlink()
        weights.mkdir()
    else:
        name = "manifest.json"
        (export / name).write_text("[" * 100_000)
    for check in (lambda: check_export(export), lambda: Run(export.parent.parent, {}).exported("image-0")):
        with pytest.raises(BadInput, match=f"exported model .*image-0: .*{name}") as caught:
            check()
        assert "\n" not in str(caught.value)


def test_an_export_of_before_is_read_with_a_warning(export: Path, caplog: pytest.LogCaptureFixture) -> None:
    (export / "manifest.json").unlink()
    with caplog.at_level(logging.WARNING):
        check_export(export)
    assert "image-0 has no manifest.json (exported by an earlier version)" in caplog.text
    assert not is_sealed(export)


def test_a_manifest_of_somebody_else_is_none(tmp_path: Path) -> None:
    for content in ("[]", "{", '{"name": "web app"}', ""):
        (tmp_path / "manifest.json").write_text(content)
        assert not is_sealed(tmp_path)
