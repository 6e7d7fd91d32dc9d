"""AVE from a miniature of its layout, and the real annotations where they are at hand."""

from __future__ import annotations

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
from fedloom.data.datasets.ave import load, read_events
from fedloom.data.joint import MultimodalSamples
from fedloom.errors import BadInput

SMALL: dict[str, Any] = {"size": 16, "seconds": 0.5, "frames": 2}
RACE, BELL, BARK = "Race car, auto racing", "Church bell", "Bark"
LISTS = {
    "train": [
        (RACE, "aaa-1", 0, 3),
        (BELL, "bbb_2", 1, 3),
        (BARK, "-cc3", 0, 2),
        (RACE, "-cc3", 0, 2),  # listed under two categories
        (RACE, "aaa-1", 0, 3),  # listed twice
        (BELL, "ddd4", 0, 0),  # of no length, as one of the real set
        (BARK, "fff6", 0, 2),  # tested already
    ],
    "val": [(BARK, "eee5", 0, 3)],
    "test": [(BARK, "fff6", 0, 2), (BELL, "ggg7", 2, 3), (RACE, "bbb_2", 1, 3)],
}
VIDEOS = sorted({video for rows in LISTS.values() for _, video, _, _ in rows})


def make(root: Path, cut: bool) -> Path:
    """Three categories. cut: frames and sounds of the events beside, numbers of frames with gaps; else videos."""
    for part, rows in LISTS.items():
        lines = "\n".join(f"{c}&{v}&good&{start}&{end}" for c, v, start, end in rows)
        (root / f"{part}Set.txt").write_text(lines + "\n")
    events = {row: None for rows in LISTS.values() for row in rows}
    lines = "\r\n".join(f"{c}&{v}&good&{start}&{end}" for c, v, start, end in events)
    header = "\ufeffCategory&VideoID&Quality&StartTime&EndTime\r\n"
    (root / "Annotations.txt").write_text(header + lines, encoding="utf-8", newline="")
    if not cut:
        (root / "AVE").mkdir()
        video = make_video(root / "AVE" / "made.mp4")
        for name in VIDEOS:
            shutil.copy(video, root / "AVE" / f"{name}.mp4")
        return root
    (root / "Audio-SE").mkdir()
    for n, name in enumerate(VIDEOS):
        soundfile.write(root / "Audio-SE" / f"{name}.wav", sine(300 * (n + 1), 0.3), 16000)
        for number in (1, 2, 5):
            picture(root / "Image-01-FPS-SE" / name / f"{number:05d}.jpg", n % 4, number)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(tmp_path, cut=True)


def joint(dataset: FederatedDataset, part: str = "train") -> MultimodalSamples:
    samples = getattr(dataset, part)["joint"]
    assert isinstance(samples, MultimodalSamples)
    return samples


def array(dataset: FederatedDataset, kind: str, part: str = "train") -> np.ndarray[Any, Any]:
    values = joint(dataset, part).parts[kind]  # type: ignore[index]
    assert isinstance(values, np.ndarray)
    return values


def test_frames_and_sounds_that_are_cut_already(root: Path) -> None:
    dataset = load(root, **SMALL)
    assert dataset.class_names == (BARK, BELL, RACE)  # by name; a comma does not part them
    assert joint(dataset).labels.tolist() == [2, 1, 0, 2, 1]
    assert joint(dataset).ids[:3] == (f"{RACE}&aaa-1&0", f"{BELL}&bbb_2&1", f"{BARK}&-cc3&0")
    assert joint(dataset, "test").labels.tolist() == [0, 1, 2]
    assert array(dataset, "audio").shape == (5, 257, 48)
    assert array(dataset, "image", "test").shape == (3, 2, 16, 16, 3)
    assert (array(dataset, "audio")[2] == array(dataset, "audio")[3]).all()  # one video, two categories
    for count, want in (
        ("repeated_events", 2),
        ("events_of_no_length", 1),
        ("validation_events", 1),
        ("videos_in_both_parts", 1),
        ("missing_clips", 0),
    ):
        assert dataset.notes[count] == want, count


def test_the_validation_part(root: Path) -> None:
    dataset = load(root, **SMALL, use_val=True)
    assert joint(dataset).labels.tolist() == [2, 1, 0, 2, 1, 0]
    assert joint(dataset).ids[-1] == f"{BARK}&eee5&0"
    assert len(joint(dataset, "test")) == 3


