"""Checkpoints of a run: written after a round, and taken up again when the run is gone on with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fedloom.errors import BadInput
from fedloom.federation.base import Federation
from fedloom.federation.ledger import Ledger
from fedloom.methods.base import Server
from fedloom.methods.state import read_state, write_state
from fedloom.runs.checkpoint import Checkpoint, CheckpointStore
from fedloom.runs.folder import RunFolder
from fedloom.runs.manifest import damage


def write_checkpoint(folder: RunFolder, store: CheckpointStore, server: Server, federation: Federation, t: int) -> None:
    """The state after round t, of server and clients."""
    federation.ledger.sync()  # the record of what left the sites is on disk before what was made of it
    with store.writing(t) as tmp:
        write_state(server.state(), tmp / "server.safetensors")
        federation.checkpoint(tmp / "clients")
    federation.checkpoint_moved(folder.checkpoints / f"round_{t:04d}" / "clients")


def restore(folder: RunFolder, store: CheckpointStore, server: Server, federation: Federation) -> list[dict[str, Any]]:
    """Take up the newest checkpoint and forget what came after it; the rows up to it, none where there is none yet.

    Where lines of metrics or ledger are missing, that is the newest checkpoint whose rounds they still hold.

    Raises:
        BadInput: they hold those of no checkpoint.
    """
    newest = store.latest()
    if newest is None:
        folder.rewrite_rounds([])
        federation.ledger.truncate(-1)
        return []
    taken = _recorded(folder, newest, federation.ledger)
    server.load_state(*read_state(taken.path / "server.safetensors"))
    federation.restore(taken.path / "clients")
    folder.rewind(taken.round)
    federation.ledger.truncate(taken.round)
    folder.log(f"resumed after round {taken.round}")
    return folder.read_rounds()


def _recorded(folder: RunFolder, newest: Checkpoint, ledger: Ledger) -> Checkpoint:
    """The newest sound checkpoint, of `newest` and those before it, whose rounds metrics and ledger hold.

    Raises:
        BadInput: there is none; says what `newest` lacks.
    """
    rows, sent = folder.read_rounds(), Counter[tuple[int, str]]()
    for message in ledger.rows():
        sent[message["round"], message["direction"]] += message["encoded_bytes"] * message["counted"]
    lacking = _lacking(folder, newest.round, rows, sent)
    if lacking is None:
        return newest
    for t in range(newest.round - 1, -1, -1):
        place = folder.checkpoints / f"round_{t:04d}"
        if place.is_dir() and _lacking(folder, t, rows, sent) is None and damage(place, contents=True) is None:
            folder.log(f"warning: checkpoint {newest.path.name} is skipped: {lacking}: lines are missing")
            return Checkpoint(t, place)
    raise BadInput(f"{lacking}: lines are missing. Put the file back, or begin a new run")


def _lacking(
    folder: RunFolder, t: int, rows: Sequence[Mapping[str, Any]], sent: Mapping[tuple[int, str], int]
) -> str | None:
    """What the lines lack of the rounds 0 to t, None where they are whole. sent: bytes by round and way."""
    past = [row for row in rows if row.get("round", 0) <= t]
    found = [row.get("round") for row in past]
    if found != list(range(t + 1)):
        rounds = ", ".join(map(str, found)) or "none"
        return f"{folder.metrics}: holds the rounds {rounds}, expected 0 to {t} as the newest checkpoint"
    for row in past:
        for way in ("up", "down"):
            recorded, held = row.get(f"bytes_{way}") or 0, sent[row["round"], way]
            if held < recorded:
                return f"{folder.ledger}: of round {row['round']} it holds {held} bytes {way}, metrics.jsonl {recorded}"
    return None
