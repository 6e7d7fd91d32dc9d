"""CrisisMMD v2.0 (Alam et al., 2018; splits: Ofli et al., 2020): tweets of seven disasters, each with a picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fedloom.data.assemble import Reading, check_choice, chosen_classes, pick
from fedloom.data.captioned import inside
from fedloom.data.containers import FederatedDataset
from fedloom.data.io.decode import SKIP, decode_all
from fedloom.data.io.files import need_file, need_folder
from fedloom.data.io.pixels import Met
from fedloom.data.io.tables import read_tabbed
from fedloom.data.joint import MultimodalSamples
from fedloom.data.names import readable, spelled
from fedloom.data.options import UNSHARED, takes
from fedloom.data.overlap import twice
from fedloom.data.registry import Dataset
from fedloom.errors import BadInput, printable, unknown
from fedloom.tasks import ClientTask, Modality

LAYOUT = (
    "data_image/<event>/<date>/<tweet>_<n>.jpg and crisismmd_datasplit_all/task_<task>_text_img_{train,dev,test}.tsv, "
    "or crisismmd_datasplit_agreed_label/task_<task>_text_img_agreed_lab_{train,dev,test}.tsv"
)
Task = Literal["informative", "humanitarian", "damage"]
Split = Literal["all", "agreed"]
LabelOf = Literal["joint", "image", "text"]
CLASSES: dict[str, tuple[str, ...]] = {
    "informative": ("not_informative", "informative"),
    "humanitarian": (
        "infrastructure_and_utility_damage",
        "not_humanitarian",
        "other_relevant_information",
        "rescue_volunteering_or_donation_effort",
        "vehicle_damage",
        "affected_individuals",
        "injured_or_dead_people",
        "missing_or_found_people",
    ),
    "damage": ("little_or_no_damage", "mild_damage", "severe_damage"),
}
MERGED = {
    "vehicle_damage": "infrastructure_and_utility_damage",
    "injured_or_dead_people": "affected_individuals",
    "missing_or_found_people": "affected_individuals",
}
UNJUDGED = frozenset({"", "dont_know_or_cant_judge"})
FOLDERS = {"all": "crisismmd_datasplit_all", "agreed": "crisismmd_datasplit_agreed_label"}
COUNTS = ("missing_images", "unreadable_images", "unjudged", "empty_texts")
COLUMNS = {"joint": "label", "image": "label_image", "text": "label_text"}
LINK = re.compile(r"https?:[^\s\"'<>()\[\]]*", re.IGNORECASE)
RETWEET = re.compile(r"^\s*RT\b\s*")


@dataclass(frozen=True)
class _Row:
    """A tweet and one of its pictures. name: `<tweet>_<n>`; place: for messages."""

    name: str
    text: str
    picture: Path
    label: int
    place: str


def clean(text: str) -> str:
    """The tweet without a leading RT, without its links and without `#`; blanks single.

    `RT @a: see http://t.co/x now #Maria` is `@a: see now Maria`.
    """
    return " ".join(LINK.sub(" ", RETWEET.sub("", text)).replace("#", "").split())


def _list(name: str, base: Path, column: str, names: Sequence[str], merged: bool, notes: dict[str, Any]) -> list[_Row]:
    """The rows of a list whose label is known."""
    path, rows = need_file(name, LAYOUT), []
    for number, (image_id, text, picture, label) in read_tabbed(path, ["image_id", "tweet_text", "image", column]):
        place, label = f"{path} line {number}", spelled(label)
        if label in UNJUDGED:
            notes["unjudged"] += 1
            continue
        label = MERGED.get(label, label) if merged else label
        if label not in names:
            raise BadInput(f"{place}: {unknown('label', label, names)}")
        file = inside(base, picture.strip(), place)
        rows.append(_Row(image_id.strip(), text, file, names.index(label), place))
    return rows


def _samples(
    part: str,
    rows: Sequence[_Row],
    chosen: Sequence[int],
    cleaned: bool,
    options: Reading,
    notes: dict[str, Any],
    met: Met,
) -> MultimodalSamples:
    """The rows of the chosen classes whose picture can be read."""
    labels, names = [row.label for row in rows], [row.name for row in rows]
    picked = pick(labels, names, chosen, options.per_class, options.seed)
    there = []
    for i, label in picked:
        if rows[i].picture.is_file():
            there.append((rows[i], label))
            continue
        reason = f"{rows[i].place}: no picture {rows[i].picture}"
        if options.on_bad == "error":
            raise BadInput(f"{reason}. {SKIP}")
        notes["missing_images"] += 1
        if len(notes["missing_examples"]) < 5:
            notes["missing_examples"].append(printable(str(rows[i].picture)))
    files, places = [row.picture for row, _ in there], [str(row.picture) for row, _ in there]
    images, kept, bad = decode_all(files, places, options.size, options.on_bad, met)
    notes["unreadable_images"] += len(bad)
    notes["unreadable_examples"] = [*notes["unreadable_examples"], *map(printable, bad)][:5]
    if not len(kept):
        raise BadInput(f"crisismmd: none of {len(picked)} {part} posts of the chosen classes has a readable picture")
    own = [there[i] for i in kept.tolist()]
    texts = tuple(clean(row.text) if cleaned else row.text.strip() for row, _ in own)
    written = np.array([bool(text) for text in texts])
    notes["empty_texts"] += int((~written).sum())
    return MultimodalSamples(
        {Modality.IMAGE: images[:, None], Modality.TEXT: texts},  # M = 1
        np.array([label for _, label in own], dtype=np.int64),
        {Modality.TEXT: written},
        tuple(row.name for row, _ in own),
    )


def _split_folder(base: Path, split: str) -> Path:
    """Where the lists are: the archives unpack to a folder of their own name, or to one inside of that."""
    folder = base / FOLDERS[split]
    return folder / folder.name if (folder / folder.name).is_dir() else need_folder(folder, LAYOUT)


def _check(task: str, split: str, label: str, merged: bool) -> None:
    for what, value, allowed in (("task", task, Task), ("split", split, Split), ("label", label, LabelOf)):
        check_choice(what, value, allowed)
    if merged and task != "humanitarian":
        raise BadInput(f"merged=True is of task='humanitarian', not {task!r}")
    if task == "damage" and label == "text":
        raise BadInput("label='text': damage was judged from pictures only, allowed: 'joint' or 'image'")


@takes(Reading, UNSHARED, size=64)
def load(
    root: str | Path,
    *,
    task: Task = "informative",
    split: Split = "all",
    label: LabelOf = "joint",
    merged: bool = False,
    use_dev: bool = False,
    cleaned: bool = True,
    reading: Reading,
) -> FederatedDataset:
    """Read CrisisMMD: multimodal samples of a picture (M = 1) and the tweet, rows in file order; ids are image_id.

    Args:
        root: the folder with data_image/ and crisismmd_datasplit_all/ or crisismmd_datasplit_agreed_label/.
        task: 'informative', 2 classes; 'humanitarian', 8; 'damage', 3.
        split: 'all' posts, whose picture and text may have been judged differently; or those 'agreed' on.
        label: of the post ('joint'), or of its 'image' or 'text' alone. Damage was judged from pictures only.
        merged: of task 'humanitarian' the 5 classes that MERGED leaves.
        use_dev: whether the dev part joins the training part; else it is left out.
        cleaned: see `clean`; False: the tweets as they are.

    Returns:
        The data set. `notes` counts tweets of nothing but links as `empty_texts`; `missing_images`,
        `unreadable_images` and `unjudged` are left out.

    Raises:
        BadInput: a folder, file or picture is missing or broken; a column that is not there; a line of another number
            of fields or of an unknown label (with its number).
    """
    _check(task, split, label, merged)
    base = need_folder(root, LAYOUT)
    need_folder(base / "data_image", LAYOUT)
    names = tuple(name for name in CLASSES[task] if not (merged and name in MERGED))
    chosen = chosen_classes(names, reading.classes)
    notes: dict[str, Any] = {**dict.fromkeys(COUNTS, 0), "missing_examples": [], "unreadable_examples": []}
    stem = _split_folder(base, split) / (f"task_{task}_text_img_" + ("agreed_lab_" if split == "agreed" else ""))
    column = COLUMNS["joint" if task == "damage" else label]
    lists = {"train": ("train", "dev") if use_dev else ("train",), "test": ("test",)}
    rows = {
        part: [row for p in own for row in _list(f"{stem}{p}.tsv", base, column, names, merged, notes)]
        for part, own in lists.items()
    }
    met, kind = Met(reading.range), ClientTask.MULTIMODAL_CLASSIFICATION
    sets = {part: {kind: _samples(part, own, chosen, cleaned, reading, notes, met)} for part, own in rows.items()}
    met.check()
    train, test = ([(row.picture, row.label) for row in rows[part]] for part in ("train", "test"))
    notes |= met.notes() | twice("picture", train, test)
    shown = tuple(readable(names[i]) for i in chosen)
    return FederatedDataset("crisismmd", shown, sets["train"], sets["test"], notes=notes)


DATASET = Dataset(
    name="crisismmd",
    summary="CrisisMMD v2.0: tweets of seven disasters with a picture each; informative or not, humanitarian, damage",
    load=load,
    tasks=(ClientTask.MULTIMODAL_CLASSIFICATION,),
    classes=2,
    modalities=(Modality.IMAGE, Modality.TEXT),
    layout=LAYOUT,
    source="https://crisisnlp.qcri.org/crisismmd (Alam et al. 2018; splits: Ofli et al. 2020)",
    licence="CC BY-NC-SA 4.0",
)
