"""audio_visual_digits: a miniature in the layout of the real files, and the real slice where there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from conftest import SLICES
from fedloom.data.containers import FederatedDataset
from fedloom.data.datasets.audio_visual_digits import load
from fedloom.data.joint import MultimodalSamples
from fedloom.errors import BadInput


def arrays(each: int, seed: int) -> dict[str, Any]:
    """A digit is a tone of its own and a bar in a place of its own; recordings of 0.05 to 1.5 s."""
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.repeat(np.arange(10), each))
    lengths = rng.integers(400, 12000, len(label))
    waves = [
        (rng.uniform(500, 20000) * np.sin(2 * np.pi * (300 + 330 * c) * np.arange(n) / 8000)).astype(np.int16)
        for c, n in zip(label, lengths)
    ]
    image = rng.integers(0, 30, (len(label), 28, 28), dtype=np.uint8)
    for i, c in enumerate(label):
        image[i, 2 * c + 3 : 2 * c + 6] = 220
    return {
        "image": image,
        "audio": np.concatenate(waves),
        "audio_offsets": np.concatenate([[0], np.cumsum(lengths)]),
        "label": label,
        "speaker": np.array(["ann", "bob"])[np.arange(len(label)) % 2],
        "take": np.arange(len(label)),
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    np.savez_compressed(tmp_path / "train.npz", **arrays(4, 0))
    np.savez_compressed(tmp_path / "test.npz", **arrays(2, 1))
    return tmp_path


def joint(dataset: FederatedDataset, part: str) -> MultimodalSamples:
    held = (dataset.train if part == "train" else dataset.test)["joint"]
    assert isinstance(held, MultimodalSamples)
    return held


def part_of(dataset: FederatedDataset, part: str, kind: Any) -> Any:
    array = joint(dataset, part).parts[kind]
    assert isinstance(array, np.ndarray)
    return array.astype(np.float32)


def told(dataset: FederatedDataset, kind: Any) -> float:
    """How often a linear classifier on that kind alone is right about the test part."""
    x, y = (part_of(dataset, part, kind).reshape(len(joint(dataset, part)), -1) for part in ("train", "test"))
    model = RidgeClassifier(alpha=1000.0)
    model.fit(x / x.std(), joint(dataset, "train").labels)
    return float(model.score(y / x.std(), joint(dataset, "test").labels))


def test_the_miniature(root: Path) -> None:
    dataset = load(root, frames=2)
    assert dataset.class_names[3] == "three"
    assert dataset.modalities == ("audio", "image")
    train, test = joint(dataset, "train"), joint(dataset, "test")
    assert (len(train), len(test)) == (40, 20)
    stored = arrays(4, 0)
    assert np.array_equal(train.labels, stored["label"])
    assert train.ids[5] == f"{stored['label'][5]}_bob_5"
    audio, image = train.parts["audio"], train.parts["image"]
    assert isinstance(audio, np.ndarray)
    assert isinstance(image, np.ndarray)
    assert (*audio.shape, audio.dtype) == (40, 32, 40, np.float16)
    assert (*image.shape, image.dtype) == (40, 2, 28, 28, 3, np.uint8)
    for channel in range(3):
        assert np.array_equal(image[:, 1, :, :, channel], stored["image"])
    assert audio.astype(np.float32).mean(axis=(1, 2)) == pytest.approx(0, abs=2e-3)
    assert audio.astype(np.float32).std(axis=(1, 2)) == pytest.approx(1, abs=2e-3)
    loudest = audio.astype(np.float32).mean(axis=2).argmax(axis=1)  # bands of 125 Hz
    assert np.abs(loudest - ((300 + 330 * train.labels) / 125 - 0.5)).max() <= 1
    # A short recording is repeated: its tone fills the second.
    quiet = audio[np.arange(40), loudest].astype(np.float32).min(axis=1)
    assert quiet.min() > 1


def test_loudness_does_not_matter(root: Path) -> None:
    """Recordings are brought to unit power, so the floor under the logarithm and the noise mean the same for all."""
    plain = part_of(load(root, audio_noise=0.3), "test", "audio")
    held = arrays(2, 1)
    np.savez(root / "test.npz", **{**held, "audio": (held["audio"] // 4).astype(np.int16)})
    assert part_of(load(root, audio_noise=0.3), "test", "audio") == pytest.approx(plain, abs=0.1)


def test_noise_is_of_its_seed_and_its_sample(root: Path) -> None:
    noisy: dict[str, Any] = {"audio_noise": 1.0, "image_noise": 0.5}
    plain, a, b, c = load(root), load(root, **noisy), load(root, **noisy), load(root, seed=1, **noisy)
    half = load(root, per_class=2, **noisy)
    place = [joint(a, "train").ids.index(name) for name in joint(half, "train").ids]
    for kind in ("audio", "image"):
        assert np.array_equal(part_of(a, "train", kind), part_of(b, "train", kind))
        for other in (plain, c):
            assert not np.array_equal(part_of(a, "test", kind), part_of(other, "test", kind))
        assert np.array_equal(part_of(a, "train", kind)[place], part_of(half, "train", kind))
    shown = part_of(load(root, frames=2, image_noise=0.1), "train", "image")
    assert not np.array_equal(shown[:, 0], shown[:, 1])
    assert np.array_equal(shown[..., 0], shown[..., 2])  # grey stays grey
    inner = part_of(plain, "train", "image")[:, 0] == 220
    assert (shown[:, 0] - 220)[inner].clip(-35, 35).std() == pytest.approx(22.5, abs=2)  # 25.5, cut at 35


def test_noise_makes_weak(root: Path) -> None:
    plain = load(root)
    assert told(plain, "audio") > 0.9
    assert told(plain, "image") > 0.9
    deaf, blind = load(root, audio_noise=30.0), load(root, image_noise=20.0)
    assert told(deaf, "audio") < 0.5
    assert told(blind, "image") < 0.5
    assert np.array_equal(part_of(deaf, "test", "image"), part_of(plain, "test", "image"))
    assert np.array_equal(part_of(blind, "test", "audio"), part_of(plain, "test", "audio"))


def test_per_class(root: Path) -> None:
    few, again, other, all_of = (load(root, per_class=n, seed=s) for n, s in ((2, 0), (2, 0), (2, 1), (9, 0)))
    assert np.bincount(joint(few, "train").labels).tolist() == [2] * 10
    assert joint(few, "train").ids == joint(again, "train").ids != joint(other, "train").ids
    assert len(joint(all_of, "train")) == 40
    assert len(joint(few, "test")) == 20


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"audio_noise": -1.0}, "audio_visual_digits: audio_noise=-1.0, allowed: a finite number from 0"),
        (
            {"image_noise": float("nan")},
            "audio_visual_digits: image_noise=nan, allowed: a finite number from 0",
        ),
        ({"frames": 0}, "audio_visual_digits: frames=0, allowed: 1 or more"),
        ({"per_class": 0}, "audio_visual_digits: per_class=0, allowed: 1 or more"),
        ({"bands": 200}, "bands=200, allowed: 2 to 128"),
        ({"steps": 1}, "steps=1, allowed: 2 to 122"),
    ],
)
def test_settings_out_of_range(root: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput) as caught:
        load(root, **options)
    assert str(caught.value) == says


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"image": np.zeros((20, 28, 27), dtype=np.uint8)},
            "image is uint8 (20, 28, 27), expected uint8 (20, 28, 28)",
        ),
        ({"image": np.zeros((20, 28, 28))}, "image is float64 (20, 28, 28), expected uint8"),
        (
            {"audio_offsets": np.arange(20)},
            "audio_offsets is int64 (20,), expected int64 (21,) for 20 labels",
        ),
        ({"audio_offsets": np.arange(21)}, "audio_offsets run from 0 to 20, expected 0 to"),
        ({"label": np.arange(20)}, "labels 0 to 19, allowed: 0 to 9"),
        ({"label": np.zeros((20, 1), dtype=np.int64)}, "label is int64 (20, 1)"),
        ({"take": None}, "no array 'take', there are: audio, audio_offsets, image, label, speaker"),
        ({"speaker": np.array([{}] * 20)}, "not a readable npz file (Object arrays cannot be loaded"),
    ],
)
def test_files_that_hold_something_else(root: Path, change: dict[str, Any], says: str) -> None:
    held = {name: array for name, array in {**arrays(2, 1), **change}.items() if array is not None}
    np.savez(root / "test.npz", **held)
    with pytest.raises(BadInput) as caught:
        load(root)
    message = str(caught.value)
    assert message.startswith(f"{root / 'test.npz'}: {says}")
    assert "\n" not in message


def test_an_empty_recording_is_named(root: Path) -> None:
    held = arrays(2, 1)
    held["audio_offsets"][4] = held["audio_offsets"][3]
    np.savez(root / "test.npz", **held)
    with pytest.raises(BadInput, match=r"test\.npz: recording 3 has 0 samples, at least 1 needed"):
        load(root)


@pytest.mark.parametrize("how", ["gone", "cut", "flipped", "empty", "text", "lone array"])
def test_broken_files(root: Path, how: str) -> None:
    path = root / "train.npz"
    whole = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "lone array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes(255 - b for b in whole[middle : middle + 64]) + whole[middle + 64 :]
        path.write_bytes({"cut": whole[:-500], "flipped": flipped, "empty": b"", "text": b"label,speaker\n"}[how])
    with pytest.raises(BadInput) as caught:
        load(root)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert "speaker" in message  # what is expected


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"there is no such folder\. Expected layout: train.npz and test.npz"):
        load(tmp_path / "nowhere")


def test_the_real_slice() -> None:
    root = SLICES / "audio_visual_digits"
    if not root.is_dir():
        pytest.skip(f"real data slice not found: {root} (set FEDLOOM_TEST_DATA)")
    dataset = load(root, per_class=120)
    assert np.bincount(joint(dataset, "test").labels).tolist() == [30] * 10
    assert len({name.split("_")[1] for name in joint(dataset, "test").ids}) == 6
    assert not set(joint(dataset, "train").ids) & set(joint(dataset, "test").ids)
    hard = load(root, per_class=120, audio_noise=2.0, image_noise=1.0)
    for kind in ("audio", "image"):
        assert told(dataset, kind) > 0.8, kind
        assert 0.2 < told(hard, kind) < 0.7, kind
