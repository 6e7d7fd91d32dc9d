"""Sound files, and the sound of video files, to log-spectrograms: mono, one rate, one length.

What decodes them is an optional extra of this package, `fedloom[media]`: soundfile for wav, flac and mp3, PyAV for
videos. Both are imported when the first file is read.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloom.errors import BadInput

SOUNDS = frozenset({".wav", ".flac", ".mp3", ".ogg", ".aif", ".aiff"})  # read by soundfile; all else by PyAV
RATES = (1000, 384_000)  # samples a second that a file may have: from 1 a second, resampling would make any number
FLOOR = 1e-7  # added to the power before the logarithm
BAND_RATE = 8000  # samples a second of what `band_spectrograms` takes
BAND_WINDOW, BAND_HOP = 256, 64  # of it: 32 ms, every 8 ms: pitch and syllables both show
CHUNK = 256  # of it: sounds taken at a time: 16 MB for a second each instead of 150 for 2400
POINTER = b"version https://git-lfs"


class Unreadable(BadInput):
    """A file is missing, empty, cut short or broken: what a reader may skip where it is told to."""


@dataclass(frozen=True)
class SoundReading:
    """How to hear a clip.

    Attributes:
        rate: samples a second.
        seconds: length, to which a clip is repeated and cut.
        nperseg: samples of a window of the spectrogram.
        noverlap: how many of them the next window shares.
    """

    rate: int = 16000
    seconds: float = 3.0
    nperseg: int = 512
    noverlap: int = 353

    def __post_init__(self) -> None:
        for key in ("rate", "nperseg", "noverlap"):
            value = getattr(self, key)
            if not isinstance(value, int) or isinstance(value, bool):
                raise BadInput(f"{key}={value!r}, expected a whole number")
        if not 1000 <= self.rate <= 192_000:
            raise BadInput(f"rate={self.rate}, allowed: 1000 to 192000 samples a second")
        if not isinstance(self.seconds, (int, float)) or not 0.01 <= self.seconds <= 3600:
            raise BadInput(f"seconds={self.seconds!r}, allowed: 0.01 to 3600")
        if not 2 <= self.nperseg <= self.samples:
            raise BadInput(f"nperseg={self.nperseg}, allowed: 2 to the clip's {self.samples} samples")
        if not 0 <= self.noverlap < self.nperseg:
            raise BadInput(f"noverlap={self.noverlap}, allowed: 0 to nperseg - 1 = {self.nperseg - 1}")

    @property
    def samples(self) -> int:
        """L, the length of a clip in samples."""
        return round(self.rate * self.seconds)

    @property
    def shape(self) -> tuple[int, int]:
        """F and T of the spectrogram: 257 x 299 for 3 s at the defaults, 257 x 1004 for 10 s."""
        return self.nperseg // 2 + 1, (self.samples - self.noverlap) // (self.nperseg - self.noverlap)


def library(name: str) -> Any:
    """The module `soundfile` or `av`. BadInput where it is not installed."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:  # OSError: soundfile without the C library that it wraps
        raise BadInput(
            f"sound and video files need {name}, which is not installed: pip install 'fedloom[media]'"
        ) from error


def unreadable(path: Path, error: Exception | str) -> Unreadable:
    """The complaint about a file, from what a library says of it; plainer where we can tell why."""
    reason = str(getattr(error, "error_string", "") or getattr(error, "strerror", "") or error)
    reason = reason.strip().splitlines()[0].rstrip(".") if reason.strip() else type(error).__name__
    if path.is_file():
        if not path.stat().st_size:
            reason = "the file is empty"
        else:
            with path.open("rb") as file:
                if file.read(len(POINTER)) == POINTER:
                    reason = "a Git LFS pointer, not the file itself (`git lfs pull` fetches it)"
    elif not path.exists():
        reason = "there is no such file"
    return Unreadable(f"{path}: {reason}")


@contextmanager
def video(path: Path) -> Iterator[tuple[Any, float]]:
    """An open video file and the time in seconds at which it starts. Unreadable for what is found wrong in it."""
    av = library("av")
    try:
        # A playlist under the name of a video must not fetch anything.
        with av.open(str(path.absolute()), options={"protocol_whitelist": "file"}) as container:
            yield container, (container.start_time or 0) / av.time_base
    except BadInput:
        raise
    except (av.error.FFmpegError, OSError, ValueError, EOFError) as error:
        raise unreadable(path, error) from error


def _of_file(path: Path, start: float, end: float | None) -> tuple[NDArray[np.float32], int]:
    """Samples (n, channels) between start and end in seconds, and their rate."""
    soundfile = library("soundfile")
    try:
        with soundfile.SoundFile(path) as file:
            rate, whole = int(file.samplerate), int(file.frames)
            first = min(round(start * rate), whole)
            last = whole if end is None else min(round(end * rate), whole)
            file.seek(first)
            samples: NDArray[np.float32] = file.read(max(0, last - first), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, ValueError) as error:
        raise unreadable(path, error) from error
    # libsndfile reads what there is without complaint. Lengths of mp3 files are estimates, hence the margin.
    if _cut_short(path) or len(samples) < 0.9 * (last - first):
        raise unreadable(path, "the file is cut short")
    return samples, rate


def _cut_short(path: Path) -> bool:
    """Whether a wav file is shorter than its own header says; a header written in advance says 0 or the most."""
    with path.open("rb") as file:
        head = file.read(12)
    size = int.from_bytes(head[4:8], "little")
    wav = head[:4] == b"RIFF" and head[8:] == b"WAVE" and 0 < size < 2**32 - 1024
    return wav and path.stat().st_size < size  # 8 bytes of grace: some writers count the head in


