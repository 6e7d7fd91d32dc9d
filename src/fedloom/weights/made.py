"""Folders that are made here from what was published in another form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def glide(published: Path, out: Path) -> None:
    """GLIDE's two checkpoints and its vocabulary, as a folder that the server's generator is loaded from."""
    from fedloom.models.generators.glide.convert import convert

    convert(published / "base.pt", published / "upsample.pt", published / "vocab.bpe.gz", out)


MAKERS: dict[str, Callable[[Path, Path], None]] = {"glide": glide}
