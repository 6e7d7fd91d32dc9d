"""duet: drawn by its seed alone, noise that makes a modality weak, siblings in either modality, rare classes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from fedloom.data.containers import FederatedDataset
from fedloom.data.datasets.duet import THINGS, load
from fedloom.data.io.sound import band_spectrograms
from fedloom.data.joint import MultimodalSamples
from fedloom.errors import BadInput

FEW: dict[str, Any] = {"per_class": 6, "test_per_class": 5, "seed": 7}
LOOK_ALIKE, SOUND_ALIKE = [(0, 1), (4, 5)], [(2, 3), (6, 7)]


def joint(dataset: FederatedDataset, part: str) -> MultimodalSamples:
    held = (dataset.train if part == "train" else dataset.test)["joint"]
    assert isinstance(held, MultimodalSamples)
    return held


def part_of(held: MultimodalSamples, kind: Any) -> Any:
    part = held.parts[kind]
    assert isinstance(part, np.ndarray)
    return part.astype(np.float32)


def told(dataset: FederatedDataset, kind: Any, only: tuple[int, ...] = ()) -> float:
    """How often a linear classifier on that kind alone is right about the test part (of those classes)."""
    x: list[Any] = []
    for part in ("train", "test"):
        held = joint(dataset, part)
        mine = np.isin(held.labels, only) if only else np.ones(len(held), dtype=bool)
        values = part_of(held, kind)[mine]
        x += [values.reshape(len(values), -1) / values.std(), held.labels[mine]]
    model = RidgeClassifier(alpha=1000.0).fit(x[0], x[1])
    return float(model.score(x[2], x[3]))


def test_shapes_and_names() -> None:
    dataset = load(classes=5, frames=3, size=12, bands=10, steps=20, **FEW)
    assert dataset.class_names == tuple(THINGS)[:5]
    assert all(name.isalpha() for name in THINGS)
    assert list(dataset.train) == list(dataset.test) == ["joint"]
    assert dataset.modalities == ("audio", "image")
    held = joint(dataset, "train")
    audio, image = held.parts["audio"], held.parts["image"]
    assert isinstance(audio, np.ndarray)
    assert isinstance(image, np.ndarray)
    assert (*audio.shape, audio.dtype) == (30, 10, 20, np.float16)
    assert (*image.shape, image.dtype) == (30, 3, 12, 12, 3, np.uint8)
    assert part_of(held, "audio").mean(axis=(1, 2)) == pytest.approx(0, abs=2e-3)
    assert part_of(held, "audio").std(axis=(1, 2)) == pytest.approx(1, abs=2e-3)
    assert np.bincount(held.labels).tolist() == [6] * 5
    assert np.bincount(joint(dataset, "test").labels).tolist() == [5] * 5
    assert len(set(held.ids) | set(joint(dataset, "test").ids)) == 30 + 25
    assert held.labels.tolist() != sorted(held.labels)


def test_the_seed_decides_everything() -> None:
    a, b, c = (load(**{**FEW, "seed": seed}) for seed in (3, 3, 4))
    for part, kind in itertools.product(("train", "test"), ("audio", "image")):
        assert np.array_equal(part_of(joint(a, part), kind), part_of(joint(b, part), kind))
        assert not np.array_equal(part_of(joint(a, part), kind), part_of(joint(c, part), kind))
    assert np.array_equal(joint(a, "train").labels, joint(b, "train").labels)


def test_parts_are_drawn_apart() -> None:
    """Of equal counts train and test share no sample, and neither changes with the other's number."""
    one = load(per_class=4, test_per_class=4)
    more = load(per_class=4, test_per_class=9)
    for kind in ("audio", "image"):
        seen = [{x.tobytes() for x in part_of(joint(one, part), kind)} for part in ("train", "test")]
        assert len(seen[0]) == len(seen[1]) == 32
        assert not seen[0] & seen[1]
        assert np.array_equal(part_of(joint(one, "train"), kind), part_of(joint(more, "train"), kind))


def test_one_noise_touches_one_modality() -> None:
    """Labels and the other modality stay to the bit."""
    plain, dim, deaf = load(**FEW), load(image_snr=-20.0, **FEW), load(audio_snr=-20.0, **FEW)
    assert np.array_equal(part_of(joint(plain, "test"), "audio"), part_of(joint(dim, "test"), "audio"))
    assert np.array_equal(part_of(joint(plain, "test"), "image"), part_of(joint(deaf, "test"), "image"))
    assert not np.array_equal(part_of(joint(plain, "test"), "image"), part_of(joint(dim, "test"), "image"))
    assert not np.array_equal(part_of(joint(plain, "test"), "audio"), part_of(joint(deaf, "test"), "audio"))


