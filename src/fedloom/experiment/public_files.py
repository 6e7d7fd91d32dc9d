"""The server's public files as they travel to silos: the tokenizer, and the backbones that random models start from.

tokenizer/tokenizer.json, tokenizer_config.json ...   as `load_tokenizer` reads it
backbones/index.json                                  what `backbone_name` gives -> its folder here
backbones/FOLDER/backbone.safetensors                 FOLDER is named by the content it was built from
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloom.config.models import ModelSettings
from fedloom.errors import BadInput
from fedloom.experiment.pretraining import Assets, backbone_name
from fedloom.runs.disk import explained, sync_folder, write_atomic
from fedloom.runs.manifest import MANIFEST
from fedloom.strict_json import parse

# All that may lie there. A silo takes nothing else from a server: no code, no pickle, no path that leads elsewhere.
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}"
_ALLOWED = re.compile(
    rf"tokenizer/{_NAME}\.(json|txt|jinja|model)|backbones/index\.json|backbones/{_NAME}/backbone\.safetensors"
)
LAYOUT = "tokenizer/*.json (or .txt, .jinja, .model), backbones/index.json, backbones/*/backbone.safetensors"


def pack_public(assets: Assets) -> dict[str, NDArray[np.uint8]]:
    """Relative path -> the file's bytes, uint8 (bytes,), in order of name; what silos may have of the assets."""
    words = sorted(assets.tokenizer.iterdir()) if assets.tokenizer is not None else []
    files = {
        f"tokenizer/{path.name}": path.read_bytes()
        for path in words
        if path.is_file() and path.name != MANIFEST and _ALLOWED.fullmatch(f"tokenizer/{path.name}")
    }
    index = {name: folder.name for name, folder in sorted(assets.backbones.items())}
    files["backbones/index.json"] = (json.dumps(index, indent=1) + "\n").encode()
    for folder in sorted(set(assets.backbones.values())):
        files[f"backbones/{folder.name}/backbone.safetensors"] = (folder / "backbone.safetensors").read_bytes()
    return {name: np.frombuffer(content, dtype=np.uint8) for name, content in files.items()}


def unpack_public(files: Mapping[str, NDArray[np.uint8]], folder: Path) -> None:
    """Write what `pack_public` gave into `folder`, as a whole: it holds all of it, or what it held before.

    Raises:
        BadInput: a name that is not of this layout (absolute, with `..`, code ...), no bytes; `folder` is a link.
        FedloomError: the disk is full, or the place cannot be written.
    """
    for name, content in files.items():
        if not _ALLOWED.fullmatch(name):
            raise BadInput(f"public file {name[:200]!r} is refused, allowed: {LAYOUT}")
        if getattr(content, "dtype", None) != np.uint8 or content.ndim != 1:
            raise BadInput(f"public file {name!r}: expected its bytes as uint8 (bytes,)")
    with written_whole(folder) as new:
        for name, content in files.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomic(new / name, content.tobytes())


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """An empty folder to fill. At the end of the block it takes the place of `folder`; on an error it is gone.

    One writer at a time: what a killed one has left is cleared away.
    """
    if folder.is_symlink():
        raise BadInput(f"{folder} is a link, expected a folder or nothing")
    new, old = (folder.with_name(f".{folder.name}.{what}") for what in ("part", "old"))
    with explained("write", folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        if old.exists() and not folder.exists():  # killed between the two renames below
            old.rename(folder)
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)
        new.mkdir()
        try:
            yield new
            if folder.exists():
                folder.rename(old)
            new.rename(folder)
            sync_folder(folder.parent)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        shutil.rmtree(old, ignore_errors=True)


def public_backbone(public: Path, model: ModelSettings) -> Path | None:
    """The folder of the backbone that a model without weights of its own starts from, None where there is none.

    Raises:
        BadInput: the index is damaged or names what is not there.
    """
    index = public / "backbones" / "index.json"
    if model.pretrained is not None or not index.is_file():
        return None
    try:
        known: Any = parse(index.read_bytes())
        name = known.get(backbone_name(model))
    except (OSError, ValueError, AttributeError) as error:
        raise BadInput(f"{index}: no index of backbones ({error})") from None
    if name is None:
        return None
    if not isinstance(name, str) or not re.fullmatch(_NAME, name):
        raise BadInput(f"{index}: {str(name)[:60]!r} is no folder's name")
    if not (index.parent / name / "backbone.safetensors").is_file():
        raise BadInput(f"{index}: names {name}, which holds no backbone.safetensors")
    return index.parent / name
