"""Frames of a clip, from a folder of pictures or a video."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedloom.data.io.decode import UNREADABLE, centre_square, decode
from fedloom.data.io.sound import unreadable, video

NUMBERED = re.compile(r"\d{1,9}\.jpe?g", re.IGNORECASE)
Frames = NDArray[np.uint8]


def evenly(K: int, M: int) -> list[int]:
    """M of K positions, the middles of M equal parts; where there are fewer than M, all, and the last one again."""
    if K <= M:
        return [*range(K), *[K - 1] * (M - K)]
    return [(2 * m + 1) * K // (2 * M) for m in range(M)]


def folder_frames(folder: Path, M: int, size: int) -> Frames:
    """M frames uint8 (M, size, size, 3) of a folder of `<number>.jpg`, in order of number; numbers may be missing.

    Raises:
        Unreadable: no such folder, no frames in it, or one of those chosen cannot be read.
    """
    if not folder.is_dir():
        raise unreadable(folder, "a file, expected a folder of frames")
    files = sorted((p for p in folder.iterdir() if NUMBERED.fullmatch(p.name)), key=lambda p: int(p.stem))
    if not files:
        raise unreadable(folder, "no frames in the folder, expected <number>.jpg")
    out = np.empty((M, size, size, 3), dtype=np.uint8)
    for m, k in enumerate(evenly(len(files), M)):
        try:
            out[m] = out[m - 1] if m >= len(files) else decode(files[k], size)
        except UNREADABLE as error:
            raise unreadable(files[k], error) from error
    return out


def video_frames(
    path: Path, M: int, size: int, fps: float = 1.0, start: float = 0.0, end: float | None = None
) -> Frames:
    """M frames uint8 (M, size, size, 3) of a video: `fps` a second between `start` and `end`, of these M evenly.

    Raises:
        Unreadable: the file is missing, broken or cut short, or has no pictures in that span.
        BadInput: PyAV is not installed.
    """
    kept: list[Frames] = []
    due = 0  # of the frames at start + n / fps, the next to come
    with video(path) as (container, zero):
        if not container.streams.video:
            raise unreadable(path, "the video has no pictures")
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # clips are read side by side already
        for frame in container.decode(stream):
            time = (frame.time or 0.0) - zero
            if end is not None and time >= end - 1e-6:
                break
            tick = math.floor((time - start) * fps + 1e-6)
            if tick >= due:
                kept.append(centre_square(frame.to_image(), size))
                due = tick + 1
    if not kept:
        span = f" from {start:g} s" + ("" if end is None else f" to {end:g} s")
        raise unreadable(path, f"no pictures{span}")
    return np.stack([kept[k] for k in evenly(len(kept), M)])