def test_snr_of_pictures_is_what_it_says() -> None:
    """Measured: a clean frame's share of the variance of a noisy one is its correlation with it, squared."""
    clean = part_of(joint(load(image_snr=60.0, **FEW), "train"), "image").reshape(48, -1)
    for snr in (0.0, -10.0):
        noisy = part_of(joint(load(image_snr=snr, **FEW), "train"), "image").reshape(48, -1)
        shares = [np.corrcoef(a, b)[0, 1] ** 2 for a, b in zip(clean, noisy)]
        ratio = 10 ** (snr / 10)
        assert np.mean(shares) == pytest.approx(ratio / (1 + ratio), rel=0.1)
        assert ((noisy == 0) | (noisy == 255)).mean() < 0.05  # exposed, not clipped


def test_noise_makes_weak() -> None:
    """A linear classifier is the worse the noisier its modality, and by default hears better than it sees."""
    many: dict[str, Any] = {"per_class": 60, "test_per_class": 40, "seed": 7}
    default, loud = load(**many), load(audio_snr=20.0, image_snr=20.0, **many)
    faint = load(audio_snr=-25.0, image_snr=-25.0, **many)
    for kind in ("audio", "image"):
        good, middling, bad = (told(dataset, kind) for dataset in (loud, default, faint))
        assert good > middling + 0.05, kind
        assert middling > bad + 0.05, kind
        assert bad < 0.25, kind
    assert told(default, "audio") > told(default, "image") + 0.1
    turned = load(audio_snr=-14.0, image_snr=0.0, **many)
    assert told(turned, "image") > told(turned, "audio") + 0.1


def test_siblings_are_alike_in_one_modality() -> None:
    """Two siblings are told apart less well by what they share than by what they do not."""
    dataset = load(per_class=80, test_per_class=60, audio_snr=0.0, image_snr=-3.0, seed=7)
    looks = [[told(dataset, kind, pair) for pair in LOOK_ALIKE] for kind in ("audio", "image")]
    sounds = [[told(dataset, kind, pair) for pair in SOUND_ALIKE] for kind in ("audio", "image")]
    assert min(looks[0]) > max(looks[1]) + 0.1
    assert np.mean(sounds[1]) > np.mean(sounds[0])


def test_skew() -> None:
    counts = {s: np.bincount(joint(load(per_class=40, test_per_class=3, skew=s), "train").labels) for s in (0, 0.5, 1)}
    assert set(counts[0]) == {40}
    assert (counts[0.5].max(), counts[0.5].min()) == (40, 13)
    assert (counts[1].max(), counts[1].min()) == (40, 4)
    ratios = np.sort(counts[1])[1:] / np.sort(counts[1])[:-1]
    assert ratios == pytest.approx(10 ** (1 / 7), rel=0.15)
    assert np.array_equal(np.argsort(counts[1]), np.argsort(counts[0.5]))
    other = np.bincount(joint(load(per_class=40, test_per_class=3, skew=1, seed=1), "train").labels)
    assert sorted(other) == sorted(counts[1])
    assert other.tolist() != counts[1].tolist()
    assert set(np.bincount(joint(load(per_class=40, test_per_class=3, skew=1), "test").labels)) == {3}
    assert min(np.bincount(joint(load(per_class=1, test_per_class=1, skew=1), "train").labels)) == 1


@pytest.mark.parametrize("frames", [1, 4])
def test_looks_move(frames: int) -> None:
    """Frames of one clip differ by more than their noise; one frame is a picture."""
    images = part_of(joint(load(frames=frames, image_snr=60.0, **FEW), "train"), "image")
    assert images.shape[1] == frames
    if frames > 1:
        assert np.abs(images[:, -1] - images[:, 0]).mean(axis=(1, 2, 3)).min() > 2


def test_a_rising_tone_rises() -> None:
    """The spectrogram's bands: low first, equal shares of 4 kHz."""
    t = np.arange(4096) / 8000
    tones = np.stack([np.sin(2 * np.pi * f * t) for f in (300.0, 1900.0, 3700.0)]).astype(np.float32)
    bands = band_spectrograms(tones, 20, 10).astype(np.float32).mean(axis=2).argmax(axis=1)
    assert bands.tolist() == [1, 9, 18]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"classes": 1}, "duet: classes=1, allowed: 2 to 8"),
        ({"classes": 9}, "duet: classes=9, allowed: 2 to 8"),
        ({"per_class": 0}, "duet: per_class=0, allowed: 1 or more"),
        ({"frames": 0}, "duet: frames=0, allowed: 1 or more"),
        ({"skew": 1.5}, "duet: skew=1.5, allowed: 0 to 1"),
        ({"audio_snr": float("nan")}, "duet: audio_snr=nan, allowed: -60 to 60 dB"),
        ({"image_snr": 90.0}, "duet: image_snr=90.0, allowed: -60 to 60 dB"),
        ({"size": 4}, "size=4, allowed: a whole number of pixels from 8 to 2048"),
        ({"bands": 129}, "bands=129, allowed: 2 to 128"),
        ({"steps": 62}, "steps=62, allowed: 2 to 61"),
    ],
)
def test_complaints(options: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput) as caught:
        load(**{**FEW, **options})
    assert str(caught.value) == says
