"""AVE (Tian et al., 2018): 4 143 audio-visual events of 28 categories in clips of ten seconds, to be classified."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedloom.data.containers import FederatedDataset
from fedloom.data.io.clips import ClipReading, MediaClip, clip_notes, read_parts
from fedloom.data.io.files import need_file, need_folder, numbered_lines
from fedloom.data.names import spelled
from fedloom.data.options import UNSHARED, takes
from fedloom.data.registry import Dataset
from fedloom.errors import BadInput, unknown
from fedloom.tasks import ClientTask, Modality

LAYOUT = (
    "Annotations.txt, trainSet.txt, valSet.txt and testSet.txt (lines Category&VideoID&Quality&Start&End), and "
    "AVE/<VideoID>.mp4, or what was cut from them: Image-01-FPS-SE/<VideoID>/<number>.jpg and Audio-SE/<VideoID>.wav"
)
PARTS = ("test", "val", "train")  # in this order an event is claimed: never tested and trained on
SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,9})?")
VIDEO = re.compile(r"[\w-]+")


@dataclass(frozen=True)
class Event:
    """A line of a list: what is heard and seen between start and end, in seconds."""

    category: str
    video: str
    start: float
    end: float

    @property
    def name(self) -> str:
        """What tells it from all others: a video may be listed under two categories."""
        return f"{self.category}&{self.video}&{self.start:g}"


def read_events(path: Path) -> list[Event]:
    """The events of a list, with repeated ones, in order. Categories hold commas; a header is passed over.

    Raises:
        BadInput: a line of other than five fields, or a span that is none (with its number).
    """
    events = []
    for number, line in numbered_lines(path):
        line = line.strip()
        if number == 1 and line.startswith("Category&"):
            continue
        place = f"{path} line {number}"
        fields = [field.strip() for field in line.rsplit("&", 4)]
        if len(fields) != 5 or not all(fields):
            raise BadInput(f"{place}: {line[:60]!r}, expected Category&VideoID&Quality&Start&End")
        category, video, _, start, end = fields
        if not VIDEO.fullmatch(video):
            raise BadInput(f"{place}: VideoID {video[:40]!r}, expected letters, digits, - and _")
        if not SECONDS.fullmatch(start) or not SECONDS.fullmatch(end) or float(start) > float(end):
            raise BadInput(f"{place}: from {start[:20]!r} to {end[:20]!r}, expected seconds, Start first")
        events.append(Event(spelled(category), video, float(start), float(end)))
    if not events:
        raise BadInput(f"{path}: no events")
    return events


def _parts(base: Path, names: Sequence[str], notes: dict[str, Any]) -> dict[str, list[Event]]:
    """The events of each part, each once."""
    seen: set[str] = set()
    parts: dict[str, list[Event]] = {}
    for part in PARTS:
        path = need_file(base / f"{part}Set.txt", LAYOUT)
        parts[part] = []
        for event in read_events(path):
            if event.category not in names:
                raise BadInput(f"{path}: {unknown('category', event.category, names)}")
            if event.name in seen:
                notes["repeated_events"] += 1
                continue
            seen.add(event.name)
            parts[part].append(event)
    return parts


@takes(ClipReading, {**UNSHARED, "range": None}, size=64, frames=4, seconds=10.0)
def load(
    root: str | Path,
    *,
    use_val: bool = False,
    reading: ClipReading,
) -> FederatedDataset:
    """Read AVE: multimodal samples of sound and frames of each event, in the order of the lists.

    Ids are `Category&VideoID&Start`: 46 videos are listed under two categories. Classes are in order of name.
    Args:
        root: the folder with the four lists, and AVE/ or Image-01-FPS-SE/ and Audio-SE/. What the latter two have of a
            video is read whole; else AVE/<VideoID>.mp4 from Start to End.
        use_val: whether valSet.txt joins the training part; else it is left out.
        reading: on_bad is of clips that are missing or cannot be read.

    Returns:
        The data set. `notes`: clip_notes, `repeated_events`, `events_of_no_length` (End is Start: the whole clip is
        read), `validation_events` and `videos_in_both_parts`, under two categories.

    Raises:
        BadInput: a folder or file is missing or broken; see read_events; a category not in Annotations.txt.
    """
    base = need_folder(root, LAYOUT)
    categories = sorted({event.category for event in read_events(need_file(base / "Annotations.txt", LAYOUT))})
    notes: dict[str, Any] = {**clip_notes(), "repeated_events": 0, "events_of_no_length": 0}
    events = _parts(base, categories, notes)
    events["train"] += events["val"] if use_val else []
    notes["validation_events"] = len(events["val"])
    notes["videos_in_both_parts"] = len({e.video for e in events["train"]} & {e.video for e in events["test"]})
    for folder in () if (base / "AVE").is_dir() else ("Image-01-FPS-SE", "Audio-SE"):
        need_folder(base / folder, LAYOUT)

    def listed(part: str) -> list[MediaClip]:
        notes["events_of_no_length"] += sum(event.start == event.end for event in events[part])
        return [_clip(base, event, categories.index(event.category)) for event in events[part]]

    return read_parts("ave", categories, listed, reading, notes)


def _clip(base: Path, event: Event, label: int) -> MediaClip:
    folder, wav = base / "Image-01-FPS-SE" / event.video, base / "Audio-SE" / f"{event.video}.wav"
    mp4, whole = base / "AVE" / f"{event.video}.mp4", event.start == event.end
    cut = not mp4.parent.is_dir()
    sound, pictures = wav if cut or wav.is_file() else mp4, folder if cut or folder.is_dir() else mp4
    return MediaClip(event.name, label, sound, pictures, 0.0 if whole else event.start, None if whole else event.end)


DATASET = Dataset(
    name="ave",
    summary="AVE: sound and frames of 4143 audio-visual events of 28 categories",
    load=load,
    tasks=(ClientTask.MULTIMODAL_CLASSIFICATION,),
    classes=28,
    modalities=(Modality.AUDIO, Modality.IMAGE),
    layout=LAYOUT,
    source="https://github.com/YapengTian/AVE-ECCV18 (Tian et al. 2018)",
    licence="see the data set's page",
)
