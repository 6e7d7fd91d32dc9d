"""CREMA-D (Cao et al., 2014): 7 442 clips of 91 actors, each one of 12 sentences said in one of six emotions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from fedloom.data.assemble import check_choice
from fedloom.data.containers import FederatedDataset
from fedloom.data.io.clips import ClipReading, MediaClip, clip_notes, read_parts
from fedloom.data.io.files import need_file, need_folder
from fedloom.data.io.tables import read_columns, read_fields
from fedloom.data.names import blank
from fedloom.data.options import UNSHARED, takes
from fedloom.data.registry import Dataset
from fedloom.errors import BadInput, unknown
from fedloom.seeding import stream_seed
from fedloom.tasks import ClientTask, Modality

LAYOUT = (
    "AudioWAV/<clip>.wav; Image-01-FPS/<clip>/<number>.jpg or VideoFlash/<clip>.flv; train.csv and test.csv "
    "(rows clip,EMO; or ogm_ge_train.csv and ogm_ge_test.csv) for split='ogm'; processedResults/summaryTable.csv "
    "for task='perceived'"
)
Task = Literal["acted", "perceived"]
Split = Literal["ogm", "speakers"]
# In order of label, by the code in names of clips and lists.
ACTED = {"NEU": "neutral", "HAP": "happy", "SAD": "sad", "FEA": "fear", "DIS": "disgust", "ANG": "anger"}
PERCEIVED = {"A": "anger", "S": "sad", "H": "happy", "N": "neutral"}  # of the votes: FedMultimodal's four
CLIP = re.compile(r"(?P<actor>\d{4})_[A-Z]{3}_(?P<emotion>[A-Z]{3})_[A-Z]{1,2}")
HELD_OUT = 5  # of so many speakers one is in the test part


def _emotion(clip: str, place: str) -> str:
    """The acted emotion in the name of a clip."""
    found = CLIP.fullmatch(clip)
    if found is None:
        raise BadInput(f"{place}: clip {clip[:40]!r}, expected <actor>_<sentence>_<emotion>_<level>")
    if found["emotion"] not in ACTED:
        raise BadInput(f"{place}: {unknown('emotion', found['emotion'], ACTED)}")
    return found["emotion"]


def _ogm(base: Path) -> dict[str, list[str]]:
    """The clips of each part by the lists of OGM-GE: 6 698 and 744, of the same speakers."""
    parts: dict[str, list[str]] = {}
    seen: set[str] = set()
    for part in ("train", "test"):
        names = (f"{part}.csv", f"ogm_ge_{part}.csv")
        path = need_file(next((base / n for n in names if (base / n).is_file()), base / names[0]), LAYOUT)
        parts[part] = []
        for number, row in read_fields(path, ("clip", "EMO")):
            place = f"{path} row {number}"
            clip, emotion = row[0].strip(), row[1].strip()
            if _emotion(clip, place) != emotion:
                raise BadInput(f"{place}: emotion {emotion[:40]!r}, but the clip is {clip}")
            if clip in seen:
                raise BadInput(f"{place}: {clip} is listed already")
            seen.add(clip)
            parts[part].append(clip)
    return parts


def _speakers(sounds: Path, seed: int) -> dict[str, list[str]]:
    """The clips of each part, no speaker in both: ours, by the seed, as the set has no official split."""
    clips = sorted(p.stem for p in sounds.glob(f"[!.]*{_ending(sounds)}"))
    for clip in clips:
        _emotion(clip, str(sounds))
    actors = sorted({clip[:4] for clip in clips}, key=lambda actor: stream_seed(seed, "speakers", actor))
    if len(actors) < 2:
        raise BadInput(f"{sounds}: clips of {len(actors)} speakers, split='speakers' needs 2 or more")
    test = set(actors[: max(1, len(actors) // HELD_OUT)])
    return {"train": [c for c in clips if c[:4] not in test], "test": [c for c in clips if c[:4] in test]}


def _ending(sounds: Path) -> str:
    """'.mp3' for AudioMP3/, else '.wav'."""
    return ".mp3" if sounds.name == "AudioMP3" else ".wav"


def _votes(base: Path, notes: dict[str, Any]) -> dict[str, int]:
    """The label of each clip by what most people heard and saw in it; ties and other emotions have none."""
    path = need_file(base / "processedResults" / "summaryTable.csv", LAYOUT)
    labels: dict[str, int] = {}
    order = list(PERCEIVED)
    for number, (clip, vote) in read_columns(path, ["FileName", "MultiModalVote"]):
        clip, vote = clip.strip(), vote.strip()
        if clip in labels:
            raise BadInput(f"{path} row {number}: clip {clip[:40]!r} is listed already")
        if blank(vote):  # as a clip that is not in the table
            continue
        if vote in PERCEIVED:
            labels[clip] = order.index(vote)
        else:
            labels[clip] = -1
            notes["votes_tied" if ":" in vote else "votes_of_other_emotions"] += 1
    return labels


def _folders(base: Path) -> tuple[Path, Path, Path]:
    """Where the sounds, the frames and the videos are."""
    wav, mp3 = base / "AudioWAV", base / "AudioMP3"
    sounds = mp3 if mp3.is_dir() and not wav.is_dir() else need_folder(wav, LAYOUT)
    frames, videos = base / "Image-01-FPS", base / "VideoFlash"
    if not frames.is_dir():
        need_folder(videos, LAYOUT)
    return sounds, frames, videos


@takes(ClipReading, {**UNSHARED, "range": None}, size=64, frames=2)
def load(
    root: str | Path,
    *,
    task: Task = "acted",
    split: Split = "ogm",
    reading: ClipReading,
) -> FederatedDataset:
    """Read CREMA-D: multimodal samples of sound and frames, in the order of the lists; ids are the clips' names.

    Args:
        root: the folder with AudioWAV/ (or AudioMP3/), Image-01-FPS/ or VideoFlash/, and the lists.
        task: 'acted', the emotion in the name of the clip, six classes; 'perceived', what most people heard and saw:
            four classes, as in FedMultimodal; clips with a tie or another emotion are left out.
        split: 'ogm', the lists of OGM-GE, with the same speakers in both parts; 'speakers', ours: one speaker in five
            is in the test part, drawn from the seed. There is no official split.
        reading: on_bad is of clips that are missing or cannot be read, such as 1076_MTI_SAD_XX, which has no sound.

    Returns:
        The data set. `notes` counts what was left out (clip_notes), `votes_tied`, `votes_of_other_emotions` (of the
        whole table), `clips_without_vote`, `speakers_train`, `speakers_test` and `speakers_in_both`.

    Raises:
        BadInput: a folder or file is missing or broken; a row that is not clip,EMO or repeats a clip.
    """
    check_choice("task", task, Task)
    check_choice("split", split, Split)
    base = need_folder(root, LAYOUT)
    folders = _folders(base)
    counts = ("votes_tied", "votes_of_other_emotions", "clips_without_vote")
    notes: dict[str, Any] = {"task": task, "split": split, **clip_notes(), **dict.fromkeys(counts, 0)}
    listed = _ogm(base) if split == "ogm" else _speakers(folders[0], reading.options.seed)
    votes = _votes(base, notes) if task == "perceived" else None
    train, test = ({clip[:4] for clip in listed[part]} for part in ("train", "test"))
    notes |= {"speakers_train": len(train), "speakers_test": len(test), "speakers_in_both": len(train & test)}
    if votes is None:
        labels = {clip: list(ACTED).index(_emotion(clip, clip)) for clips in listed.values() for clip in clips}
        names = tuple(ACTED.values())
    else:
        labels, names = votes, tuple(PERCEIVED.values())
        notes["clips_without_vote"] = sum(clip not in votes for clips in listed.values() for clip in clips)
    clips = {part: [_clip(clip, labels.get(clip, -1), *folders) for clip in listed[part]] for part in listed}
    return read_parts("cremad", names, clips.__getitem__, reading, notes)


def _clip(name: str, label: int, sounds: Path, pictures: Path, videos: Path) -> MediaClip:
    cut = (pictures / name).is_dir() or not videos.is_dir()
    own = pictures / name if cut else videos / f"{name}.flv"
    return MediaClip(name, label, sounds / f"{name}{_ending(sounds)}", own)


DATASET = Dataset(
    name="cremad",
    summary="CREMA-D: sound and frames of 7442 clips of 91 actors in six acted emotions",
    load=load,
    tasks=(ClientTask.MULTIMODAL_CLASSIFICATION,),
    classes=6,
    modalities=(Modality.AUDIO, Modality.IMAGE),
    layout=LAYOUT,
    source="https://github.com/CheyneyComputerScience/CREMA-D (Cao et al. 2014; lists: OGM-GE)",
    licence="ODbL 1.0",
)
