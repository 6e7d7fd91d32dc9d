"""What a data set that was read depends on: every file that its reader may read, and the reader's own code."""

from __future__ import annotations

import ast
import hashlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import __version__ as pillow

from fedloom.data.io.parquet import referred
from fedloom.data.io.walk import walk
from fedloom.data.registry import DATASETS, PAIR_SETS, Dataset

PACKAGE = Path(__file__).parent
OURS = (PACKAGE.parent / "experiment" / "datasets.py", PACKAGE.parent / "seeding.py")  # they decide on what is kept too
BESIDE = ("labels.json",)  # read from the folder that a file or folder lies in


def fingerprint(name: str, root: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """A digest of the files and one of the code that the data set called `name` is read from; strict JSON.

    Files: all below `root`, below every `root` inside `options` (as `mixed` has them) and below every option that names
    a file or folder, and what the data set declares besides (`Dataset.files`); links are followed. Of each its name,
    size, inode and both times, so that a file put in the place of one with the same size and time is another. Code: all
    of fedloom's readers, and the source of a reader from elsewhere with the modules of its own that it imports.
    """
    whole = {"name": name, "root": root, **options}
    files = hashlib.sha256()
    places = sorted(_places(whole))
    for place in places:
        if not any(place.startswith(f"{other.rstrip(os.sep)}{os.sep}") for other in places):
            _add_tree(files, place)
    return {"files": files.hexdigest(), "code": _code(_readers(whole)), "pillow": pillow}


def _places(options: Mapping[str, Any], root: str | None = None) -> set[str]:
    """The existing files and folders that options name, at any depth."""
    own = options.get("root")
    root = str(own) if isinstance(own, (str, os.PathLike)) else root
    sure, declared = _path_options(options.get("name")), _declared(options.get("name"))
    found = {os.path.abspath(p) for p in declared.files(options)} if declared and declared.files else set[str]()
    for key, value in options.items():
        if isinstance(value, Mapping):
            found |= _places(value, root)
        for text in _texts(value) if key != "name" else ():
            found |= {os.path.abspath(p) for p in _named(text, None if key == "root" else root, key in sure)}
    return found


def _path_options(name: Any) -> set[str]:
    """The options of that reader which are paths by its signature."""
    reader = _reader(name)
    if reader is None:
        return {"root"}
    parameters = inspect.signature(reader).parameters.values()
    return {"root"} | {p.name for p in parameters if "Path" in str(p.annotation)}


def _reader(name: Any) -> Callable[..., Any] | None:
    """The reader of the data set of that name, if there is one."""
    declared = _declared(name)
    return None if declared is None else declared.load


def _declared(name: Any) -> Dataset | None:
    return (DATASETS.get(name) or PAIR_SETS.get(name)) if isinstance(name, str) else None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, (str, os.PathLike)):
        yield os.fspath(value)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _texts(part)


def _named(text: str, root: str | None, sure: bool) -> Iterator[Path]:
    """The files and folders that `text` may mean. Not `sure`: text like `.` or `text` seldom means one."""
    if not text or "\0" in text or not (sure or any(c.isalnum() for c in text)):
        return
    path = Path(os.path.expanduser(text))
    bases = [Path()] if root is None or (not sure and ("/" in text or "." in text)) else []
    bases += [] if root is None else [Path(os.path.expanduser(root))]
    for place in dict.fromkeys(base / path for base in bases):
        try:
            if place.exists():
                yield place
        except OSError:  # longer than a name can be
            return


def _add_tree(digest: Any, place: str) -> None:
    """Everything below a folder, or one file, and what is read beside it."""
    digest.update(f"\n{place}\n".encode("utf-8", "surrogatepass"))
    tables: list[str] = []
    if os.path.isdir(place):
        for entry in walk(place, hidden=True):
            facts = entry.facts if entry.kind == "file" else None
            _add(digest, entry.below, entry.kind, facts, entry.seen)
            if entry.kind == "file" and entry.below.endswith((".parquet", ".pq")):
                tables.append(entry.path)
    else:
        _add_file(digest, place)
        tables.append(place)
    for name in BESIDE:
        _add_file(digest, os.path.join(os.path.dirname(place), name))
    for table in tables:
        for picture in referred(Path(table)):
            _add_file(digest, os.fspath(picture))


def _add_file(digest: Any, path: str) -> None:
    try:
        _add(digest, path, "file", os.stat(path))
    except (OSError, ValueError):  # not there, or no name that a file can have
        _add(digest, path, "missing", None)


def _add(digest: Any, name: str, kind: str, facts: os.stat_result | None, seen: str | None = None) -> None:
    known = f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns} {facts.st_ino}" if facts else seen
    digest.update(f"{name}\0{kind}\0{known}\n".encode("utf-8", "surrogatepass"))


# ------------------------------------------------------------------------------------------------------------- code


def _readers(options: Mapping[str, Any]) -> Iterator[Callable[..., Any]]:
    """The reader that options name, and those of the sets inside them."""
    if (reader := _reader(options.get("name"))) is not None:
        yield reader
    for value in options.values():
        if isinstance(value, Mapping):
            yield from _readers(value)


def _code(readers: Iterable[Callable[..., Any]]) -> str:
    """A digest of the readers' source, in order of file."""
    files, loose = {*PACKAGE.rglob("*.py"), *OURS}, []
    for reader in readers:
        module = sys.modules.get(reader.__module__)
        file = getattr(module, "__file__", None)
        if module is not None and file and Path(file).is_file():
            files |= _own_modules(module, Path(file))
        else:  # of a notebook
            loose.append(_source(reader))
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.read_bytes())
    for text in sorted(loose):
        digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _source(reader: Callable[..., Any]) -> str:
    try:
        return inspect.getsource(reader)
    except (OSError, TypeError):
        code = getattr(reader, "__code__", None)
        return f"{getattr(code, 'co_code', b'').hex()} {getattr(code, 'co_consts', '')}"


def _own_modules(module: ModuleType, file: Path) -> set[Path]:
    """The files of a module from elsewhere: of its whole package, or of it and what it imports from beside it."""
    top = sys.modules.get(module.__name__.partition(".")[0])
    if top is not None and hasattr(top, "__path__"):
        if top.__name__ == "fedloom":
            return {file}
        return {path for folder in top.__path__ for path in Path(folder).rglob("*.py")}
    found, open_ = {file}, [file]
    while open_:
        for name in _imported(open_.pop()):
            beside = file.parent / name
            alone = beside.with_suffix(".py")
            near = [alone] if alone.is_file() else [*beside.rglob("*.py")] if beside.is_dir() else []
            new = [path for path in near if path not in found]
            open_ += new
            found |= set(new)
    return found


def _imported(file: Path) -> set[str]:
    """The first names of what a file imports anywhere in it."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return set()
    names = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in names} - {"", "fedloom"}
