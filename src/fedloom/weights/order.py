"""What is to be downloaded: the files of a source with address, size and digest, as its server lists them now.

An order is written into the folder before the first file, so that a later call continues with the same revision, and
can finish without asking again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from fedloom.errors import BadInput, FedloomError
from fedloom.runs.disk import explained, json_text, read_object, write_atomic
from fedloom.weights.catalogue import File, Source
from fedloom.weights.hub import NoConnection, file_url, list_files
from fedloom.weights.place import MARK, is_hub_name, offline

_SMALL = (".json", ".txt", ".model")
_SAFE = re.compile(r"(diffusion_pytorch_)?model(-\d+-of-\d+)?\.safetensors")
_PICKLED = re.compile(r"(diffusion_)?pytorch_model(-\d+-of-\d+)?\.bin")
_UNUSED = ("safety_checker", "feature_extractor", "image_encoder")  # the server's generator is loaded without them


@dataclass(frozen=True)
class RemoteFile:
    """A file to be downloaded. bytes, sha256 and blob (git's digest of a small file) are None where not known."""

    path: str
    url: str
    bytes: int | None = None
    sha256: str | None = None
    blob: str | None = None

    def fault(self, file: Path) -> str | None:
        """What is wrong with `file` as this one, in a few words, or None."""
        if not file.is_file():
            return "is missing"
        size = file.stat().st_size
        if self.bytes is not None and size != self.bytes:
            return f"has {size} bytes, not {self.bytes}"
        if self.sha256 is not None and digest(file) != self.sha256:
            return "is damaged or another file: its sha256 differs"
        if self.blob is not None and digest(file, "sha1", f"blob {size}\0".encode()) != self.blob:
            return "is damaged or another file: its digest differs"
        return None


@dataclass(frozen=True)
class Download:
    """The files of one source at one revision."""

    name: str
    revision: str
    files: tuple[RemoteFile, ...]

    def write(self, folder: Path) -> None:
        """Mark the folder as unfinished, with this order as what is to come."""
        with explained("make", folder):
            folder.mkdir(parents=True, exist_ok=True)
        content = {"name": self.name, "revision": self.revision, "pieces": [asdict(file) for file in self.files]}
        write_atomic(folder / MARK, json_text(content))


def digest(file: Path, kind: str = "sha256", begin: bytes = b"") -> str:
    """Hex digest of `begin` and the file's content."""
    with explained("read", file), file.open("rb") as handle:
        start = hashlib.new(kind, begin, usedforsecurity=kind == "sha256")
        return hashlib.file_digest(handle, lambda: start).hexdigest()


def order_of(source: Source, folder: Path) -> Download:
    """The order that is to be filled: that of an unfinished fetch, else one made from what the server lists.

    Raises:
        NoConnection: the hub must be asked and cannot be.
        FedloomError: the hub has no such repository, lacks a file, or contradicts the catalogue.
    """
    if source.kind == "files":
        files = tuple(RemoteFile(f.path, str(f.url), f.bytes, f.sha256) for f in source.files)
        return Download(source.name, source.revision, files)
    begun = written_order(folder)
    if begun is not None and (not source.pinned or begun.revision == source.revision):
        return begun
    return _order_from_hub(source)


def written_order(folder: Path) -> Download | None:
    """The order of the unfinished fetch in `folder`; None where there is none that can be read."""
    try:
        value = read_object(folder / MARK)
        return Download(value["name"], value["revision"], tuple(RemoteFile(**file) for file in value["pieces"]))
    except (FedloomError, KeyError, TypeError):
        return None


def _order_from_hub(source: Source) -> Download:
    if offline():
        raise NoConnection("HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set: the hub may not be asked")
    if not is_hub_name(source.name):
        raise BadInput(f"weights {source.name!r}: no hub name, allowed: OWNER/NAME")
    revision, listing = list_files(source.name, source.revision)
    for file in source.files:
        if file.path not in listing:
            raise FedloomError(f"{source.name} at {source.revision}: the hub lists no {file.path}")
    chosen = source.files or [File(path) for path in _usual_files(listing)]
    if not chosen:
        raise FedloomError(f"{source.name}: holds no weights that can be loaded here ({len(listing)} files)")
    return Download(source.name, revision, tuple(_remote_file(source, file, listing, revision) for file in chosen))


def _usual_files(paths: Iterable[str]) -> list[str]:
    """Of a repository that is not catalogued: small files, and one format of weights a folder; nothing hidden."""
    all_paths = [p for p in paths if _inside(p)]
    pipeline = "model_index.json" in all_paths
    chosen = []
    for folder in sorted({str(PurePosixPath(p).parent) for p in all_paths}):
        if (folder != "." and not pipeline) or folder in _UNUSED:
            continue
        here = [p for p in all_paths if str(PurePosixPath(p).parent) == folder]
        chosen += [p for p in here if p.endswith(_SMALL)]
        if pipeline and folder == ".":  # what lies there is a copy of all parts in one file
            continue
        safe = [p for p in here if _SAFE.fullmatch(PurePosixPath(p).name)]
        chosen += safe or [p for p in here if _PICKLED.fullmatch(PurePosixPath(p).name)]
    return chosen if any(not p.endswith(_SMALL) for p in chosen) else []


def _inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return len(parts) in (1, 2) and not any(part.startswith((".", "/")) or "\\" in part for part in parts)


def _remote_file(source: Source, file: File, listing: Mapping[str, Any], revision: str) -> RemoteFile:
    """The file with what the hub states of it; what the catalogue knows must agree."""
    listed = listing[file.path]
    size, sha256 = (listed.lfs.size, listed.lfs.sha256) if listed.lfs else (listed.size, None)
    for stated, known in ((size, file.bytes), (sha256, file.sha256)):
        if stated is not None and known is not None and stated != known:
            raise FedloomError(f"{source.name}/{file.path}: the hub says {stated}, fedloom's catalogue {known}")
    return RemoteFile(
        file.path,
        file_url(source.name, revision, file.path),
        size if size is not None else file.bytes,
        sha256 or file.sha256,
        None if listed.lfs else listed.blob_id,
    )
