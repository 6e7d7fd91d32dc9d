"""The ledger: one row for each message that crossed, with what it held and how many bytes it took."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import suppress
from hashlib import blake2b
from io import FileIO
from pathlib import Path
from typing import Any

from fedloom.federation.codec import Described
from fedloom.federation.contract import Direction
from fedloom.runs.disk import explained, read_lines, write_atomic
from fedloom.runs.shapes import LedgerRow


class Ledger:
    """Appends a row a message to a JSON-lines file (`path`), or keeps the rows in memory (`None`).

    A row: round, direction ("down" to a client, "up" from it), client, verb, message, fields (name, dtype,
    shape, bytes), `payload_bytes` (the values, which is what papers count), `encoded_bytes` (with the
    header), `counted`, `seconds` (at work in the client; None of what goes down); between peers `to`, who
    got what goes up from `client`. Messages of the verbs in
    `uncounted` are recorded with counted = false. An existing file is continued, and mended when its last line is torn.

    keep: a folder that gets the bytes of every message, as they crossed; a row then has `kept`, its file there. One
    that goes to several clients is one file.
    """

    def __init__(
        self, path: Path | str | None = None, *, uncounted: Collection[str] = (), keep: Path | None = None
    ) -> None:
        self.path = None if path is None else Path(path)
        self.keep = keep
        self.uncounted = frozenset(uncounted)
        self._rows: list[dict[str, Any]] = []
        self._sums: Counter[tuple[int, str, bool, str]] = Counter()
        self._file: FileIO | None = None
        if self.path is not None and self.path.exists():
            rows = read_ledger(self.path)
            if self.path.read_bytes()[-1:] not in (b"", b"\n"):
                write_atomic(self.path, _lines(rows))
            self._add(rows)

    def record(
        self,
        *,
        round: int,
        direction: Direction,
        client: str,
        verb: str,
        payload: bytes,
        described: Described | None,
        seconds: float | None = None,
        to: str | None = None,
    ) -> None:
        """Writes the row of one encoded message.

        described: what it holds, by `codec.describe` or `receive`; None: it was refused, and is recorded as unreadable.
        seconds: of an answer, at work in the client. to: of a message between peers, who got it.
        """
        name, rows = described or ("(unreadable)", ())
        row = {
            "round": round,
            "direction": direction,
            "client": client,
            "verb": verb,
            "message": name,
            "fields": [{"name": r.field, "dtype": r.dtype, "shape": list(r.shape), "bytes": r.bytes} for r in rows],
            "payload_bytes": sum(r.bytes for r in rows),
            "encoded_bytes": len(payload),
            "counted": verb not in self.uncounted,
            "seconds": None if seconds is None else float(f"{seconds:.4f}"),
        }
        if to is not None:
            row["to"] = to
        if self.keep is not None:  # before its row: what has a row is there
            row["kept"] = _keep(self.keep, round, payload)
        if self.path is None:
            self._rows.append(row)
        else:
            self._append(json.dumps(row).encode() + b"\n")
        self._add([row])

    def rows(self) -> list[dict[str, Any]]:
        """All rows, in the order they were written."""
        if self.path is None:
            return list(self._rows)
        return read_ledger(self.path) if self.path.exists() else []

    def totals(self, round: int | None = None, counted_only: bool = True, *, encoded: bool = False) -> tuple[int, int]:
        """(bytes up, bytes down) of one round or of all: the values alone, or with headers if `encoded`."""
        kind = "encoded_bytes" if encoded else "payload_bytes"
        up = down = 0
        for (at, direction, counted, of), total in self._sums.items():
            if of == kind and round in (None, at) and (counted or not counted_only):
                up, down = (up + total, down) if direction == "up" else (up, down + total)
        return up, down

    def truncate(self, after_round: int) -> None:
        """Forgets the rows of later rounds, for a resume; the file is replaced in one step."""
        kept = [row for row in self.rows() if row["round"] <= after_round]
        self.close()
        if self.keep is not None:
            for folder in self.keep.glob("round_*"):
                if int(folder.name.removeprefix("round_")) > after_round:
                    shutil.rmtree(folder)
        if self.path is None:
            self._rows = kept
        elif self.path.exists():
            write_atomic(self.path, _lines(kept))
        self._sums.clear()
        self._add(kept)

    def sync(self) -> None:
        """Returns when all rows are on disk, also in case of a power cut."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file; the next row opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, line: bytes) -> None:
        """Writes a line as a whole: where the disk is full, nothing of it. Raises FedloomError."""
        assert self.path is not None
        with explained("write", self.path):
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("ab", buffering=0)
            size = self._file.tell()
            try:
                if self._file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                with suppress(OSError):
                    self._file.truncate(size)
                raise

    def _add(self, rows: Iterable[dict[str, Any]]) -> None:
        for row in rows:
            for kind in ("payload_bytes", "encoded_bytes"):
                self._sums[row["round"], row["direction"], row["counted"], kind] += row[kind]


def _keep(folder: Path, round: int, payload: bytes) -> str:
    """Writes a message's bytes, named by what they are; the file, from `folder`."""
    name = f"round_{round:04d}/{blake2b(payload, digest_size=16).hexdigest()}.msg"
    if not (folder / name).exists():
        with explained("write", folder / name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / name, payload)
    return name


def read_ledger(path: Path | str) -> list[dict[str, Any]]:
    """The rows of a ledger file, without a torn last line. Raises BadInput for any other bad line."""
    return read_lines(Path(path), LedgerRow)


def _lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()
