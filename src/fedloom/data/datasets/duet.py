"""duet: things that are heard and seen, one modality strong, the other weak. Embedded: drawn from a seed in seconds.

- A thing has a *sound* (a short tune: pitch, glide, pulse, timbre) and a *look* (a shape of a hue and a texture, moving
  over the frames of a clip). Both vary within the thing, independently of one another.
- Noise in each modality decides which is strong: by default a small network gets nine in ten right from the sounds
  alone, nearly six from the looks. `audio_snr=-14, image_snr=0` reverses that.
- Things come in pairs of *siblings*: siren and horn, cricket and cicada look alike; kettle and whistle, cuckoo and
  quail sound alike. How far sight lags behind hearing differs by class: what class-wise methods are about.
- Hue alone does not tell them apart: the ground and a small distracting disc have any hue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedloom.data.containers import FederatedDataset, Labels
from fedloom.data.io.decode import check_size
from fedloom.data.io.sound import BAND_RATE, band_spectrograms
from fedloom.data.joint import MultimodalSamples, Part
from fedloom.data.options import takes
from fedloom.data.registry import Counts, Dataset
from fedloom.errors import BadInput
from fedloom.seeding import numpy_stream
from fedloom.tasks import ClientTask, Modality

LENGTH = 4096  # samples of a sound: 0.51 s
SPREAD = 55.0  # grey levels: the deviation that pictures are exposed to where noise would leave the range
Real = NDArray[np.float64]
Shape = Literal["disc", "ring", "square", "notched", "triangle", "cross", "bar", "star"]


@dataclass(frozen=True)
class Sound:
    """A tune of equally long notes. pitch: Hz; notes: semitones above it; glide: semitones that each note rises;
    sounding: share of a note that is heard; decay: e-folds by which it fades over the clip;
    overtones: amplitudes of the tone and its multiples."""

    pitch: float
    notes: tuple[float, ...]
    glide: float = 0.0
    sounding: float = 0.9
    decay: float = 0.5
    overtones: tuple[float, ...] = (1.0, 0.4)


@dataclass(frozen=True)
class Look:
    """A shape. hue: 0 to 1 around the circle; stripes: dark ones across, 0 plain; motion: of the shape over a clip, in
    sides of the picture to the right and down."""

    shape: Shape
    hue: float
    stripes: float
    motion: tuple[float, float]


# Siblings stand next to each other: 0-1 and 4-5 look alike, 2-3 and 6-7 sound alike.
THINGS: dict[str, tuple[Sound, Look]] = {
    "siren": (Sound(600, (0, 12), 6), Look("disc", 0.0, 0, (0.2, 0.0))),
    "horn": (Sound(400, (0,), 0, 0.95, 0.2, (1, 0.9, 0.8, 0.7)), Look("ring", 0.0, 0, (0.2, 0.0))),
    "kettle": (Sound(1300, (0,), 7.5), Look("triangle", 0.2, 2, (0.0, -0.2))),
    "whistle": (Sound(1300, (1.5,), 5), Look("bar", 0.35, 0, (0.0, 0.2))),
    "cricket": (Sound(2400, (0,) * 6, 0, 0.5, 0.2, (1.0,)), Look("square", 0.55, 0, (-0.2, 0.0))),
    "cicada": (Sound(1900, (0, 3) * 6, 0, 0.9, 0.2, (1, 0.2)), Look("notched", 0.55, 0, (-0.2, 0.0))),
    "cuckoo": (Sound(800, (3, 0), 0, 0.8, 0.7), Look("cross", 0.7, 2, (0.15, 0.15))),
    "quail": (Sound(800, (0, 3), 0, 0.8, 0.7), Look("star", 0.85, 0, (-0.15, 0.15))),
}


@dataclass(frozen=True)
class Duet:
    """The options.

    Attributes:
        classes: C, the first of the things; siblings stand next to each other.
        per_class: training samples of a thing; with `skew` of the most frequent one.
        test_per_class: held-out samples of each.
        frames, size: M pictures a clip, of that many pixels a side.
        bands, steps: F and T of the log-spectrogram of half a second.
        audio_snr: power of the sound over that of the white noise in it, in dB.
        image_snr: variance of the clean frames over that of the white noise in each channel of a pixel, in dB.
        skew: class imbalance of the training part, 0: none, 1: from the rarest thing (drawn) to the most frequent one
            ten times the samples, in equal ratios.
        seed: of everything; other SNRs give the same data under the same noise, louder or softer.
    """

    classes: int = 8
    per_class: int = 120
    test_per_class: int = 50
    frames: int = 2
    size: int = 16
    bands: int = 24
    steps: int = 32
    audio_snr: float = -10.0
    image_snr: float = -11.0
    skew: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("per_class", "test_per_class", "frames"):
            if (n := getattr(self, key)) < 1:
                raise BadInput(f"duet: {key}={n}, allowed: 1 or more")
        if not 2 <= self.classes <= len(THINGS):
            raise BadInput(f"duet: classes={self.classes}, allowed: 2 to {len(THINGS)}")
        if not 0 <= self.skew <= 1:
            raise BadInput(f"duet: skew={self.skew}, allowed: 0 to 1")
        for key in ("audio_snr", "image_snr"):
            if not -60 <= (snr := getattr(self, key)) <= 60:
                raise BadInput(f"duet: {key}={snr}, allowed: -60 to 60 dB")
        check_size(self.size)


@takes(Duet)
def load(*, reading: Duet) -> FederatedDataset:
    """Synthesise the data set. Of each sample is drawn, from streams of its part alone:

    sound: pitch (4 semitones up or down), tempo, onset, strength of each overtone, a click, loudness, noise.
    look: place, scale, turn, hue, brightness, how far it moves, the ground's two colours, a distracting disc, noise.

    Raises:
        BadInput: an option out of range.
    """
    C = reading.classes
    rank = numpy_stream(reading.seed, "duet", "skew").permutation(C)
    many = np.maximum(1, np.rint(reading.per_class * 10.0 ** (-reading.skew * rank / (C - 1)))).astype(np.int64)
    test = _part("test", np.full(C, reading.test_per_class), reading)
    return FederatedDataset("duet", tuple(THINGS)[:C], _part("train", many, reading), test)


def _part(name: str, each: NDArray[np.int64], options: Duet) -> dict[ClientTask, MultimodalSamples]:
    def stream(purpose: str) -> np.random.Generator:
        return numpy_stream(options.seed, "duet", name, purpose)

    labels = stream("labels").permutation(np.repeat(np.arange(options.classes, dtype=np.int64), each))
    waves = _unit_power(_sounds(labels, stream("sounds")))
    waves = waves + stream("hiss").standard_normal(waves.shape, dtype=np.float32) * _amplitude(options.audio_snr)
    clips = _looks(labels, options.frames, options.size, stream("looks"))
    grain = stream("grain").standard_normal(clips.shape, dtype=np.float32)
    audio = band_spectrograms(_unit_power(waves).astype(np.float32), options.bands, options.steps)
    parts: dict[Modality, Part] = {Modality.AUDIO: audio, Modality.IMAGE: _expose(clips, grain, options.image_snr)}
    ids = tuple(f"{name}-{i}" for i in range(len(labels)))
    return {ClientTask.MULTIMODAL_CLASSIFICATION: MultimodalSamples(parts, labels, ids=ids)}


def _unit_power(waves: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sounds (N, L), each divided by its rms."""
    scaled: NDArray[np.float32] = waves / np.sqrt(np.mean(waves**2, axis=1, keepdims=True))
    return scaled


