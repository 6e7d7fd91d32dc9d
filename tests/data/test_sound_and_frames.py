"""Sound to log-spectrograms and frames of clips, from files made here: wav, flac, mp3, mp4 and flv."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from PIL import Image

from conftest import picture, truncate
from fedloom.data.assemble import Reading, pick
from fedloom.data.io.clips import ClipReading, MediaClip, clip_notes, read_clips
from fedloom.data.io.frames import evenly, folder_frames, video_frames
from fedloom.data.io.sound import SoundReading, Unreadable, fit_length, log_spectrogram, read_sound
from fedloom.errors import BadInput

SHORT = SoundReading(seconds=0.5)
Samples = NDArray[np.float32]


def sine(hertz: float, seconds: float, rate: int = 16000, loud: float = 0.5) -> Samples:
    return (loud * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def pitch(samples: Samples, rate: int) -> float:
    """The loudest frequency in hertz."""
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * rate / len(samples))


def make_video(
    path: Path,
    greys: Sequence[int] = (40, 120, 200),
    hertz: Sequence[int] = (440, 880, 1760),
    codecs: tuple[str, str] = ("mpeg4", "aac"),
    rate: int = 44100,
    per_second: int = 10,
) -> Path:
    """A video of 96 x 64 pixels: each second in its own grey, with a red left edge, and of its own pitch, stereo."""
    with av.open(str(path), "w") as file:
        pictures = file.add_stream(codecs[0], rate=per_second)
        pictures.width, pictures.height, pictures.pix_fmt = 96, 64, "yuv420p"
        sounds = file.add_stream(codecs[1], rate=rate, layout="stereo") if hertz else None
        for n in range(len(greys) * per_second):
            array = np.full((64, 96, 3), greys[n // per_second], dtype=np.uint8)
            array[:, :16] = (255, 0, 0)
            file.mux(pictures.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        file.mux(pictures.encode())
        if sounds is not None:
            whole = np.concatenate([sine(h, 1.0, rate) for h in hertz])
            step = sounds.codec_context.frame_size or 1152
            for first in range(0, len(whole), step):
                block = np.stack([whole[first : first + step], np.zeros_like(whole[first : first + step])])
                frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
                frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
                file.mux(sounds.encode(frame))
            file.mux(sounds.encode())
    return path


@pytest.mark.parametrize("ending", ["wav", "flac", "mp3"])
def test_sound_files_are_mono_at_the_rate_asked(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    left = sine(500, 0.6, 22050)
    soundfile.write(path, np.stack([left, np.zeros_like(left)], axis=1), 22050)
    samples = read_sound(path, 16000)
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(0.6 * 16000, rel=0.1 if ending == "mp3" else 1e-3)
    assert pitch(samples, 16000) == pytest.approx(500, abs=5)
    assert np.abs(samples[2000:6000]).max() == pytest.approx(0.25, rel=0.05)  # the mean of both channels
    second = read_sound(path, 16000, 0.25, 0.35)
    assert len(second) == pytest.approx(1600, abs=2)


def test_length_and_spectrogram(tmp_path: Path) -> None:
    assert fit_length(np.array([0.5, -3.0], dtype=np.float32), 5).tolist() == [0.5, -1.0, 0.5, -1.0, 0.5]
    assert fit_length(np.linspace(0, 0.9, 10, dtype=np.float32), 2).tolist() == pytest.approx([0, 0.1])
    assert SoundReading().shape == (257, 299)  # C.3 of the specification
    assert SoundReading(seconds=10.0).shape == (257, 1004)  # C.4
    made = log_spectrogram(sine(1000, 0.2), SHORT)
    assert made.dtype == np.float16
    assert made.shape == SHORT.shape == (257, 48)
    assert float(made.astype(np.float64).mean()) == pytest.approx(0, abs=1e-3)
    assert float(made.astype(np.float64).std()) == pytest.approx(1, abs=1e-3)
    assert int(made.mean(axis=1).argmax()) == 32  # 1000 Hz in steps of 16000 / 512
    other = log_spectrogram(sine(1000, 0.2), SoundReading(16000, 0.5, 128, 64))
    assert other.shape == (65, (8000 - 64) // 64)


def test_spectrogram_by_hand() -> None:
    """The periodogram of each window, written out."""
    from scipy.signal.windows import tukey

    sound = SoundReading(8000, 0.05, 64, 32)
    samples = np.random.default_rng(0).normal(0, 0.1, 400).astype(np.float32)
    window = tukey(64, 0.25, sym=False)
    blocks = np.stack([samples[t * 32 : t * 32 + 64] for t in range(sound.shape[1])]).astype(np.float64)
    blocks -= blocks.mean(axis=1, keepdims=True)
    power = np.abs(np.fft.rfft(blocks * window, axis=1)) ** 2 / (8000 * (window**2).sum())
    power[:, 1:-1] *= 2  # one-sided
    log = np.log(power.T + 1e-7)
    want = (log - log.mean()) / log.std()
    assert np.abs(log_spectrogram(samples, sound) - want).max() < 0.01


@pytest.mark.parametrize("level", [0.0, 0.3])
def test_silence_is_zeros(level: float) -> None:
    made = log_spectrogram(np.full(700, level, dtype=np.float32), SHORT)
    assert made.shape == (257, 48)
    assert not made.any()


@pytest.mark.parametrize("ending", ["wav", "flac", "mp3", "mp4"])
def test_broken_files_are_named_in_one_line(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"clip.{ending}"
    says = rf"^{path}: [^\n]+$"

    def read() -> None:
        read_sound(path, 16000)

    with pytest.raises(Unreadable, match="there is no such file"):
        read()
    path.write_bytes(b"")
    with pytest.raises(Unreadable, match="the file is empty"):
        read()
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(Unreadable, match="a Git LFS pointer, not the file itself"):
        read()
    path.write_bytes(b"nothing of the kind" * 40)
    with pytest.raises(Unreadable, match=says):
        read()
    if ending == "mp4":
        make_video(path, (10,), (440,))
    else:
        soundfile.write(path, sine(440, 1.0), 16000)
    read()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(Unreadable, match=says):
        read()


def test_sound_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "none.wav"
    soundfile.write(path, np.zeros(0), 16000)
    with pytest.raises(Unreadable, match=r"none\.wav: no sound from 0 s$"):
        read_sound(path, 16000)
    soundfile.write(path, np.full(100, np.nan), 16000, subtype="FLOAT")
    with pytest.raises(Unreadable, match="samples that are no numbers"):
        read_sound(path, 16000)
    still = make_video(tmp_path / "still.mp4", (9,), ())
    with pytest.raises(Unreadable, match=r"still\.mp4: the video has no sound track"):
        read_sound(still, 16000)


def test_frames_and_sound_of_a_video(tmp_path: Path) -> None:
    path = make_video(tmp_path / "clip.mp4")
    whole = video_frames(path, 3, 32)
    assert whole.shape == (3, 32, 32, 3)
    assert whole.dtype == np.uint8
    assert whole.mean(axis=(1, 2, 3)) == pytest.approx([40, 120, 200], abs=6)  # the red edge is cut away
    assert video_frames(path, 1, 32).mean() == pytest.approx(120, abs=6)  # the middle one
    assert video_frames(path, 2, 16, start=1.0, end=3.0).mean(axis=(1, 2, 3)) == pytest.approx([120, 200], abs=6)
    five = video_frames(path, 5, 16)  # there are three: the last one again
    assert five.mean(axis=(1, 2, 3)) == pytest.approx([40, 120, 200, 200, 200], abs=6)
    assert (five[3:] == five[2]).all()
    six = video_frames(path, 6, 16, fps=2.0)
    assert six.mean(axis=(1, 2, 3)) == pytest.approx([40, 40, 120, 120, 200, 200], abs=6)
    assert (video_frames(path, 6, 16, fps=2.0) == six).all()
    with pytest.raises(Unreadable, match=r"clip\.mp4: no pictures from 7 s to 9 s"):
        video_frames(path, 1, 16, start=7.0, end=9.0)
    assert len(read_sound(path, 16000)) == pytest.approx(48000, abs=1200)
    for second, hertz in enumerate((440, 880, 1760)):
        part = read_sound(path, 16000, second + 0.1, second + 0.9)
        assert len(part) == pytest.approx(12800, abs=2)
        assert pitch(part, 16000) == pytest.approx(hertz, abs=3)
    with pytest.raises(Unreadable, match="no sound from 7 s to 9 s"):
        read_sound(path, 16000, 7.0, 9.0)
    truncate(path)
    with pytest.raises(Unreadable, match=r"clip\.mp4"):
        video_frames(path, 1, 16)


def test_a_video_cannot_send_us_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "list.mp4"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(Unreadable, match=r"list\.mp4"):
        video_frames(path, 1, 16)


def test_folders_of_frames(tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    folder.mkdir()
    for number, grey in ((1, 10), (2, 60), (4, 110), (10, 210)):  # 3 and 5..9 are missing
        Image.new("RGB", (24, 16), (grey,) * 3).save(folder / f"{number:05d}.jpg")
    (folder / "Thumbs.db").write_bytes(b"of no interest")
    means = folder_frames(folder, 4, 16).mean(axis=(1, 2, 3))
    assert means == pytest.approx([10, 60, 110, 210], abs=2)
    assert folder_frames(folder, 2, 16).mean(axis=(1, 2, 3)) == pytest.approx([60, 210], abs=2)
    assert folder_frames(folder, 6, 16).mean(axis=(1, 2, 3)) == pytest.approx([10, 60, 110, 210, 210, 210], abs=2)
    truncate(picture(folder / "00004.jpg", 1, 0, side=(64, 64)))
    with pytest.raises(Unreadable, match=r"00004\.jpg: "):
        folder_frames(folder, 4, 16)
    assert len(folder_frames(folder, 2, 16)) == 2  # it is not chosen
    (tmp_path / "empty").mkdir()
    with pytest.raises(Unreadable, match=r"empty: no frames in the folder, expected <number>\.jpg"):
        folder_frames(tmp_path / "empty", 1, 16)
    with pytest.raises(Unreadable, match="none: there is no such file"):
        folder_frames(tmp_path / "none", 1, 16)


@pytest.mark.parametrize(
    ("K", "M", "want"),
    [(1, 1, [0]), (3, 1, [1]), (10, 4, [1, 3, 6, 8]), (3, 3, [0, 1, 2]), (2, 4, [0, 1, 1, 1])],
)
def test_evenly(K: int, M: int, want: list[int]) -> None:
    assert evenly(K, M) == want


def test_pick() -> None:
    labels, keys = [0, 1, 2, 1, 0, 1], list("abcdef")
    assert pick(labels, keys, [2, 1], None, 0) == [(1, 1), (2, 0), (3, 1), (5, 1)]
    few = pick(labels, keys, [2, 1], 1, 0)
    assert len(few) == 2
    assert (2, 0) in few
    assert few == pick(labels, keys, [2, 1], 1, 0)


@pytest.mark.parametrize("name", ["soundfile", "av"])
def test_what_is_not_installed_is_never_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    wav = tmp_path / "a.wav"
    soundfile.write(wav, sine(440, 0.1), 16000)
    clip = MediaClip("a", 0, wav, make_video(tmp_path / "a.mp4", (9,), ()))
    reading = ClipReading(Reading(size=16, on_bad="skip"), SHORT)
    monkeypatch.setitem(sys.modules, name, None)
    says = rf"^sound and video files need {name}, which is not installed: pip install 'fedloom\[media\]'$"
    with pytest.raises(BadInput, match=says):
        read_clips("made", [clip], [0], reading, clip_notes())


def test_clips_left_out_are_counted_and_the_others_stay_in_order(tmp_path: Path) -> None:
    clips = []
    for n in range(6):
        wav = tmp_path / f"{n}.wav"
        soundfile.write(wav, sine(200 * (n + 1), 0.1, loud=0.0 if n == 4 else 0.5), 16000)
        picture(tmp_path / f"f{n}" / "00001.jpg", n % 3, n)
        clips.append(MediaClip(f"clip {n}", n % 3, wav, tmp_path / f"f{n}"))
    clips[0].sound.unlink()
    clips[2].sound.write_bytes(b"")
    whole = ClipReading(Reading(size=16, on_bad="skip"), SHORT, frames=2)
    notes = clip_notes()
    joint = read_clips("made", clips, [0, 1, 2], whole, notes)
    assert joint.ids == ("clip 1", "clip 3", "clip 4", "clip 5")
    assert joint.labels.tolist() == [1, 0, 1, 2]
    assert notes["skipped_examples"] == [
        f"{clips[0].sound}: there is no such file",
        f"{clips[2].sound}: the file is empty",
    ]
    assert (notes["missing_clips"], notes["unreadable_clips"], notes["silent_clips"]) == (1, 1, 1)
    audio, image = joint.parts["audio"], joint.parts["image"]
    assert isinstance(audio, np.ndarray)
    assert isinstance(image, np.ndarray)
    assert image.shape == (4, 2, 16, 16, 3)
    alone = read_clips("made", clips[5:], [2], whole, notes)
    assert alone.labels.tolist() == [0]
    assert (np.asarray(alone.parts["audio"][0]) == audio[3]).all()
    strict = ClipReading(Reading(size=16), SHORT)
    for first, says in (
        (0, r"0\.wav: there is no such file\. \(on_bad='skip' leaves such out\)$"),
        (1, "2.wav"),
    ):
        with pytest.raises(BadInput, match=says):
            read_clips("made", clips[first:], [0, 1, 2], strict, clip_notes())
    with pytest.raises(BadInput, match=r"made: none of 1 clips can be used, e\.g\. .*0\.wav"):
        read_clips("made", clips[:1], [0], whole, clip_notes())
    with pytest.raises(BadInput, match="made: no clips of the chosen classes"):
        read_clips("made", clips[:1], [1], whole, clip_notes())


def test_a_pipe_in_the_place_of_a_sound_is_not_opened(tmp_path: Path) -> None:
    picture(tmp_path / "f" / "1.jpg", 0, 0)
    os.mkfifo(tmp_path / "a.wav")
    clip = MediaClip("a", 0, tmp_path / "a.wav", tmp_path / "f")
    with pytest.raises(BadInput, match=r"a\.wav: neither a file nor a folder"):
        read_clips("made", [clip], [0], ClipReading(Reading(size=16), SHORT), clip_notes())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rate": 10}, "rate=10, allowed: 1000 to 192000"),
        ({"rate": 16e3}, "rate=16000.0, expected a whole number"),
        ({"seconds": 0}, "seconds=0, allowed"),
        ({"nperseg": 50_000}, "nperseg=50000, allowed: 2 to the clip's 48000 samples"),
        ({"noverlap": 512}, "noverlap=512, allowed: 0 to nperseg - 1 = 511"),
        ({"frames": 0}, "frames=0, allowed"),
        ({"fps": 0}, "fps=0, allowed"),
    ],
)
def test_options(options: dict[str, Any], says: str) -> None:
    clips = {key: options[key] for key in options if key in ("frames", "fps")}
    with pytest.raises(BadInput, match=says):
        ClipReading(Reading(), SHORT if clips else SoundReading(**options), **clips)
