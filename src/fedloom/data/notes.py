"""What was left out or looks wrong in a data set, as short lines for people: terminal, summary.json and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedloom.data.containers import FederatedDataset
from fedloom.data.pairs import ImageTextPairs
from fedloom.errors import printable
from fedloom.tasks import ClientTask

MOST = 5  # names in a line
# Counts of the readers, and what they say. Where there are examples of it, the note that holds them.
COUNTS: Mapping[str, str] = {
    "unreadable_images": "Unreadable pictures, left out",
    "missing_images": "Missing pictures, left out",
    "pictures_without_class": "Pictures in no class folder, left out",
    "empty_texts": "Empty texts, not used",
    "pictures_of_several_frames": "Pictures of several frames or pages, of which the first is read",
    "pictures_in_both_parts": "Test pictures that are in the training part too, byte for byte",
    "texts_in_both_parts": "Test texts that are in the training part too, letter for letter",
    "pictures_under_two_labels": "Pictures of which a copy has another label",
    "texts_under_two_labels": "Texts of which a copy has another label",
    "missing_clips": "Missing clips, left out",
    "unreadable_clips": "Unreadable clips, left out",
    "silent_clips": "Clips without any sound",
    "votes_tied": "Clips whose vote is tied, left out",
    "votes_of_other_emotions": "Clips voted for another emotion, left out",
    "clips_without_vote": "Clips without a vote, left out",
    "speakers_in_both": "Speakers in both parts",
    "repeated_events": "Events listed twice, used once",
    "events_of_no_length": "Events of no length, of which the whole clip is read",
    "validation_events": "Events of the validation part (use_val: whether they join the training part)",
    "videos_in_both_parts": "Videos in both parts",
    "unjudged": "Posts without a label, left out",
    "captions_empty": "Empty captions, left out",
    "captions_repeated": "Captions listed twice, used once",
    "captions_surplus": "Captions beyond captions_per_image, left out",
    "captions_without_image": "Captions without a picture, left out",
    "images_without_captions": "Pictures without captions",
    "images_with_fewer_captions": "Pictures with fewer captions than captions_per_image",
    "images_of_restval": "Pictures of the part restval, left out",
    "rows_without_image": "Titles without a picture, left out",
    "images_without_row": "Pictures without a title, left out",
    "rows_repeated": "Titles listed twice, used once",
    "empty_titles": "Empty titles, not used",
}
EXAMPLES: Mapping[str, str] = {
    "unreadable_images": "unreadable_examples",
    "missing_images": "missing_examples",
    "missing_clips": "skipped_examples",
    "unreadable_clips": "skipped_examples",
}
# Facts that need no line, and what is told with another.
SILENT = frozenset(
    {"task", "split", "layout", "annotations", "speakers_train", "speakers_test", "ignored_files", *EXAMPLES.values()}
)
MANY: Mapping[str, str] = {
    ClientTask.IMAGE_CLASSIFICATION: "pictures",
    ClientTask.TEXT_CLASSIFICATION: "texts",
    ClientTask.MULTIMODAL_CLASSIFICATION: "samples",
}


def data_notes(dataset: FederatedDataset) -> list[str]:
    """What is to be known of the data before scores are believed; [] where all was read and nothing looks wrong."""
    return _sound(_absent(dataset) + lines(dataset.notes))


def lines(notes: Mapping[str, Any]) -> list[str]:
    """A reader's notes, a line each; zeros and what is empty say nothing. Of unknown ones the key is shown."""
    told: list[str] = []
    for key, value in notes.items():
        if key in SILENT or not value:
            continue
        if key in COUNTS:
            told.append(f"{COUNTS[key]}: {value}{_such_as(notes.get(EXAMPLES.get(key, ''), ()))}")
        elif key in _OWN:
            told += _OWN[key](value)
        elif isinstance(value, Mapping):  # of one of several sets
            told += [f"{key}: {line}" for line in lines(value)]
        else:
            told.append(f"{key.replace('_', ' ').capitalize()}: {_names(value)}")
    return _sound(told)


def _absent(dataset: FederatedDataset) -> list[str]:
    """Classes that a part lacks."""
    told = []
    for part, sets in (("training", dataset.train), ("test", dataset.test)):
        for modality, held in sets.items():
            if isinstance(held, ImageTextPairs):
                continue
            names = dataset.names_of(modality)
            counts = np.bincount(held.labels, minlength=len(names))
            if gone := [name for name, n in zip(names, counts) if not n]:
                told.append(f"Classes without {part} {MANY[modality]}: {_names(gone)}")
    return told


def _deep(value: Mapping[str, Any]) -> list[str]:
    low, high = value["values"]
    scale = value["range"] or "their full scale"
    return [f"Pictures of more than 8 bits: {value['pictures']}, values {low:g} to {high:g}, scaled by {scale}"]


def _held_out(value: Mapping[str, float]) -> list[str]:
    return [f"No test part of {MANY.get(m, m)}: {share:.0%} of every class is held out" for m, share in value.items()]


_OWN: Mapping[str, Any] = {
    "numbers_as_labels": lambda v: list(v),
    "lost_classes": lambda v: [f"Lost class: {line}" for line in v],
    "ignored_endings": lambda v: [f"Files left out by their ending: {', '.join(f'{n} {end}' for end, n in v.items())}"],
    "hidden_entries": lambda v: [f"Hidden and system entries, left out: {_names(v)}"],
    "held_out": _held_out,
    "validation_as_test": lambda v: [f"No test part: {path} takes its place" for path in v],
    "validation_left_out": lambda v: [
        f"Left out, as there is a test part: {path} (use_val=true: it joins the training part)" for path in v
    ],
    "not_read": lambda v: [f"Also there, not read: {_names(v)}"],
    "deep_pictures": _deep,
    "licences": lambda v: [f"Licence: {line}" for line in v],
    "not_in_font": lambda v: [f"Emoji that {font} lacks, left out: {n}" for font, n in v.items()],
    "range_unused": lambda v: [f"range={v} has no effect: no picture has more than 8 bits"],
    "brightest_value": lambda v: [f"Nearly black: no pixel of any picture is brighter than {v} of 255"],
}


def _such_as(examples: Sequence[Any]) -> str:
    return f", such as {_names(examples)}" if examples else ""


def _names(value: Any) -> str:
    """A few of a list, or the value."""
    if not isinstance(value, (list, tuple)):
        return str(value)
    rest = f" and {len(value) - MOST} more" if len(value) > MOST else ""
    return ", ".join(map(str, value[:MOST])) + rest


def _sound(told: Sequence[str]) -> list[str]:
    """Lines that any file and terminal takes: names that are not UTF-8 are escaped."""
    return [" ".join(printable(line).split()) for line in told]
