"""A run's folder: configuration, metrics, checkpoints, exports; reading it back; the cache runs share."""

from __future__ import annotations

from fedloom.runs.cache import cache_root, cached
from fedloom.runs.checkpoint import Checkpoint, CheckpointStore, newest_checkpoint
from fedloom.runs.folder import RunFolder, new_run_path
from fedloom.runs.load import RunFiles, read_run

__all__ = [
    "Checkpoint",
    "CheckpointStore",
    "RunFiles",
    "RunFolder",
    "cache_root",
    "cached",
    "new_run_path",
    "newest_checkpoint",
    "read_run",
]