def _of_video(path: Path, start: float, end: float | None) -> tuple[NDArray[np.float32], int]:
    """As _of_file, from a video's first sound track."""
    av = library("av")
    pieces: list[NDArray[np.float32]] = []
    first, rate = 0.0, 0
    with video(path) as (container, zero):
        if not container.streams.audio:
            raise unreadable(path, "the video has no sound track")
        stream = container.streams.audio[0]
        planes = av.AudioResampler(format="fltp")
        for frame in container.decode(stream):
            time = (frame.time or 0.0) - zero
            if end is not None and time >= end:
                break
            if not pieces:
                first, rate = time, int(frame.sample_rate)
            pieces += [piece.to_ndarray().T for piece in planes.resample(frame)]
    if not pieces:
        return np.zeros((0, 1), dtype=np.float32), rate
    samples = np.concatenate(pieces)
    last = len(samples) if end is None else max(0, round((end - first) * rate))
    return samples[max(0, round((start - first) * rate)) : last], rate


def read_sound(path: Path, rate: int, start: float = 0.0, end: float | None = None) -> NDArray[np.float32]:
    """The sound of a file between `start` and `end` seconds (None: its end), mono: float32 (n,) at `rate`.

    Raises:
        Unreadable: the file is missing, empty, cut short or broken, or has no sound in that span.
        BadInput: the library that reads it is not installed.
    """
    from scipy.signal import resample_poly

    if path.exists() and not path.is_file():
        raise unreadable(path, "no file but a folder, pipe or device")  # to open a pipe would hang
    of = _of_file if path.suffix.lower() in SOUNDS else _of_video
    try:
        samples, own = of(path, start, end)
    except MemoryError as error:
        raise unreadable(path, "it says that it is longer than memory can hold") from error
    if not len(samples):
        span = f" from {start:g} s" + ("" if end is None else f" to {end:g} s")
        raise unreadable(path, f"no sound{span}")
    if not RATES[0] <= own <= RATES[1]:
        raise unreadable(path, f"a rate of {own} samples a second, allowed: {RATES[0]} to {RATES[1]}")
    mono = samples.mean(axis=1)
    if not np.isfinite(mono).all():
        raise unreadable(path, "samples that are no numbers")
    if own != rate:
        common = gcd(own, rate)
        mono = resample_poly(mono, rate // common, own // common)
    return np.asarray(mono, dtype=np.float32)


def fit_length(samples: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Samples (n,) repeated as often as needed and cut to `length`, clipped to -1..1; n at least 1."""
    return np.clip(np.resize(samples, length), -1.0, 1.0)


def log_spectrogram(samples: NDArray[np.float32], sound: SoundReading) -> NDArray[np.float16]:
    """Samples (n,) at `sound.rate` to float16 (F, T): log power, zero mean and unit deviation; silence is zeros."""
    from scipy.signal import spectrogram

    whole = fit_length(samples, sound.samples)
    _, _, power = spectrogram(whole, sound.rate, nperseg=sound.nperseg, noverlap=sound.noverlap)
    log = np.log(power + FLOOR)
    deviation = float(log.std(dtype=np.float64))
    if deviation < 1e-6:  # silence: what is left is rounding, which must not be blown up
        return np.zeros(sound.shape, dtype=np.float16)
    return np.asarray((log - log.mean(dtype=np.float64)) / deviation, dtype=np.float16)


def band_spectrograms(waves: NDArray[np.float32], bands: int, steps: int) -> NDArray[np.float16]:
    """Many sounds to small pictures of their tones: pooled power, log, each of zero mean and unit deviation.

    Args:
        waves: float32 (N, L) at 8 kHz, of about unit power each: the floor under the logarithm is absolute.
        bands: F up to 128: equal shares of the frequencies up to 4 kHz, the lowest first.
        steps: T up to the number of windows, (L - 256) // 64 + 1: equal shares of the time.

    Returns:
        float16 (N, F, T).
    """
    from scipy.signal import spectrogram

    high, wide = band_edges(waves.shape[1], bands, steps)
    pictures = np.empty((len(waves), bands, steps), dtype=np.float16)
    for start in range(0, len(waves), CHUNK):
        chunk = slice(start, start + CHUNK)
        _, _, power = spectrogram(waves[chunk], fs=BAND_RATE, nperseg=BAND_WINDOW, noverlap=BAND_WINDOW - BAND_HOP)
        power = np.add.reduceat(power[:, 1:], high[:-1], axis=1)  # without the constant, which is taken out
        power = np.add.reduceat(power, wide[:-1], axis=2) / np.outer(np.diff(high), np.diff(wide))
        heard = np.log(power + FLOOR)
        heard -= heard.mean(axis=(1, 2), keepdims=True)
        heard /= np.maximum(heard.std(axis=(1, 2), keepdims=True), 1e-6)  # silence stays zeros
        pictures[chunk] = heard
    return pictures


def band_edges(length: int, bands: int, steps: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the bands (F + 1,) and steps (T + 1,) of sounds of `length` samples begin, and the last ends. BadInput."""
    windows = (length - BAND_WINDOW) // BAND_HOP + 1
    return _edges(BAND_WINDOW // 2, bands, "bands"), _edges(windows, steps, "steps")


def _edges(n: int, shares: int, what: str) -> NDArray[np.int64]:
    """Where `shares` about equal runs of n things begin, and the last ends, int64 (shares + 1,)."""
    if not 2 <= shares <= n:
        raise BadInput(f"{what}={shares}, allowed: 2 to {n}")
    return np.round(np.linspace(0, n, shares + 1)).astype(np.int64)
