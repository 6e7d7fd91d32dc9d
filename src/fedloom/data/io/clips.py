"""Clips, sound and frames, to a joint set: which are chosen, read side by side, and what is left out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedloom.data.assemble import Reading
from fedloom.data.io.frames import folder_frames, video_frames
from fedloom.data.io.sound import SOUNDS, SoundReading, Unreadable, log_spectrogram, read_sound
from fedloom.data.joint import MultimodalSamples
from fedloom.data.tasks import Modality
from fedloom.errors import BadInput, printable
from fedloom.seeding import stream_seed

SKIP = "(on_bad='skip' leaves such out)"


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
) -> MultimodalSamples:
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
                image[i] = video_frames(clip.pictures, reading.frames, size, reading.fps, clip.start, clip.end)
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
        raise BadInput(f"{what}: none of {len(listed)} clips can be used, e.g. {notes['skipped_examples'][-1]}")
    labels = np.array([there[i][1] for i in kept], dtype=np.int64)
    names = tuple(there[i][0].name for i in kept)
    return MultimodalSamples(
        {Modality.AUDIO: audio[: len(kept)], Modality.IMAGE: image[: len(kept)]}, labels, ids=names
    )


def _span(clip: Clip, path: Path) -> tuple[float, float | None]:
    return (0.0, None) if path.suffix.lower() in SOUNDS else (clip.start, clip.end)


def _there(clip: Clip, options: Reading, notes: dict[str, Any]) -> bool:
    for path in (clip.sound, clip.pictures):
        if not (path.is_file() or path.is_dir()):  # to open a pipe would hang
            what = "neither a file nor a folder" if path.exists() else "there is no such file"
            _skip("missing_clips", f"{path}: {what}", options, notes)
            return False
    return True


def _skip(count: str, reason: str, options: Reading, notes: dict[str, Any]) -> None:
    """Count what is left out, or BadInput."""
    if options.on_bad == "error":
        raise BadInput(f"{reason}. {SKIP}")
    notes[count] += 1
    if len(notes["skipped_examples"]) < 5:
        notes["skipped_examples"].append(printable(reason))
