"""flora-102: drawn flowers of 102 species in families, where names are hard to learn and captions say more than names.

- Families of two to four *siblings* differ in one detail (petal number, shape, rows, centre, marking, leaves). Public
  pictures carry a sibling's name to a different degree in each family, as those of `flora` do.
- Every species has two or three *varieties* (petal colours), the same for all siblings: the label does not say which a
  picture shows, captions do, and so can a representation. What the reference pictures show is kept (`attributes`), for
  scores of drawn pictures by variety and by detail.
- Few pictures a class: a classifier tells 102 species from enough pictures, and hardly from a client's share.
- Captions in two voices, the public's and the clients', that share half of the words of details (see flora102_drawing).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedloom.data.containers import Attribute, ClientData, FederatedDataset, ImageSet, Labels, PublicData, TextSet
from fedloom.data.datasets.flora102_drawing import CLIENTS_102, WORLD_102, Flower102, describe, draw_flowers, render
from fedloom.data.datasets.flora102_species import DETAILS, SPECIES_COUNT, all_species
from fedloom.data.datasets.flora_drawing import PETALS
from fedloom.data.datasets.flora_words import Voice, vocabulary
from fedloom.data.public_split import check_confusion, confuse_within
from fedloom.data.registry import Counts, Dataset
from fedloom.errors import BadInput
from fedloom.seeding import numpy_stream
from fedloom.tasks import SINGLE_MODALITY, ClientTask


def load(
    classes: int = SPECIES_COUNT,
    size: int = 32,
    images: int = 20,
    texts: int = 20,
    test: int = 8,
    generic: int = 30,
    reference: int = 30,
    confusion: float = 0.4,
    confusion_spread: float = 0.4,
    seed: int = 0,
) -> FederatedDataset:
    """Draw the data set.

    Args:
        classes: the first so many species, 10 to 102.
        size: side of the pictures in pixels.
        images, texts, test: of each class: training samples of the clients; held-out samples of each task.
        generic: public pictures with a caption each, of each class, for pretraining the server's models.
        reference: real pictures of each class for what scores, seen by no client and no generator.
        confusion: share of the public pictures that carry a sibling's name, on average over families.
        confusion_spread: how far the most and the least confused family lie from it; which is which is drawn.
        seed: of all that is drawn.

    Raises:
        BadInput: a number that is not allowed, a confusion outside [0, 1] with its spread.
    """
    _check(locals())  # all options
    draw = _Drawing(classes, size, seed)
    seen, said, labels = draw.pictures("reference", reference, WORLD_102)
    return FederatedDataset(
        name="flora-102",
        class_names=tuple(kind.name for kind in all_species()[:classes]),
        train=draw.part("", images, texts),
        test=draw.part("test ", test, test),
        public=draw.public(generic, confusion, confusion_spread),
        reference=ImageSet(seen, labels),
        reference_captions=said,
        attributes=_attributes(draw.flowers("reference", reference)[0]),
    )


@dataclass(frozen=True)
class _Drawing:
    """Draws a part, of n samples a class, from the part's own stream."""

    classes: int
    size: int
    seed: int

    def flowers(self, part: str, n: int) -> tuple[list[Flower102], Labels, np.random.Generator]:
        """Flowers, their labels, and the stream after them."""
        rng = numpy_stream(self.seed, "flora-102", part)
        labels = rng.permutation(np.repeat(np.arange(self.classes, dtype=np.int64), n))
        return draw_flowers(labels, rng), labels, rng

    def pictures(self, part: str, n: int, voice: Voice) -> tuple[np.ndarray[Any, Any], tuple[str, ...], Labels]:
        """Pictures with a caption each, and their labels."""
        flowers, labels, rng = self.flowers(part, n)
        images = np.stack([render(f, self.size, rng) for f in flowers])
        return images, tuple(describe(f, rng, voice) for f in flowers), labels

    def public(self, n: int, confusion: float, spread: float) -> PublicData:
        """Pictures under names that are in part their siblings', and captions in the world's voice."""
        images, captions, labels = self.pictures("generic", n, WORLD_102)
        families = np.array([kind.family for kind in all_species()[: self.classes]], dtype=np.int64)
        rng = numpy_stream(self.seed, "flora-102", "confusion")
        names = confuse_within(labels, families, confusion, rng, spread)
        return PublicData(images, captions, names, words=tuple(sorted(vocabulary(CLIENTS_102))))

    def part(self, prefix: str, images: int, texts: int) -> dict[ClientTask, ClientData]:
        """Pictures and texts, drawn apart."""
        seen, _, labels = self.pictures(f"{prefix}images", images, CLIENTS_102)
        flowers, of_texts, rng = self.flowers(f"{prefix}texts", texts)
        return {
            ClientTask.IMAGE_CLASSIFICATION: ImageSet(seen, labels),
            ClientTask.TEXT_CLASSIFICATION: TextSet(tuple(describe(f, rng, CLIENTS_102) for f in flowers), of_texts),
        }


def _attributes(flowers: list[Flower102]) -> dict[str, Attribute]:
    """Petal colour and details of each flower."""
    found = {"colour": Attribute.of([f.colour for f in flowers], tuple(PETALS))}
    for key, values in DETAILS.items():
        found[key] = Attribute.of([getattr(f.species.details, key) for f in flowers], values)
    return found


def _check(options: Mapping[str, Any]) -> None:
    if not 10 <= (classes := options["classes"]) <= SPECIES_COUNT:
        raise BadInput(f"flora-102: classes={classes}, allowed: 10 to {SPECIES_COUNT}")
    if (size := options["size"]) < 12:
        raise BadInput(f"flora-102: size={size}, allowed: at least 12 pixels")
    for key in ("images", "texts", "test", "generic", "reference"):
        if (n := options[key]) < 1:
            raise BadInput(f"flora-102: {key}={n}, allowed: 1 or more of each class")
    check_confusion(options["confusion"], options["confusion_spread"])


def _samples(options: Mapping[str, Any]) -> Counts:
    C = options["classes"]
    return {
        ClientTask.IMAGE_CLASSIFICATION: (C * options["images"], C * options["test"]),
        ClientTask.TEXT_CLASSIFICATION: (C * options["texts"], C * options["test"]),
    }


DATASET = Dataset(
    name="flora-102",
    toy=True,
    summary="procedurally drawn flowers, up to 102 species in families, with varieties that only captions say",
    load=load,
    tasks=SINGLE_MODALITY,
    classes=SPECIES_COUNT,
    source="drawn from a seed by this package",
    samples=_samples,
    check=_check,
)
