"""Clips of sound and frames to multimodal samples: which are chosen, and what is left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloom.data.assemble import Reading, chosen_classes, pick
from fedloom.data.containers import FederatedDataset
from fedloom.data.io.decode import SKIP, in_threads
from fedloom.data.io.frames import folder_frames, video_frames
from fedloom.data.io.sound import SOUNDS, SoundReading, Unreadable, log_spectrogram, read_sound
from fedloom.data.joint import MultimodalSamples, Part
from fedloom.data.names import readable
from fedloom.errors import BadInput, printable
from fedloom.tasks import ClientTask, Modality


@dataclass(frozen=True)
class MediaClip:
    """A clip before it is read.

    name: its id; sound: a sound or video file; pictures: a folder of frames or a video file; start, end: the seconds of
    a video that are read, end None for its end. Sound files and folders of frames are read whole.
    """

    name: str
    label: int
    sound: Path
    pictures: Path
    start: float = 0.0
    end: float | None = None


@dataclass(frozen=True)
class ClipReading:
    """How to read clips; one shorter than the sound's `seconds` is repeated.

    Attributes:
        frames: M pictures of each, evenly over it.
        fps: how many a second of a video these are chosen from.
    """

    options: Reading
    sound: SoundReading
    frames: int = 1
    fps: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.frames, int) or isinstance(self.frames, bool) or not 1 <= self.frames <= 1000:
            raise BadInput(f"frames={self.frames!r}, allowed: a whole number from 1 to 1000")
        if not isinstance(self.fps, (int, float)) or not 0.01 <= self.fps <= 240:
            raise BadInput(f"fps={self.fps!r}, allowed: 0.01 to 240 frames a second")


def clip_notes() -> dict[str, Any]:
    """What read_clips counts: files not there, files not readable, five examples, and clips without any sound."""
    return {"missing_clips": 0, "unreadable_clips": 0, "skipped_examples": [], "silent_clips": 0}


def read_parts(
    name: str,
    class_names: Sequence[str],
    listed: Callable[[str], Sequence[MediaClip]],
    reading: ClipReading,
    notes: dict[str, Any],
) -> FederatedDataset:
    """The data set of the clips that `listed` gives for 'train' and 'test'; see read_clips."""
    chosen = chosen_classes(class_names, reading.options.classes)
    train, test = (read_clips(f"{name} {part}", listed(part), chosen, reading, notes) for part in ("train", "test"))
    task, names = ClientTask.MULTIMODAL_CLASSIFICATION, tuple(readable(class_names[i]) for i in chosen)
    return FederatedDataset(name, names, {task: train}, {task: test}, notes=notes)


def read_clips(
    what: str, clips: Sequence[MediaClip], chosen: Sequence[int], reading: ClipReading, notes: dict[str, Any]
) -> MultimodalSamples:
    """Read the listed clips.

    Args:
        what: of the data set and part, for messages.
        clips: in order.
        chosen: the labels to keep; that of the first becomes 0, and so on.
        reading: the options.
        notes: counts as in clip_notes, which grow.

    Returns:
        audio float16 (N, F, T) and image uint8 (N, M, size, size, 3).

    Raises:
        BadInput: a file is missing or cannot be read and on_bad is 'error'; a part without clips; a library is not
            installed.
    """
    options = reading.options
    labels, names = [clip.label for clip in clips], [clip.name for clip in clips]
    picked = pick(labels, names, chosen, options.per_class, options.seed)
    there = [(clips[i], label) for i, label in picked if _there(clips[i], options, notes)]
    N, size = len(there), options.size
    audio = np.empty((N, *reading.sound.shape), dtype=np.float16)
    image = np.empty((N, reading.frames, size, size, 3), dtype=np.uint8)

    def read(i: int) -> str:
        try:
            audio[i], image[i] = _read(there[i][0], reading)
        except Unreadable as error:
            return str(error)
        return ""

    kept: list[int] = []
    with closing(in_threads(read, N)) as results:
        for i, reason in enumerate(results):
            if reason:
                _skip("unreadable_clips", reason, options, notes)
                continue
            audio[len(kept)], image[len(kept)] = audio[i], image[i]  # over those left out
            notes["silent_clips"] += not audio[i].any()
            kept.append(i)
    if not picked:
        raise BadInput(f"{what}: no clips of the chosen classes")
    if not kept:
        raise BadInput(f"{what}: none of {len(picked)} clips can be used, e.g. {notes['skipped_examples'][-1]}")
    parts: dict[Modality, Part] = {Modality.AUDIO: audio[: len(kept)], Modality.IMAGE: image[: len(kept)]}
    new = np.array([there[i][1] for i in kept], dtype=np.int64)
    return MultimodalSamples(parts, new, ids=tuple(there[i][0].name for i in kept))


def _read(clip: MediaClip, reading: ClipReading) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """Spectrogram (F, T) and frames (M, size, size, 3) of a clip. Unreadable."""
    M, size, start, end = reading.frames, reading.options.size, clip.start, clip.end
    span = (0.0, None) if clip.sound.suffix.lower() in SOUNDS else (start, end)
    audio = log_spectrogram(read_sound(clip.sound, reading.sound.rate, *span), reading.sound)
    if clip.pictures.is_dir():
        return audio, folder_frames(clip.pictures, M, size)
    return audio, video_frames(clip.pictures, M, size, reading.fps, start, end)


def _there(clip: MediaClip, options: Reading, notes: dict[str, Any]) -> bool:
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
