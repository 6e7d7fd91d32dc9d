"""CREMA-D from a miniature of its layout, and the real lists where they are at hand."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from test_sound_and_frames import make_video, sine

from conftest import SLICES, picture
from fedloom.data.containers import FederatedDataset
from fedloom.data.datasets import cremad
from fedloom.data.datasets.cremad import load
from fedloom.data.joint import MultimodalSamples
from fedloom.errors import BadInput

SMALL: dict[str, Any] = {"size": 16, "seconds": 0.5, "frames": 2}
EMOTIONS = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
ACTORS = ("1001", "1002", "1076", "1091")
TRAIN = [f"{actor}_IEO_{e}_XX" for actor in ACTORS[:3] for e in EMOTIONS[:4]]
TEST = [f"{actor}_DFA_{e}_LO" for actor in ("1002", "1091") for e in reversed(EMOTIONS[2:])]
VOTES = {"NEU": "N", "HAP": "H", "SAD": "S", "FEA": "F", "DIS": "A:D", "ANG": "A"}


def make(root: Path) -> Path:
    """12 and 8 clips of 0.3 s. A byte-order mark, a gap in the numbers of frames, a silent clip, ends of Windows."""
    for part, clips in (("train", TRAIN), ("test", TEST)):
        rows = "".join(f"{clip},{clip[9:12]}\r\n" for clip in clips)
        (root / f"{part}.csv").write_text(("\ufeff" if part == "train" else "") + rows, encoding="utf-8", newline="")
    (root / "AudioWAV").mkdir()
    for n, clip in enumerate(TRAIN + TEST):
        label = EMOTIONS.index(clip[9:12])
        loud = 0.0 if clip == "1076_IEO_SAD_XX" else 0.5
        soundfile.write(root / "AudioWAV" / f"{clip}.wav", sine(300 * (label + 1), 0.3, loud=loud), 16000)
        for number in (1, 31, 91):
            picture(root / "Image-01-FPS" / clip / f"{number:05d}.jpg", label % 4, n)
    (root / "processedResults").mkdir()
    with (root / "processedResults" / "summaryTable.csv").open("w", newline="") as file:
        table = csv.writer(file, quoting=csv.QUOTE_ALL)
        table.writerow(["", "FileName", "VoiceVote", "MultiModalVote"])
        table.writerows([n, c, "N", VOTES[c[9:12]]] for n, c in enumerate((TRAIN + TEST)[:-1], start=1))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(tmp_path)


def joint(dataset: FederatedDataset, part: str = "train") -> MultimodalSamples:
    samples = getattr(dataset, part)["joint"]
    assert isinstance(samples, MultimodalSamples)
    return samples


def array(dataset: FederatedDataset, kind: str, part: str = "train") -> np.ndarray[Any, Any]:
    values = joint(dataset, part).parts[kind]  # type: ignore[index]
    assert isinstance(values, np.ndarray)
    return values


def test_acted(root: Path) -> None:
    dataset = load(root, **SMALL)
    assert dataset.name == "cremad"
    assert dataset.class_names == ("neutral", "happy", "sad", "fear", "disgust", "anger")  # 0..5, as in C.3
    assert dataset.modalities == ("audio", "image")
    assert joint(dataset).ids == tuple(TRAIN)
    assert joint(dataset).labels.tolist() == [0, 1, 2, 3] * 3
    assert joint(dataset, "test").labels.tolist() == [5, 4, 3, 2] * 2
    assert array(dataset, "audio").shape == (12, 257, 48)
    assert array(dataset, "audio").dtype == np.float16
    assert array(dataset, "image").shape == (12, 2, 16, 16, 3)
    loudest = array(dataset, "audio").mean(axis=2).argmax(axis=1)
    assert loudest[:4].tolist() == [10, 19, 29, 38]  # 300 Hz times label + 1, in steps of 31.25 Hz
    assert not array(dataset, "audio")[TRAIN.index("1076_IEO_SAD_XX")].any()
    assert np.isfinite(array(dataset, "audio")).all()
    assert dataset.notes["silent_clips"] == 1
    assert dataset.notes["missing_clips"] == dataset.notes["unreadable_clips"] == 0
    assert dataset.notes["speakers_in_both"] == 1
    for part in ("train", "test"):
        (root / f"{part}.csv").rename(root / f"ogm_ge_{part}.csv")
    again = load(root, **SMALL)
    assert (array(again, "audio") == array(dataset, "audio")).all()


def test_perceived(root: Path) -> None:
    dataset = load(root, **SMALL, task="perceived")
    assert dataset.class_names == ("anger", "sad", "happy", "neutral")  # A, S, H, N
    assert joint(dataset).labels.tolist() == [3, 2, 1] * 3
    assert joint(dataset, "test").labels.tolist() == [0, 1, 0]
    assert joint(dataset, "test").ids == ("1002_DFA_ANG_LO", "1002_DFA_SAD_LO", "1091_DFA_ANG_LO")
    assert dataset.notes["votes_tied"] == 2  # A:D
    assert dataset.notes["votes_of_other_emotions"] == 5  # F
    assert dataset.notes["clips_without_vote"] == 1
    (root / "processedResults" / "summaryTable.csv").write_text('"","FileName","MultiModalVot"\n1,a,A\n')
    with pytest.raises(BadInput, match=r"no column 'MultiModalVote'\. Did you mean 'MultiModalVot'"):
        load(root, task="perceived")
    shutil.rmtree(root / "processedResults")
    with pytest.raises(BadInput, match=r"summaryTable\.csv: there is no such file\. Expected layout: AudioWAV"):
        load(root, task="perceived")


def test_speakers(root: Path) -> None:
    for part in ("train", "test"):
        (root / f"{part}.csv").unlink()
    scenes = [load(root, **SMALL, split="speakers", seed=seed) for seed in (0, 0, 1, 2, 3, 4)]
    tested = []
    for dataset in scenes:
        speakers = {part: {clip[:4] for clip in joint(dataset, part).ids} for part in ("train", "test")}
        assert not speakers["train"] & speakers["test"]
        assert speakers["train"] | speakers["test"] == set(ACTORS)
        assert len(joint(dataset)) + len(joint(dataset, "test")) == 20
        assert dataset.notes["speakers_in_both"] == 0
        assert (dataset.notes["speakers_train"], dataset.notes["speakers_test"]) == (3, 1)
        tested.append(speakers["test"])
    assert tested[0] == tested[1]
    assert any(own != tested[0] for own in tested)
    for path in (root / "AudioWAV").glob("10[079][16]*.wav"):
        path.unlink()
    with pytest.raises(BadInput, match="clips of 1 speakers, split='speakers' needs 2 or more"):
        load(root, split="speakers")


def test_choice_of_classes(root: Path) -> None:
    few = load(root, **SMALL, classes=["fear", "sad"], per_class=1)
    assert few.class_names == ("fear", "sad")
    assert sorted(joint(few).labels.tolist()) == [0, 1]
    assert {clip[9:12] for clip in joint(few, "test").ids} == {"FEA", "SAD"}
    with pytest.raises(BadInput, match="cremad train: no clips of the chosen classes"):
        load(root, **SMALL, classes=["anger"])
    with pytest.raises(BadInput, match=r"unknown class 'angr'\. Did you mean 'anger'"):
        load(root, classes=["angr"])
    with pytest.raises(BadInput, match=r"unknown task 'act'\. Did you mean 'acted'"):
        load(root, task="act")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=r"unknown split 'speaker'\. Did you mean 'speakers'"):
        load(root, split="speaker")  # type: ignore[arg-type]


def test_frames_from_videos_and_sounds_as_mp3(root: Path) -> None:
    shutil.rmtree(root / "Image-01-FPS")
    (root / "VideoFlash").mkdir()
    made = make_video(root / "made.flv", (30, 90, 150), (440, 440, 440), ("flv", "mp3"))
    (root / "AudioMP3").mkdir()
    for clip in TRAIN + TEST:
        shutil.copy(made, root / "VideoFlash" / f"{clip}.flv")
        soundfile.write(root / "AudioMP3" / f"{clip}.mp3", sine(600, 0.3), 16000)
    shutil.rmtree(root / "AudioWAV")
    dataset = load(root, **SMALL, fps=1.0)
    assert array(dataset, "image")[3].mean(axis=(1, 2, 3)) == pytest.approx([30, 150], abs=6)
    assert array(dataset, "audio")[3].mean(axis=1).argmax() in (19, 20)
    (root / "VideoFlash" / f"{TRAIN[3]}.flv").write_bytes(made.read_bytes()[:40])
    with pytest.raises(BadInput, match=rf"{TRAIN[3]}\.flv: [^\n]+\(on_bad='skip' leaves such out\)$"):
        load(root, **SMALL)


def test_clips_that_are_missing_or_broken(root: Path) -> None:
    (root / "AudioWAV" / f"{TRAIN[0]}.wav").unlink()
    with pytest.raises(BadInput, match=rf"{TRAIN[0]}\.wav: there is no such file\. \(on_bad='skip'"):
        load(root, **SMALL)
    shutil.rmtree(root / "Image-01-FPS" / TEST[1])
    (root / "AudioWAV" / f"{TRAIN[5]}.wav").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    dataset = load(root, **SMALL, on_bad="skip")
    assert joint(dataset).ids == tuple(clip for clip in TRAIN if clip not in (TRAIN[0], TRAIN[5]))
    assert len(joint(dataset, "test")) == 7
    assert (dataset.notes["missing_clips"], dataset.notes["unreadable_clips"]) == (2, 1)
    assert dataset.notes["skipped_examples"][1].endswith("(`git lfs pull` fetches it)")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("1001_IEO_HAP_XX", r"test\.csv row 9: 1 field, expected 2: clip, EMO"),
        ("1001_IEO_HAP_HI,SAD", r"row 9: emotion 'SAD', but the clip is 1001_IEO_HAP_HI"),
        ("1001_IEO_HAP_XX,HAP", r"row 9: 1001_IEO_HAP_XX is listed already"),
        ("1001_IEO_HPP_XX,HPP", r"row 9: unknown emotion 'HPP'\. Did you mean 'HAP'"),
        ("../1001_IEO_HAP_XX,HAP", r"row 9: clip '\.\./1001_IEO_HAP_XX', expected <actor>_<sentence>"),
    ],
)
def test_lists_that_are_wrong(root: Path, row: str, says: str) -> None:
    with (root / "test.csv").open("a", newline="") as file:
        file.write(row + "\r\n")
    with pytest.raises(BadInput, match=says):
        load(root, **SMALL)


def test_what_is_not_there(root: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere: there is no such folder\. Expected layout: AudioWAV"):
        load(root / "nowhere")
    (root / "test.csv").unlink()
    with pytest.raises(BadInput, match=r"test\.csv: there is no such file\. Expected layout"):
        load(root)
    shutil.rmtree(root / "Image-01-FPS")
    with pytest.raises(BadInput, match=r"VideoFlash: there is no such folder\. Expected layout"):
        load(root)
    shutil.rmtree(root / "AudioWAV")
    with pytest.raises(BadInput, match=r"AudioWAV: there is no such folder\. Expected layout"):
        load(root)


def test_the_real_lists(tmp_path: Path) -> None:
    lists = SLICES / "annotations" / "cremad"
    if not lists.is_dir():
        pytest.skip(f"real lists not found: {lists} (set FEDLOOM_TEST_DATA)")
    parts = cremad._ogm(lists)
    assert {part: len(clips) for part, clips in parts.items()} == {"train": 6698, "test": 744}
    counts = {part: Counter(clip[9:12] for clip in clips) for part, clips in parts.items()}
    assert counts["train"] == {"ANG": 1166, "DIS": 1142, "FEA": 1138, "HAP": 1148, "NEU": 973, "SAD": 1131}
    assert counts["test"] == {"ANG": 105, "DIS": 129, "FEA": 133, "HAP": 123, "NEU": 114, "SAD": 140}
    assert len({clip[:4] for clips in parts.values() for clip in clips}) == 91
    (tmp_path / "processedResults").mkdir()
    shutil.copy(lists / "summaryTable.csv", tmp_path / "processedResults")
    notes = {"votes_tied": 0, "votes_of_other_emotions": 0}
    votes = cremad._votes(tmp_path, notes)
    assert Counter(votes.values()) == {0: 1019, 1: 589, 2: 1219, 3: 1972, -1: 2643}
    assert notes == {"votes_tied": 420, "votes_of_other_emotions": 1139 + 1084}
    assert set(votes) == {clip for clips in parts.values() for clip in clips}
