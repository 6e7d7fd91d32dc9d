"""Checkpoints of a run: written after a round, and taken up again when the run is gone on with."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fedloom.errors import BadInput
from fedloom.federation.base import Federation
from fedloom.federation.ledger import Ledger
from fedloom.methods.base import Server
from fedloom.methods.state import read_state, write_state
from fedloom.runs.checkpoint import CheckpointStore
from fedloom.runs.folder import RunFolder


def write_checkpoint(folder: RunFolder, store: CheckpointStore, server: Server, federation: Federation, t: int) -> None:
    """The state after round t, of server and clients."""
    federation.ledger.sync()  # the record of what left the sites is on disk before what was made of it
    with store.writing(t) as tmp:
        write_state(server.state(), tmp / "server.safetensors")
        federation.checkpoint(tmp / "clients")
    federation.checkpoint_moved(folder.checkpoints / f"round_{t:04d}" / "clients")


def restore(folder: RunFolder, store: CheckpointStore, server: Server, federation: Federation) -> list[dict[str, Any]]:
    """Take up the newest checkpoint and forget what came after it; the rows up to it, none where there is none yet.

    Raises:
        BadInput: metrics or ledger lack rounds that the checkpoint is after.
    """
    newest = store.latest()
    if newest is None:
        folder.rewrite_rounds([])
        federation.ledger.truncate(-1)
        return []
    _check_records(folder, newest.round, federation.ledger)
    server.load_state(*read_state(newest.path / "server.safetensors"))
    federation.restore(newest.path / "clients")
    folder.rewind(newest.round)
    federation.ledger.truncate(newest.round)
    folder.log(f"resumed after round {newest.round}")
    return folder.read_rounds()


def _check_records(folder: RunFolder, newest: int, ledger: Ledger) -> None:
    rows = [row for row in folder.read_rounds() if row.get("round", 0) <= newest]
    found = [row.get("round") for row in rows]
    if found != list(range(newest + 1)):
        raise BadInput(
            f"{folder.metrics}: holds the rounds {', '.join(map(str, found)) or 'none'}, expected 0 to "
            f"{newest} as the newest checkpoint: lines are missing. Put the file back, or begin a new run"
        )
    kept = Counter[tuple[int, str]]()
    for sent in ledger.rows():
        kept[sent["round"], sent["direction"]] += sent["encoded_bytes"] * sent["counted"]
    for row in rows:
        for way in ("up", "down"):
            recorded, held = row.get(f"bytes_{way}") or 0, kept[row["round"], way]
            if held < recorded:
                raise BadInput(
                    f"{folder.ledger}: of round {row['round']} it holds {held} bytes {way}, metrics.jsonl "
                    f"{recorded}: lines are missing. Put the file back, or begin a new run"
                )
