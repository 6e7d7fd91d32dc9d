"""Sounds in files: npz, wav."""

from __future__ import annotations

import io
import wave
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from fedloom.data.io.sound import read_sound
from fedloom.data.registry import load_dataset
from fuzz.harness import Refused, Surface, Unsure
from fuzz.inputs import Input


def draw_npz(rng: Random) -> Input:
    """Spoken and written digits: three samples a part."""
    files: dict[str, Any] = {}
    for part in ("train", "test"):
        draws = np.random.default_rng(rng.randrange(2**32))
        arrays: dict[str, Any] = {
            "image": draws.integers(0, 256, (3, 28, 28), dtype=np.uint8),
            "audio": draws.integers(-9999, 9999, 3 * 600).astype(np.int16),
            "audio_offsets": np.array([0, 600, 1200, 1800]),
            "label": np.array([0, 5, 9]), "speaker": np.array(["a", "b", "c"]), "take": np.array([0, 1, 2]),
        }  # fmt: skip
        files[f"{part}.npz"] = _npz(rng, arrays)
    return Input(files)


def _npz(rng: Random, arrays: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    (np.savez if rng.random() < 0.5 else np.savez_compressed)(out, **arrays)
    return out.getvalue()


def damage_npz(rng: Random, given: Input) -> Input:
    """An array of another type or shape, or missing; a header that claims too much."""
    name = rng.choice(("train.npz", "test.npz"))
    try:
        with np.load(io.BytesIO(given.files[name])) as held:  # type: ignore[arg-type]
            arrays: dict[str, Any] = {k: held[k] for k in held.files}
    except Exception:  # noqa: BLE001
        return given
    key = rng.choice(list(arrays))
    match rng.randrange(7):
        case 0:
            del arrays[key]
        case 1:
            arrays[key] = arrays[key].astype(rng.choice(("float32", "int8", "U3", "complex64")))
        case 2:
            arrays[key] = arrays[key][:-1]
        case 3:
            arrays[key] = arrays[key][None]
        case 4:
            arrays["audio_offsets"] = np.array(
                rng.choice(([0, 1200, 600, 1800], [0, 0, 600, 1800], [-1, 5, 9, 1800], [0, 1, 2, 3]))
            )
        case 5:
            arrays[key] = np.array([{"a": 1}], dtype=object)
        case _:
            arrays["label"] = np.array(rng.choice(([0, 5, 10], [-1, 5, 9], [2**62, 0, 0])))
    return given.replace(name, _npz(rng, arrays))


def read_npz(folder: Path, given: Input) -> Any:
    scene = load_dataset("audio_visual_digits", folder)
    found = {}
    for part in ("train", "test"):
        held: Any = getattr(scene, part)["joint"]
        assert np.isfinite(np.asarray(held.parts["audio"], np.float32)).all()
        found[part] = (held.parts["image"][:, 0, :, :, 0], held.labels, held.ids)
    return found


def true_npz(folder: Path, given: Input) -> Any:
    found = {}
    for part in ("train", "test"):
        with np.load(io.BytesIO(given.files[f"{part}.npz"]), allow_pickle=False) as held:  # type: ignore[arg-type]
            ends, audio = held["audio_offsets"], held["audio"]
            if (np.diff(ends) <= 0).any() or ends[0] != 0 or ends[-1] != len(audio) or not (held["label"] < 10).all():
                raise Refused("offsets or labels")
            ids = tuple(f"{a}_{b}_{c}" for a, b, c in zip(held["label"], held["speaker"], held["take"]))
            found[part] = (held["image"], held["label"].astype(np.int64), ids)
    return found


def draw_wav(rng: Random) -> Input:
    """A short sound of 8 kHz, mono, 16 bits; or in another format of soundfile's."""
    samples = np.frombuffer(rng.randbytes(1600), "<i2")
    out = io.BytesIO()
    if rng.random() < 0.3:
        import soundfile

        kind = rng.choice(("FLAC", "OGG", "AIFF"))
        soundfile.write(out, samples / 32768, 8000, format=kind)
        return Input({f"a.{kind.lower()}": out.getvalue()})
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return Input({"a.wav": out.getvalue()})


def read_wav(folder: Path, given: Input) -> Any:
    found = read_sound(folder / next(iter(given.files), "a.wav"), 8000)
    assert np.isfinite(found).all()
    return found


def true_wav(folder: Path, given: Input) -> Any:
    ((name, data), *_) = given.files.items()
    if not name.endswith(".wav"):
        raise Unsure
    try:
        with wave.open(io.BytesIO(data), "rb") as file:  # type: ignore[arg-type]
            if file.getparams()[:3] != (1, 2, 8000):
                raise Unsure
            whole, frames = file.getnframes(), file.readframes(file.getnframes())
    except (wave.Error, EOFError):
        raise Unsure from None  # other kinds of wav are soundfile's affair
    if len(frames) != 2 * whole:
        raise Unsure
    return (np.frombuffer(frames, "<i2") / 32768).astype(np.float32)


SURFACES = (
    Surface("audio_visual_digits", draw_npz, read_npz, true_npz, (damage_npz,)),
    Surface("sounds", draw_wav, read_wav, true_wav),
)
