"""From a listing of samples to a FederatedDataset: class subset, decoding, public part.

The readers of real data sets list their samples: which picture or text, of which class, called what. The rest is here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args
from unicodedata import normalize

import numpy as np

from fedloom.data.containers import FederatedDataset, ImageSet, Labels, Samples, TextSet
from fedloom.data.io.decode import OnBad, Source, check_on_bad, check_size, decode_all
from fedloom.data.io.pixels import Met, Range, check_range
from fedloom.data.names import alike, by_name, numeric, readable
from fedloom.data.overlap import Sample, twice
from fedloom.data.public_split import split_public
from fedloom.errors import BadInput, printable, unknown
from fedloom.seeding import stream_seed
from fedloom.tasks import ClientTask


@dataclass(frozen=True)
class Listing:
    """Samples before they are read. N of each.

    items: paths or encoded bytes of pictures, or texts; labels int (N,); places: names for messages; ids: unique names
    within the part, on which choices depend, so they do not name folders; keys: of pairs, equal for a picture and its
    texts.
    """

    items: Sequence[Source | str]
    labels: Labels
    places: Sequence[str]
    ids: Sequence[str]
    keys: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Sequence[int], labels: Labels | None = None) -> Listing:
        """The samples at `index`, under new labels if given."""
        return Listing(
            [self.items[i] for i in index],
            self.labels[list(index)] if labels is None else labels,
            [self.places[i] for i in index],
            [self.ids[i] for i in index],
            None if self.keys is None else [self.keys[i] for i in index],
        )

    def samples(self) -> list[Sample]:
        """The items with their labels."""
        return list(zip(self.items, self.labels.tolist()))

    def joined(self, other: Listing, part: str) -> Listing:
        """These samples and, after them, those of the part called `part`; neither has keys."""
        return Listing(
            [*self.items, *other.items],
            np.concatenate([self.labels, other.labels]),
            [*self.places, *other.places],
            [*self.ids, *(f"{part}/{name}" for name in other.ids)],
        )


@dataclass(frozen=True)
class Reading:
    """The options that every reader of real data has.

    Attributes:
        size: side of the pictures in pixels.
        classes: names of those to keep, in that order; None for all.
        per_class: at most so many samples of a class in each part, chosen by a hash of their ids (of pairs: keys).
        generic_share: of every class's training samples that is public instead; 0: there is no public part.
        confusion: share of the public pictures that carry the name of the class that looks most alike.
        on_bad: 'error' or 'skip' for pictures that cannot be read.
        seed: of all choices.
        range: black and white of pictures of more than 8 bits; None for the full scale of 16.
    """

    size: int = 32
    classes: Sequence[str] | None = None
    per_class: int | None = None
    generic_share: float = 0.5
    confusion: float = 0.4
    on_bad: OnBad = "error"
    seed: int = 0
    range: Range | None = None

    def __post_init__(self) -> None:
        check_size(self.size)
        check_range(self.range)
        check_on_bad(self.on_bad)
        if self.per_class is not None and self.per_class < 1:
            raise BadInput(f"per_class={self.per_class}, allowed: 1 or more, or none for all")
        if isinstance(self.classes, str) or (self.classes is not None and not self.classes):
            raise BadInput(f"classes={self.classes!r}, allowed: a list of class names, or none for all")
        for key in ("generic_share", "confusion"):
            value = getattr(self, key)
            if not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise BadInput(f"{key}={value!r}, allowed: 0 to 1")


def check_choice(option: str, value: Any, allowed: Any) -> None:
    """Raise BadInput unless `value` is one of a Literal's."""
    if value not in get_args(allowed):
        raise unknown(option, str(value), get_args(allowed))


Parts = Mapping[ClientTask, Listing]


def chosen_classes(names: Sequence[str], wanted: Sequence[str] | None) -> list[int]:
    """Positions in `names` of the wanted ones, in their order; `apple_pie` and `apple pie` are the same (see `names`).

    Raises:
        BadInput: a name on either list that is empty, no text or given twice; one that is wanted and not there.
    """
    at = by_name(names)
    if wanted is None:
        return list(range(len(names)))
    padded = [name for name in names if numeric(name) and name != str(int(name))]
    chosen = []
    for name in wanted:
        if not isinstance(name, str) and (type(name) is not int or padded):
            raise BadInput(f"classes: {name!r} is no text, as YAML reads no, null, 1.0 or 01. Put each name in quotes")
        i = at.get(alike(str(name)))
        if i is None:
            raise unknown("class", str(name), [readable(name) for name in names])
        if i in chosen:
            raise BadInput(f"classes: {name!r} is named twice")
        chosen.append(i)
    return chosen


