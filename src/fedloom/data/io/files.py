"""Files of a data set on disk: every complaint names the file, and what it should hold."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from fedloom.data.io.decode import endings
from fedloom.data.io.walk import listing
from fedloom.data.names import by_name
from fedloom.encodings import decoded
from fedloom.errors import BadInput
from fedloom.outside import DEEPEST, too_deep
from fedloom.strict_json import number_hooks


def need_folder(path: str | Path, layout: str) -> Path:
    """The folder at `path`, or BadInput that says which layout was expected."""
    folder = Path(os.path.expanduser(path))
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "there is no such folder"
        raise BadInput(f"{folder}: {what}. Expected layout: {layout}")
    return folder


def need_file(path: str | Path, layout: str) -> Path:
    """The file at `path`, or BadInput that says which layout was expected."""
    file = Path(os.path.expanduser(path))
    if not file.is_file():
        raise BadInput(f"{file}: there is no such file. Expected layout: {layout}")
    return file


def folders(path: Path) -> list[Path]:
    """Sub-folders in order of name, without hidden ones and those of systems and archives."""
    return [Path(e.path) for e in listing(path) if e.kind == "folder" and not e.hidden]


def pictures(path: Path) -> list[Path]:
    """Picture files straight inside `path` in order of name, by their ending; without hidden ones."""
    ends = endings()
    found = (Path(e.path) for e in listing(path) if e.kind == "file" and not e.hidden)
    return [file for file in found if file.suffix.lower() in ends]


def on_disk(folder: Path, name: str) -> Path:
    """The file `name` below `folder`, as its name is written on this disk.

    A list may have the accents of a name in one piece where macOS, or an archive that it packed, has them apart.
    """
    path = folder / name
    if name.isascii() or os.path.lexists(path):
        return path
    forms = (folder / unicodedata.normalize("NFC", name), folder / unicodedata.normalize("NFD", name))
    return next((other for other in forms if os.path.lexists(other)), path)


def read_text(path: Path) -> str:
    """A UTF-8 file (a byte-order mark is allowed), its line breaks `\\n`. BadInput: see decoded."""
    text = decoded(path, "line", lambda before: before.count("\n") + 1)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file, stripped, without the empty ones."""
    return [line.strip() for _, line in numbered_lines(path)]


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a UTF-8 file that are not empty, as they are, with their numbers from 1."""
    lines = read_text(path).split("\n")  # and at nothing else that Unicode counts as a line break
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def read_names(path: Path) -> list[str]:
    """Class names, one a line, in order of label. BadInput: none, or an empty line before the last name.

    Such a line would move all names below it to other labels.
    """
    lines = numbered_lines(path)
    if not lines:
        raise BadInput(f"{path}: no class names, expected one a line")
    for n, (number, _) in enumerate(lines, start=1):
        if number != n:
            raise BadInput(f"{path} line {n}: empty, expected class name number {n}")
    names = [line.strip() for _, line in lines]
    by_name(names, str(path))
    return names


def read_json(path: Path) -> Any:
    """A JSON file. BadInput: it is none, or an object has a key twice, of which Python would take the last; or a number
    is not finite, or none that a float holds."""
    text = read_text(path)
    try:
        value = json.loads(text, object_pairs_hook=partial(_once, text), **number_hooks(text))
        if too_deep(value):
            raise ValueError(f"nested too deeply, allowed: {DEEPEST} levels")
        return value
    except json.JSONDecodeError as error:
        raise BadInput(f"{path}: not JSON (line {error.lineno}: {error.msg})") from error
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
        raise BadInput(f"{path}: not JSON that can be read: {str(error)[:80]}") from error


def _once(text: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        (key, times), *_ = Counter(key for key, _ in pairs).most_common(1)
        quoted = re.escape(json.dumps(key, ensure_ascii=False)) + r"\s*:"
        at = [text.count("\n", 0, place.start()) + 1 for place in re.finditer(quoted, text)]
        where = f" (lines {' and '.join(map(str, at))})" if len(at) == times else ""  # else other objects have it too
        raise BadInput(f"key {key[:60]!r} is given {times} times in one object{where}")
    return found
