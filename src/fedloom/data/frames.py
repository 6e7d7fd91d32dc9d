"""Frames of a clip, from a folder of pictures or a video; and whole clips, sound and frames, to a joint set."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedloom.data.assemble import Reading
from fedloom.data.decode import UNREADABLE, decode
from fedloom.data.joint import JointSet
from fedloom.data.sound import (
    SOUNDS,
    SoundReading,
    Unreadable,
    log_spectrogram,
    read_sound,
    unreadable,
    video,
)
from fedloom.errors import BadInput
from fedloom.randomness import stream_seed

NUMBERED = re.compile(r"\d{1,9}\.jpe?g", re.IGNORECASE)
SKIP = "(on_bad='skip' leaves such out)"
Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Clip:
    """A clip before it is read.

    name: its id; label: of its class; sound: a sound or video file; pictures: a folder of frames, or a video file;
    start, end: the span in seconds that is read of a video, end None: all that follows; sound files and folders of
    frames are read whole.
    """

    name: str
    label: int
    sound: Path
    pictures: Path
    start: float = 0.0
    end: float | None = None


@dataclass(frozen=True)
class ClipReading:
    """How to read clips. frames: M of each; fps: of a video, how many a second M are chosen from."""

    options: Reading
    sound: SoundReading
    frames: int = 1
    fps: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.frames, int) or isinstance(self.frames, bool) or not 1 <= self.frames <= 1000:
            raise BadInput(f"frames={self.frames!r}, allowed: a whole number from 1 to 1000")
        if not isinstance(self.fps, (int, float)) or not 0.01 <= self.fps <= 240:
            raise BadInput(f"fps={self.fps!r}, allowed: 0.01 to 240 frames a second")


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
                kept.append(_square(frame.to_image(), size))
                due = tick + 1
    if not kept:
        span = f" from {start:g} s" + ("" if end is None else f" to {end:g} s")
        raise unreadable(path, f"no pictures{span}")
    return np.stack([kept[k] for k in evenly(len(kept), M)])


def _square(picture: Image.Image, size: int) -> Frames:
    """The centre square, as of picture files."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size, size), Image.Resampling.BICUBIC, reducing_gap=3.0))


def choose(
    labels: Sequence[int], keys: Sequence[str], chosen: Sequence[int], options: Reading
) -> list[tuple[int, int]]:
    """(position, new label) of the samples of the chosen classes, relabelled 0.. in their order.

    Where `options.per_class` is given, at most so many of each, by a hash of their keys; the order stays.
    """
    new = {old: label for label, old in enumerate(chosen)}
    own: dict[int, list[int]] = {label: [] for label in new.values()}
    for i, label in enumerate(labels):
        if label in new:
            own[new[label]].append(i)
    if options.per_class is not None:
        rank = {i: (stream_seed(options.seed, "per class", keys[i]), i) for p in own.values() for i in p}
        own = {label: sorted(p, key=lambda i: rank[i])[: options.per_class] for label, p in own.items()}
    return sorted((i, label) for label, positions in own.items() for i in positions)


def clip_notes() -> dict[str, Any]:
    """What read_clips counts: files not there, files not readable, five examples, and clips without any sound."""
    return {"missing_clips": 0, "unreadable_clips": 0, "skipped_examples": [], "silent_clips": 0}


def read_clips(
    what: str, clips: Sequence[Clip], chosen: Sequence[int], reading: ClipReading, notes: dict[str, Any]
) -> JointSet:
    """Read the listed clips on a few threads (the decoders let go of the interpreter lock).

    Args:
        what: of the data set and part, for messages.
        clips: in order.
        chosen: the labels to keep; that of the first becomes 0, and so on.
        reading: the options.
        notes: counts as in clip_notes, which grow.

    Returns:
        audio float16 (N, F, T) and image uint8 (N, M, size, size, 3).

    Raises:
        BadInput: a file is missing or cannot be read and on_bad is 'error'; a part without clips; a library is
            not installed.
    """
    options = reading.options
    picked = choose([c.label for c in clips], [c.name for c in clips], chosen, options)
    listed = [(clips[i], label) for i, label in picked]
    there = [entry for entry in listed if _there(entry[0], options, notes)]
    N, size = len(there), options.size
    audio = np.empty((N, *reading.sound.shape), dtype=np.float16)
    image = np.empty((N, reading.frames, size, size, 3), dtype=np.uint8)

    def fill(i: int) -> str:
        clip = there[i][0]
        try:
            samples = read_sound(clip.sound, reading.sound.rate, *_span(clip, clip.sound))
            audio[i] = log_spectrogram(samples, reading.sound)
            if clip.pictures.is_dir():
                image[i] = folder_frames(clip.pictures, reading.frames, size)
            else:
                image[i] = video_frames(
                    clip.pictures, reading.frames, size, reading.fps, clip.start, clip.end
                )
        except Unreadable as error:
            return str(error)
        return ""

    kept: list[int] = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        try:
            for i, reason in enumerate(pool.map(fill, range(N))):
                if reason:
                    _skip("unreadable_clips", reason, options, notes)
                    continue
                audio[len(kept)], image[len(kept)] = audio[i], image[i]  # over those left out
                notes["silent_clips"] += not audio[i].any()
                kept.append(i)
        except BadInput:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if not kept:
        if not listed:
            raise BadInput(f"{what}: no clips of the chosen classes")
        raise BadInput(
            f"{what}: none of {len(listed)} clips can be used, e.g. {notes['skipped_examples'][-1]}"
        )
    labels = np.array([there[i][1] for i in kept], dtype=np.int64)
    names = tuple(there[i][0].name for i in kept)
    return JointSet({"audio": audio[: len(kept)], "image": image[: len(kept)]}, labels, ids=names)


def _span(clip: Clip, path: Path) -> tuple[float, float | None]:
    return (0.0, None) if path.suffix.lower() in SOUNDS else (clip.start, clip.end)


def _there(clip: Clip, options: Reading, notes: dict[str, Any]) -> bool:
    for path in (clip.sound, clip.pictures):
        if not path.exists():
            _skip("missing_clips", f"{path}: there is no such file", options, notes)
            return False
    return True


def _skip(count: str, reason: str, options: Reading, notes: dict[str, Any]) -> None:
    """Count what is left out, or BadInput."""
    if options.on_bad == "error":
        raise BadInput(f"{reason}. {SKIP}")
    notes[count] += 1
    if len(notes["skipped_examples"]) < 5:
        notes["skipped_examples"].append(reason)