def pick(
    labels: Sequence[int], keys: Sequence[str], chosen: Sequence[int], per_class: int | None, seed: int
) -> list[tuple[int, int]]:
    """(position, new label) of the samples of the chosen classes, relabelled 0.. in their order.

    per_class: at most so many keys of each class, chosen by their hashes; all samples of one key go together.
    """
    new = {old: i for i, old in enumerate(chosen)}
    index = [i for i, label in enumerate(labels) if label in new]
    if per_class is not None:
        rank = {i: stream_seed(seed, "per class", normalize("NFC", keys[i])) for i in index}
        seen: dict[int, set[str]] = {label: set() for label in new}
        kept = []
        for i in sorted(index, key=lambda i: (rank[i], i)):
            own = seen[labels[i]]
            if keys[i] in own or len(own) < per_class:
                own.add(keys[i])
                kept.append(i)
        index = sorted(kept)
    return [(i, new[labels[i]]) for i in index]


class _Reader:
    """Reads the listings of a data set and gathers what there is to be told of them."""

    def __init__(self, name: str, chosen: Sequence[int], reading: Reading) -> None:
        self.name, self.chosen, self.reading = name, chosen, reading
        self.met = Met(reading.range)
        self.unreadable: list[str] = []

    def read(self, part: str, task: ClientTask, listing: Listing) -> tuple[Samples, Listing]:
        """The chosen samples that could be read, and their listing."""
        labels, options = listing.labels.tolist(), self.reading
        picked = pick(labels, listing.keys or listing.ids, self.chosen, options.per_class, options.seed)
        if not picked:
            raise BadInput(f"{self.name}: no {part} {task}s of the chosen classes")
        listing = listing.take([i for i, _ in picked], np.array([label for _, label in picked], dtype=np.int64))
        if task == ClientTask.TEXT_CLASSIFICATION:
            return TextSet(tuple(str(t) for t in listing.items), listing.labels), listing
        sources: list[Source] = [s for s in listing.items if not isinstance(s, str)]
        images, kept, bad = decode_all(sources, listing.places, options.size, options.on_bad, self.met)
        self.unreadable += map(printable, bad)
        if not len(kept):
            none = f"none of the {len(listing)} {part} pictures can be read"
            raise BadInput(f"{self.name}: {none}, the first is {bad[0]}")
        listing = listing.take(kept.tolist())
        return ImageSet(images, listing.labels), listing


def assemble(
    name: str,
    class_names: Sequence[str],
    train: Parts,
    test: Parts,
    reading: Reading,
    *,
    shorten: bool = True,
    notes: Mapping[str, Any] | None = None,
) -> FederatedDataset:
    """Read the listed samples and build the data set.

    Args:
        name: of the data set.
        class_names: of all labels that occur in the listings; the data set has them in readable form.
        train, test: a listing for each task. Images and texts are pairs if all train listings have keys.
        reading: the options.
        shorten: see split_public.
        notes: what the reader counted. Added are `unreadable_images` and some of their names, what was met in the
            pictures (see Met.notes), and what is there twice (see overlap.twice).

    Raises:
        BadInput: a picture that cannot be read, an unknown class, a part without samples.
    """
    chosen = chosen_classes(class_names, reading.classes)
    names = tuple(readable(class_names[i]) for i in chosen)
    reader = _Reader(name, chosen, reading)
    trained = {task: reader.read("train", task, listing) for task, listing in train.items()}
    tested = {task: reader.read("test", task, listing) for task, listing in test.items()}
    reader.met.check()
    keys = {task: listing.keys for task, (_, listing) in trained.items() if listing.keys is not None}
    left, public = split_public(
        {task: samples for task, (samples, _) in trained.items()},
        names,
        share=reading.generic_share,
        confusion=reading.confusion,
        seed=reading.seed,
        keys=keys if len(keys) == 2 else None,
        shorten=shorten,
    )
    bad = reader.unreadable
    counted = {"unreadable_images": len(bad), "unreadable_examples": bad[:5], **reader.met.notes()}
    for task, (_, listing) in trained.items():
        what = "picture" if task == ClientTask.IMAGE_CLASSIFICATION else str(task)
        counted |= twice(what, listing.samples(), tested[task][1].samples() if task in tested else ())
    held_out = {task: samples for task, (samples, _) in tested.items()}
    return FederatedDataset(name, names, left, held_out, public, notes={**(notes or {}), **counted})