def _amplitude(snr: float) -> np.float32:
    """Of the noise beside a signal of amplitude 1."""
    return np.float32(10 ** (-snr / 20))


def _expose(clips: NDArray[np.float32], grain: NDArray[np.float32], snr: float) -> NDArray[np.uint8]:
    """Frames with noise as pixels. clips: float (N, M, S, S, 3), 0 to 1; grain: the noise, of deviation 1.

    Where noise is strong, contrast is lowered around mid-grey as a camera would: clipped noise would be another noise
    than the one asked for.
    """
    axes = (1, 2, 3, 4)
    signal = 255 * (clips - clips.mean(axis=axes, keepdims=True))
    deviation = signal.std(axis=axes, keepdims=True)
    noisy = signal + grain * (deviation * _amplitude(snr))
    noisy *= np.minimum(1.0, SPREAD / np.maximum(noisy.std(axis=axes, keepdims=True), 1e-6))
    pixels: NDArray[np.uint8] = np.clip(np.rint(127.5 + noisy), 0, 255).astype(np.uint8)
    return pixels


def _sounds(labels: Labels, rng: np.random.Generator) -> NDArray[np.float32]:
    """The sound of each label's thing, without noise. float32 (N, 4096)."""
    t = np.arange(LENGTH) / LENGTH
    waves = np.empty((len(labels), LENGTH), dtype=np.float32)
    tables = [sound for sound, _ in THINGS.values()]
    for c in np.unique(labels):
        mine = np.flatnonzero(labels == c)
        waves[mine] = _play(tables[c], len(mine), t, rng)
    at = rng.integers(0, LENGTH - 64, len(labels))  # a click of 8 ms anywhere
    click = rng.standard_normal((len(labels), 64)) * rng.uniform(0, 1.5, (len(labels), 1))
    np.put_along_axis(waves, spots := at[:, None] + np.arange(64), np.take_along_axis(waves, spots, 1) + click, 1)
    return waves


