"""Exported models under their manifests."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from random import Random
from typing import Any

from fedloom.runs.exports import check_export, is_sealed
from fuzz.harness import Refused, Surface, Unsure
from fuzz.inputs import Input, Special
from fuzz.truth import strict_json

NAMES = ("config.json", "model.safetensors", "text/tokenizer.json")


def draw_export(rng: Random) -> Input:
    """A model of three files."""
    files: dict[str, Any] = {name: rng.randbytes(rng.randrange(1, 60)) for name in NAMES}
    rows = {n: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for n, data in files.items()}
    return Input(files | {"manifest.json": json.dumps({"kind": "export", "files": rows}).encode()})


def read_export(folder: Path, given: Input) -> Any:
    """What would be loaded."""
    is_sealed(folder)
    check_export(folder)
    return {name: (folder / name).read_bytes() for name in sorted(given.files) if name != "manifest.json"}


def true_export(folder: Path, given: Input) -> Any:
    """All files, where they are those of the manifest and no others."""
    if any(isinstance(entry, Special) for entry in given.files.values()):
        raise Unsure
    own: dict[str, Any] = {name: given.files[name] for name in sorted(given.files) if name != "manifest.json"}
    if "manifest.json" not in given.files:
        raise Unsure  # of an earlier version: not checked
    listed: Any = strict_json(given.files["manifest.json"])["files"]  # type: ignore[arg-type]
    seen = {n: data for n, data in own.items() if n in listed or not any(p.startswith(".") for p in n.split("/"))}
    if {n: (f["bytes"], f["sha256"]) for n, f in listed.items()} != {
        n: (len(data), hashlib.sha256(data).hexdigest()) for n, data in seen.items()
    }:
        raise Refused("other files")
    return own


SURFACES = (Surface("exports", draw_export, read_export, true_export),)
