"""The weights that presets name, from catalogue.yaml: files, revision, size, digests and licence. Light: no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from fedloom.weights.packages import is_address, parse_address

MAIN = "main"


@dataclass(frozen=True)
class File:
    """A file of a source.

    path: inside the folder; bytes, sha256: as published, None where not known; url: of a file that lies on no hub, an
    address in a Python package (`packages`) too.
    """

    path: str
    bytes: int | None = None
    sha256: str | None = None
    url: str | None = None


@dataclass(frozen=True)
class Shape:
    """What a model is built from.

    kind: transformers' model_type, or one of `shapes.LATENT`, GLIDE, PIXEL, INCEPTION.
    config: of a model in one part.  parts: of a pipeline, part -> configuration.
    """

    kind: str
    config: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """One set of weights.

    kind: `hub`, or `files` at addresses of their own; revision: a commit, or `main`; files: () for a hub repository
    that is not catalogued; bytes: about how many there are to download, None where not known; made_by: the
    function that makes the folder of the files, "module:NAME", called with the files' folder and an empty one;
    made_bytes: how large that is; shape: as published; address: of the one file of a package that it is, where it is
    not catalogued.
    """

    name: str
    kind: Literal["hub", "files"] = "hub"
    revision: str = MAIN
    files: tuple[File, ...] = ()
    bytes: int | None = None
    licence: str = "not stated here: see its page"
    evidence: str = "not in the catalogue"
    gated: bool = False
    made_by: str | None = None
    made_bytes: int = 0
    shape: Shape | None = None
    address: str | None = None

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit that a later push cannot move."""
        return self.revision != MAIN

    @property
    def word(self) -> str:
        """What `fedloom fetch` and `pretrained` call it: its name, or its address."""
        return self.address or self.name

    @property
    def packaged(self) -> bool:
        """Whether its files lie in Python packages."""
        return any(is_address(str(file.url)) for file in self.files)


@cache
def sources() -> Mapping[str, Source]:
    """All catalogued weights by name."""
    from fedloom.config.yaml_core import parse

    def source(name: str, files: list[dict[str, Any]], shape: dict[str, Any], base: str = "", **rest: Any) -> Source:
        addressed = ({"url": base + file["path"]} | file if base else file for file in files)
        return Source(name, files=tuple(File(**file) for file in addressed), shape=Shape(**shape), **rest)

    entries = parse(Path(__file__).with_name("catalogue.yaml").read_text(encoding="utf-8"))
    return {name: source(name, **entry) for name, entry in entries.items()}


def source_of(name: str) -> Source:
    """The catalogue's entry, a file at an address in a package, or a hub repository of which nothing is known.

    Raises:
        BadInput: a malformed address.
    """
    return _member(name) if is_address(name) else sources().get(name) or Source(name)


def _member(text: str) -> Source:
    """The source that is one file of a package; all of one version share a folder."""
    address = parse_address(text)
    known = "its address states the wheel's sha256" if address.sha256 else "the first fetch pins it"
    return Source(
        f"pypi/{address.name}-{address.version}",
        "files",
        address.version,
        (File(address.file, url=str(address)),),
        licence="not stated here: see the package's page",
        evidence=f"not in the catalogue: {known}",
        address=text,
    )