def _play(sound: Sound, n: int, t: Real, rng: np.random.Generator) -> Real:
    """n performances of a tune. (n, 4096)."""
    notes = np.array(sound.notes)
    tempo, onset = rng.uniform(0.85, 1.15, (n, 1)), rng.uniform(-0.12, 0.12, (n, 1))
    beat = (t - onset) * tempo * len(notes)  # (n, L): the note, and how far in it
    which = np.clip(np.floor(beat), 0, len(notes) - 1).astype(np.int64)
    within = beat - which
    semitones = notes[which] + sound.glide * np.clip(within, 0, 1) + rng.uniform(-4, 4, (n, 1))
    phase = np.cumsum(2 * np.pi * sound.pitch / BAND_RATE * 2 ** (semitones / 12), axis=1)
    envelope = np.clip(within / 0.08, 0, 1) * np.clip((sound.sounding - within) / 0.08, 0, 1)
    envelope *= np.exp(-sound.decay * t) * rng.uniform(0.5, 1, (n, 1))
    start = rng.uniform(0, 2 * np.pi, (n, len(sound.overtones)))
    strength = np.array(sound.overtones) * rng.uniform(0.5, 1.5, start.shape)
    tones = (strength[:, [k]] * np.sin((k + 1) * phase + start[:, [k]]) for k in range(len(sound.overtones)))
    played: Real = envelope * sum(tones)
    return played


