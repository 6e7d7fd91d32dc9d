"""From a listing of captioned pictures to ImageTextPairs for each part, for all readers of captioned pictures.

What is done with awkward ones:

    a caption without a word, or whose id was seen before        left out, counted
    more captions than `captions_per_image`                      the first are kept, the others counted
    a picture left without captions                              left out, counted
    a caption of a picture that is not listed                    left out, counted (by the reader)
    two pictures of one id, an unknown part, a field missing     BadInput
    a picture that is missing or cannot be read                  BadInput, or left out and counted (on_bad='skip')
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np

from fedloom.data.io.decode import OnBad, Source, check_on_bad, check_size, decode_all
from fedloom.data.io.files import on_disk
from fedloom.data.io.pixels import Met, Range, check_range
from fedloom.data.overlap import in_both_parts
from fedloom.data.pairs import PARTS, ImageTextPairs, Pairs, Part
from fedloom.errors import BadInput, listed, printable, unknown
from fedloom.seeding import stream_seed

T = TypeVar("T")
JSON_TYPES = {int: "a whole number", str: "text", list: "a list"}
COUNTED = (
    "captions_empty",
    "captions_repeated",
    "captions_surplus",
    "captions_without_image",
    "images_without_captions",
    "images_with_fewer_captions",
)


@dataclass(frozen=True)
class Captioned:
    """A picture before it is read. captions: (id, text) each, id None where captions have none; place: for messages."""

    source: Source
    captions: Sequence[tuple[str | int | None, str]]
    place: str


Listed = Mapping[Part, Sequence[Captioned]]


@dataclass(frozen=True)
class PairReading:
    """The options that every reader of captioned pictures has.

    Attributes:
        size: side of the pictures in pixels.
        parts: which of 'train', 'val', 'test' to read; None for all there are.
        most: at most so many pictures of each part, chosen by a hash of their names, in the order of the file.
        captions_per_image: the first so many are kept (the retrieval protocols count five); None for all.
        on_bad: 'error' or 'skip' for pictures that cannot be read.
        seed: of all choices.
        range: black and white of pictures of more than 8 bits; None for the full scale of 16.
    """

    size: int = 64
    parts: Sequence[Part] | None = None
    most: int | None = None
    captions_per_image: int | None = 5
    on_bad: OnBad = "error"
    seed: int = 0
    range: Range | None = None

    def __post_init__(self) -> None:
        check_size(self.size)
        check_range(self.range)
        check_on_bad(self.on_bad)
        for key in ("most", "captions_per_image"):
            value = getattr(self, key)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise BadInput(f"{key}={value!r}, allowed: a whole number from 1, or none for all")
        if isinstance(self.parts, str) or (self.parts is not None and not self.parts):
            raise BadInput(f"parts={self.parts!r}, allowed: a list of {', '.join(PARTS)}, or none for all")
        for part in self.parts or ():
            if part not in PARTS:
                raise unknown("part", str(part), PARTS)


def field(entry: Any, key: str, kind: type[T], place: str) -> T:
    """entry[key], which must be there and of that type; else BadInput with the place."""
    if not isinstance(entry, dict):
        raise BadInput(f"{place}: {repr(entry)[:60]}, expected an object")
    if key not in entry:
        raise BadInput(f"{place}: no {key!r}, it has: {listed(list(entry)) or 'nothing'}")
    value = entry[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise BadInput(f"{place}: {key}={repr(value)[:60]}, expected {JSON_TYPES[kind]}")
    return value


def inside(folder: Path, name: str, place: str) -> Path:
    """The file called `name` in `folder`; BadInput for a name that leads out of it."""
    path = PurePosixPath(name)
    if not path.name or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise BadInput(f"{place}: file name {name[:60]!r}, expected one inside {folder}")
    return on_disk(folder, name)


def assemble_pairs(name: str, listed: Listed, reading: PairReading, notes: Mapping[str, Any]) -> Pairs:
    """Read the listed pictures and build the parts.

    Args:
        name: of the set.
        listed: the pictures of each part, in order.
        reading: the options.
        notes: what the reader counted; COUNTED, `unreadable_images` and some of their places are added.

    Raises:
        BadInput: a picture that cannot be read; a part that is asked for and not there, or empty.
    """
    counts: dict[str, Any] = {**dict.fromkeys(COUNTED, 0), **notes}
    there = [part for part in PARTS if listed.get(part)]
    if not there:
        raise BadInput(f"{name}: no pictures in any part")
    seen: set[str | int] = set()
    bad: list[str] = []
    met, read = Met(reading.range), dict[str, list[Source]]()
    parts: dict[Part, ImageTextPairs] = {}
    for part in reading.parts or there:
        if part not in there:
            raise BadInput(f"{name}: no part {part!r}, there are: {', '.join(there)}")
        with_captions = []
        for entry in listed[part]:
            if captions := _tidy(entry, reading.captions_per_image, seen, counts):
                with_captions.append((entry, captions))
        chosen = _choose(with_captions, reading, part)
        sources, places = [e.source for e, _ in chosen], [e.place for e, _ in chosen]
        images, kept, unread = decode_all(sources, places, reading.size, reading.on_bad, met)
        if not len(kept):
            first = f", the first is {unread[0]}" if unread else ""
            raise BadInput(f"{name}: none of the {len(listed[part])} {part} pictures can be used{first}")
        own = [chosen[i][1] for i in kept.tolist()]
        owner = np.repeat(np.arange(len(own), dtype=np.int64), [len(c) for c in own])
        parts[part] = ImageTextPairs(images, tuple(text for c in own for text in c), owner)
        read[part] = [sources[i] for i in kept.tolist()]
        bad += unread
    met.check()
    found = {
        "unreadable_images": len(bad),
        "unreadable_examples": [printable(place) for place in bad[:5]],
        **met.notes(),
        **in_both_parts(read),
    }
    return Pairs(name, parts, counts | found)


def _tidy(entry: Captioned, most: int | None, seen: set[str | int], counts: dict[str, Any]) -> list[str]:
    """The captions of a picture that count, blanks single."""
    captions = []
    for key, text in entry.captions:
        words = " ".join(text.split())
        try:
            words.encode()
        except UnicodeEncodeError as error:
            raise BadInput(f"{entry.place}: caption {text[:40]!a} is no text (half a character)") from error
        if key is not None and key in seen:
            counts["captions_repeated"] += 1
        elif not words:
            counts["captions_empty"] += 1
        else:
            captions.append(words)
        if key is not None:
            seen.add(key)
    counts["images_without_captions"] += not captions
    if most is not None and captions:
        counts["captions_surplus"] += max(0, len(captions) - most)
        counts["images_with_fewer_captions"] += len(captions) < most
    return captions[:most]


def _choose(
    entries: list[tuple[Captioned, list[str]]], reading: PairReading, part: Part
) -> list[tuple[Captioned, list[str]]]:
    """At most `most` entries, by a hash of their names, in their order."""
    if reading.most is None or len(entries) <= reading.most:
        return entries
    rank = [stream_seed(reading.seed, "pairs", part, PurePosixPath(e.place).name) for e, _ in entries]
    best = sorted(range(len(entries)), key=lambda i: (rank[i], i))[: reading.most]
    return [entries[i] for i in sorted(best)]