def test_videos_are_cut_to_the_event(tmp_path: Path) -> None:
    dataset = load(make(tmp_path, cut=False), **SMALL)
    greys = array(dataset, "image").mean(axis=(2, 3, 4))  # a second each of 40, 120, 200
    assert greys.tolist() == [
        pytest.approx(want, abs=6) for want in ([40, 200], [120, 200], [40, 120], [40, 120], [40, 200])
    ]
    last = array(dataset, "image", "test").mean(axis=(2, 3, 4))[1]  # from 2 s to 3 s: one frame, twice
    assert last == pytest.approx([200, 200], abs=6)
    pitches = array(dataset, "audio").mean(axis=2).argmax(axis=1)
    assert pitches.tolist() == [14, 28, 14, 14, 14]  # 440 Hz or, from 1 s on, 880 Hz, in steps of 31.25 Hz
    assert array(dataset, "audio", "test").mean(axis=2).argmax(axis=1)[1] == 56
    (tmp_path / "Image-01-FPS-SE").mkdir()
    picture(tmp_path / "Image-01-FPS-SE" / "bbb_2" / "00007.jpg", 2, 0)
    mixed = load(tmp_path, **SMALL)  # what is cut already comes first
    assert array(mixed, "image")[1].mean(axis=(0, 1, 2))[2] > 150
    assert (array(mixed, "image")[0] == array(dataset, "image")[0]).all()


def test_clips_that_are_missing_or_broken(root: Path) -> None:
    shutil.rmtree(root / "Image-01-FPS-SE" / "aaa-1")
    with pytest.raises(BadInput, match=r"aaa-1: there is no such file\. \(on_bad='skip' leaves such out\)$"):
        load(root, **SMALL)
    (root / "Audio-SE" / "ggg7.wav").write_bytes(b"RIFF")
    dataset = load(root, **SMALL, on_bad="skip")
    assert (len(joint(dataset)), len(joint(dataset, "test"))) == (4, 2)
    assert (dataset.notes["missing_clips"], dataset.notes["unreadable_clips"]) == (1, 1)


def test_choice_of_classes(root: Path) -> None:
    few = load(root, **SMALL, classes=["race car, auto racing", BELL], per_class=1)
    assert few.class_names == (RACE, BELL)
    assert sorted(joint(few).labels.tolist()) == [0, 1]
    assert joint(few, "test").labels.tolist() == [1, 0]
    with pytest.raises(BadInput, match=r"unknown class 'Race car'"):
        load(root, classes=["Race car"])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("Bark&hhh8&good&0", r"trainSet\.txt line 8: 'Bark&hhh8&good&0', expected Category&VideoID"),
        ("Bark&../8&good&0&3", r"line 8: VideoID '\.\./8', expected letters"),
        ("Bark&hhh8&good&three&3", r"line 8: from 'three' to '3', expected seconds"),
        ("Bark&hhh8&good&5&3", r"line 8: from '5' to '3', expected seconds, Start first"),
        ("Barks&hhh8&good&0&3", r"trainSet\.txt: unknown category 'Barks'\. Did you mean 'Bark'"),
    ],
)
def test_lists_that_are_wrong(root: Path, line: str, says: str) -> None:
    with (root / "trainSet.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(BadInput, match=says):
        load(root, **SMALL)


def test_what_is_not_there(root: Path) -> None:
    (root / "valSet.txt").write_text("\n")
    with pytest.raises(BadInput, match=r"valSet\.txt: no events"):
        load(root)
    (root / "valSet.txt").unlink()
    with pytest.raises(BadInput, match=r"valSet\.txt: there is no such file\. Expected layout: Annotations"):
        load(root)
    (root / "valSet.txt").write_text("Bark&eee5&good&0&3\n")
    shutil.rmtree(root / "Audio-SE")
    with pytest.raises(BadInput, match=r"Audio-SE: there is no such folder\. Expected layout"):
        load(root)


def test_the_real_annotations() -> None:
    path = SLICES / "annotations" / "ave" / "Annotations.txt"
    if not path.is_file():
        pytest.skip(f"real annotations not found: {path} (set FEDLOOM_TEST_DATA)")
    events = read_events(path)
    assert len(events) == len({event.name for event in events}) == 4143
    counts = Counter(event.category for event in events)
    assert len(counts) == 28
    assert (counts[RACE], counts[BELL], counts["Cat"]) == (188, 188, 60)
    assert len({event.video for event in events}) == 4097
    assert [event.video for event in events if event.start == event.end] == ["VWi2ENBuTbw"]