def _looks(labels: Labels, frames: int, size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """The clip of each label's thing, without noise. float32 (N, M, S, S, 3), 0 to 1."""
    N = len(labels)
    tables = [look for _, look in THINGS.values()]
    clip = _ground(N, size, rng)[:, None] * np.ones((1, frames, 1, 1, 1))
    v, u = np.meshgrid(*[(np.arange(size) + 0.5) / size] * 2, indexing="ij")  # down, right
    when = np.linspace(-0.5, 0.5, frames) if frames > 1 else np.zeros(1)

    def column(low: float, high: float) -> Real:
        return rng.uniform(low, high, (N, 1, 1, 1))

    fog = _cover(np.hypot(u - column(0.1, 0.9), v - column(0.1, 0.9)) - column(0.08, 0.14), size)
    clip += fog[..., None] * (_colour(rng.random(N), rng.uniform(0.6, 1, N)) - clip)
    motion = np.array([tables[c].motion for c in labels])[:, :, None, None, None] * column(0.6, 1.4)[:, None]
    x = u - column(0.3, 0.7) - motion[:, 0] * when[:, None, None]
    y = v - column(0.3, 0.7) - motion[:, 1] * when[:, None, None]
    turn, scale = column(-0.35, 0.35), column(0.18, 0.32)
    x, y = (np.cos(turn) * x + np.sin(turn) * y) / scale, (np.cos(turn) * y - np.sin(turn) * x) / scale
    hue = np.array([tables[c].hue for c in labels]) + rng.uniform(-0.07, 0.07, N)
    paint = _colour(hue, rng.uniform(0.7, 1, N)) * np.ones_like(clip)
    for c in np.unique(labels):
        mine = labels == c
        stripes = tables[c].stripes
        if stripes:
            paint[mine] *= (0.75 + 0.25 * np.sign(np.sin(np.pi * stripes * y[mine])))[..., None]
        cover = _cover(_outline(tables[c].shape, x[mine], y[mine]) * scale[mine], size)[..., None]
        clip[mine] += cover * (paint[mine] - clip[mine])
    return clip.astype(np.float32)


def _outline(shape: Shape, x: Real, y: Real) -> Real:
    """How far a point lies outside a shape of about unit radius; negative inside."""
    r = np.hypot(x, y)
    box = np.maximum(abs(x), abs(y))
    outside: Real
    if shape == "disc":
        outside = r - 1
    elif shape == "ring":
        outside = np.abs(r - 0.62) - 0.38
    elif shape == "square":
        outside = box - 0.85
    elif shape == "notched":
        outside = np.maximum(box - 0.85, -np.maximum(abs(x) - 0.22, y))
    elif shape == "triangle":
        outside = np.maximum(y - 0.8, 0.87 * abs(x) - 0.5 * y - 0.6)
    elif shape == "cross":
        outside = np.maximum(box - 1, np.minimum(abs(x), abs(y)) - 0.3)
    elif shape == "bar":
        outside = np.maximum(abs(x) - 0.4, abs(y) - 1.2)
    else:
        outside = r - 0.75 - 0.35 * np.cos(5 * np.arctan2(y, x))
    return outside


def _cover(outside: Real, size: int) -> Real:
    """The share of a pixel that is covered, from how far its middle lies outside, in sides of the picture."""
    share: Real = np.clip(0.5 - outside * size, 0, 1)
    return share


def _colour(hue: Real, value: Real) -> Real:
    """Hues as colours (N, 1, 1, 1, 3), 0 to 1, rather saturated."""
    wheel = np.abs((hue[:, None] + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1
    colour: Real = value[:, None] * (0.2 + 0.8 * np.clip(wheel, 0, 1))
    return colour[:, None, None, None, :]


def _ground(n: int, size: int, rng: np.random.Generator) -> Real:
    """Grounds: a ramp between two dull colours in any direction. (n, S, S, 3)."""
    ends = rng.uniform(0.2, 0.7, (2, n, 1, 1, 3))
    angle = rng.uniform(0, 2 * np.pi, (n, 1, 1))
    v, u = np.meshgrid(*[np.linspace(-0.5, 0.5, size)] * 2, indexing="ij")
    ramp = np.clip(0.5 + np.cos(angle) * u + np.sin(angle) * v, 0, 1)[..., None]
    ground: Real = ends[0] + ramp * (ends[1] - ends[0])
    return ground


def _samples(options: Mapping[str, Any]) -> Counts:
    train, test = (options["classes"] * options[key] for key in ("per_class", "test_per_class"))
    return {ClientTask.MULTIMODAL_CLASSIFICATION: (train, test)}


DATASET = Dataset(
    name="duet",
    toy=True,
    summary="things that are heard and seen, one of the two strong and the other weak, as signal-to-noise ratios say",
    load=load,
    tasks=(ClientTask.MULTIMODAL_CLASSIFICATION,),
    modalities=(Modality.AUDIO, Modality.IMAGE),
    source="synthesised from a seed by this package",
    licence="Apache-2.0, as fedloom",
    samples=_samples,
)
