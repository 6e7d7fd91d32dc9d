"""Writing so that a crash or a full disk loses nothing written before; reading what a crash left behind."""

from __future__ import annotations

import errno
import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from fedloom.errors import BadInput, FedloomError, disk_full
from fedloom.outside import escaped
from fedloom.runs.shapes import check
from fedloom.strict_json import parse


@contextmanager
def explained(action: str, path: Path, hint: str = "") -> Iterator[None]:
    """Turn an operating system error inside the block into one line: what could not be done, where, why.

    A full disk too, as a library says it in an error of its own.
    """
    try:
        yield
    except FedloomError:
        raise
    except Exception as error:
        if not isinstance(error, OSError) and not disk_full(error):
            raise
        why = (error.strerror or error) if isinstance(error, OSError) else os.strerror(errno.ENOSPC)
        raise FedloomError(f"cannot {action} {path}: {why}.{hint and ' ' + hint}") from error


def plain(value: Any, *, keep_nonfinite: bool = False) -> Any:
    """`value` as dicts, lists, strings, numbers and None. Arrays become lists; NaN and infinity None; control
    characters are written out (`\\x1b`), as no reader takes them.

    Args:
        keep_nonfinite: leave NaN, infinity and texts as they are (YAML can say them, JSON cannot).

    Raises:
        TypeError: something in `value` has no such form.
    """

    def walk(item: Any) -> Any:
        if item is None or type(item) in (bool, int):
            return item
        if type(item) is str:
            return item if keep_nonfinite else escaped(item)
        if isinstance(item, Enum):
            return walk(item.value)
        if isinstance(item, float):
            return float(item) if keep_nonfinite or math.isfinite(item) else None
        if isinstance(item, str):  # a subclass would carry its class into the file
            return walk("".join(item))
        if isinstance(item, Mapping):
            return {walk(str(key)): walk(part) for key, part in item.items()}
        if isinstance(item, (list, tuple)):
            return [walk(part) for part in item]
        if isinstance(item, (set, frozenset)):
            return sorted(walk(part) for part in item)
        if isinstance(item, os.PathLike):
            return os.fspath(item)
        if is_dataclass(item) and not isinstance(item, type):
            return walk(asdict(item))
        if hasattr(item, "tolist"):
            return walk(item.tolist())
        raise TypeError(f"{type(item).__name__} has no plain form")

    return walk(value)


def json_line(value: Any) -> str:
    """One line of strict JSON."""
    return json.dumps(plain(value), allow_nan=False, ensure_ascii=False)


def json_text(value: Any) -> str:
    """A strict JSON file for people to read."""
    return json.dumps(plain(value), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def sync_folder(path: Path) -> None:
    """Make the names in a folder survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomic(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Replace the file at `path` as a whole: a reader, or a crash, sees the old content or the new, never a
    part.

    Args:
        durable: it is on disk when this returns, also in case of a power cut.

    Raises:
        FedloomError: the disk is full, or the folder cannot be written. The old content is still there.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    with explained("write", path):
        try:
            with part.open("wb") as handle:
                handle.write(_encoded(content) if isinstance(content, str) else content)
                if durable:
                    handle.flush()
                    os.fsync(handle.fileno())
            part.replace(path)
            if durable:
                sync_folder(path.parent)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise


def _encoded(text: str) -> bytes:
    r"""UTF-8; half a character, as of a file name that is not UTF-8, becomes `\udce9`, as JSON and YAML write it."""
    return text.encode(errors="backslashreplace")


def append_line(path: Path, line: str) -> None:
    """Add a line to a file in one write, on disk when this returns; a torn last line of an earlier crash is
    cut off.

    Raises:
        FedloomError: the disk is full. The lines before are whole.
    """
    with explained("write", path), path.open("ab+", buffering=0) as handle:
        size = _whole_lines(handle.fileno())
        handle.truncate(size)
        data = _encoded(line) + b"\n"
        try:
            if handle.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle.fileno())
        except OSError:
            with suppress(OSError):
                handle.truncate(size)
            raise


def _whole_lines(handle: int) -> int:
    """Bytes of the file up to and including its last newline."""
    size = os.fstat(handle).st_size
    end = size
    while end > 0:
        start = max(0, end - 65536)
        found = os.pread(handle, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def read_regular(path: Path) -> bytes | None:
    """The content of a file, None where there is none.

    Raises:
        FedloomError: it cannot be read, or is no regular file (reading a pipe or a device might never end).
    """
    with explained("read", path):
        if not path.exists():
            return None
        if not path.is_file():
            raise BadInput(f"{path}: expected a file, this is a folder, a pipe or a device")
        return path.read_bytes()


def read_lines(path: Path, kind: type[Any] | None = None) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file, `[]` where there is none. A last line that a crash cut short is left
    out.

    Args:
        kind: what each line is, of `runs.shapes`.

    Raises:
        FedloomError: a line before the last is not a JSON object, or no `kind`; names the file and the line.
    """
    lines = (read_regular(path) or b"").split(b"\n")
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append(parse_object(line, f"{path}, line {number}", kind))
        except BadInput as error:
            if number == len(lines) and error.__cause__ is not None:  # not JSON, no newline: the write was cut
                break
            raise
    return rows


def read_object(path: Path, kind: type[Any] | None = None) -> dict[str, Any]:
    """The JSON object in a file, `{}` where there is no file.

    Args:
        kind: what it is, of `runs.shapes`.

    Raises:
        FedloomError: the file is not a JSON object, or no `kind`; names the file.
    """
    content = read_regular(path)
    return {} if content is None else parse_object(content, str(path), kind)


def parse_object(content: bytes, place: str, kind: type[Any] | None = None) -> dict[str, Any]:
    """A JSON object, of that `kind` of `runs.shapes`. Raises BadInput, with the cause only where it is not JSON."""
    try:
        value = parse(content, halves=True)
    except ValueError as error:
        raise BadInput(f"{place}: not JSON ({error})") from error
    if not isinstance(value, dict):
        raise BadInput(f"{place}: expected an object, not {type(value).__name__}")
    if kind is not None:
        check(kind, value, place)
    return value


def is_held(lock: Path) -> bool:
    """Whether a process holds that lock file, as `locked` does."""
    try:
        with locked(lock, wait=False):
            return False
    except BlockingIOError:
        return True


@contextmanager
def locked(path: Path, *, wait: bool = True, busy: str = "") -> Iterator[None]:
    """Hold the lock file at `path`. The lock belongs to the process and ends with it, however it ends.

    Raises:
        BlockingIOError: `wait` is off and another process holds it.
        BadInput: `busy`, if there is such a line: then it does not wait either.
    """
    import fcntl

    while True:
        with path.open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait and not busy else fcntl.LOCK_NB))
            except BlockingIOError:
                if busy:
                    raise BadInput(busy) from None
                raise
            try:
                if not _lies_at(path, handle.fileno()):
                    continue  # removed since it was opened: whoever comes next would lock another file
                yield
                return
            finally:
                fcntl.flock(handle, fcntl.LOCK_UN)


def _lies_at(path: Path, handle: int) -> bool:
    """Whether that open file is the one at `path` still."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), path.stat())
    return False
