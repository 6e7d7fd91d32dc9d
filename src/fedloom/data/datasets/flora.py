"""flora: flowers drawn from a seed, with captions. The embedded data set: any size, no download, seconds to make.

- Ten species in five *sibling pairs*. `PublicData.names` says the sibling's name for a share of the public pictures,
  from few in one pair to nearly all in another: what learns from them draws well and names badly, and no amount of
  training on them tells which pairs are named wrong.
- Across pairs, species share colour, petal number, petal shape or centre: what a classifier must look at closely.
- Every species has two *varieties* (petal colours), shared with other species: variation within a class that the
  class prompt does not say and a representation can carry.
- Captions describe petals, centre, colour and background, never the name; each may leave out a detail, so some texts
  stay ambiguous. They say more than the label. The public captions are in another voice than the clients' texts: other
  sentences, and half of the words (see flora_words).
- Image and text samples are drawn independently; only the public part is paired.
- With `pairs` there are image-text clients too, and everything is of a richer world, where pictures and captions can be
  told apart (see flora_pairs). Texts may have a label space of their own (`text_labels`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedloom.data.assemble import check_choice
from fedloom.data.containers import Attribute, ClientData, FederatedDataset, ImageSet, Labels, PublicData, TextSet
from fedloom.data.datasets.flora_drawing import CENTRES, COUNTS, PETALS, SPECIES, Flower, draw_flowers, render
from fedloom.data.datasets.flora_pairs import draw_pairs, look_closer, tell
from fedloom.data.datasets.flora_words import CLIENTS, WORLD, Voice, describe, vocabulary
from fedloom.data.pairs import ImageTextPairs
from fedloom.data.public_split import check_confusion, confuse
from fedloom.data.registry import Counts, Dataset
from fedloom.errors import BadInput
from fedloom.seeding import numpy_stream
from fedloom.tasks import SINGLE_MODALITY, ClientTask

SIBLING = np.arange(len(SPECIES)) ^ 1
TextLabels = Literal["species", "family", "colour"]
TEXT_CLASSES: dict[str, tuple[str, ...]] = {
    "species": (),  # those of the pictures
    "family": tuple(f"{a.name} or {b.name}" for a, b in zip(SPECIES[::2], SPECIES[1::2])),
    "colour": tuple(PETALS),
}


def load(
    size: int = 24,
    images: int = 400,
    texts: int = 400,
    test: int = 400,
    generic: int = 1800,
    reference: int = 1800,
    confusion: float = 0.55,
    confusion_spread: float = 0.4,
    pairs: int = 0,
    captions: int = 2,
    test_pairs: int = 200,
    text_labels: TextLabels = "species",
    seed: int = 0,
) -> FederatedDataset:
    """Draw the data set.

    Args:
        size: side of the pictures in pixels.
        images, texts, test: training samples of the clients; held-out samples of each task.
        generic: public pictures with a caption each, for pretraining the server's models.
        reference: real pictures for the judge and for FID, seen by no client and no generator.
        confusion: share of the public pictures that carry their sibling's name, on average over pairs of siblings.
        confusion_spread: how far the most and the least confused pair lie from it; which is which is drawn.
        pairs, captions: captioned training pictures of retrieval clients, by species, 0 for none; of each.
        test_pairs: held-out ones of the clients, and as many of the server's own.
        text_labels: 'species', as of the pictures; or 'family' (five: which two siblings), or 'colour' (of the petals).
        seed: of all that is drawn.

    Raises:
        BadInput: fewer samples than species, a confusion outside [0, 1] with its spread, an unknown kind of labels.
    """
    _check(locals())  # all options
    draw = _Drawing(size, seed, bool(pairs), text_labels)
    train, tests = draw.part("", images, texts), draw.part("test ", test, test)
    if pairs:
        train[ClientTask.RETRIEVAL] = draw.pairs("pairs", pairs, captions, by_species=True)
        tests[ClientTask.RETRIEVAL] = draw.pairs("test pairs", test_pairs, captions)
    return FederatedDataset(
        name="flora",
        class_names=tuple(kind.name for kind in SPECIES),
        train=train,
        test=tests,
        public=draw.public(generic, confusion, confusion_spread),
        text_class_names=TEXT_CLASSES[text_labels],
        public_test=draw.pairs("public test pairs", test_pairs, captions, voice=WORLD) if pairs else None,
        **draw.reference(reference),
    )


@dataclass(frozen=True)
class _Drawing:
    """Draws n samples of a part from the part's own stream. rich: of the world of the pairs."""

    size: int
    seed: int
    rich: bool
    text_labels: TextLabels

    def _begin(self, part: str, n: int) -> tuple[Labels, np.random.Generator]:
        """Balanced labels, and the stream."""
        rng = numpy_stream(self.seed, "flora", part)
        return rng.permutation(np.arange(n, dtype=np.int64) % len(SPECIES)), rng

    def pictures(self, part: str, n: int, voice: Voice = CLIENTS) -> tuple[NDArray[np.uint8], tuple[str, ...], Labels]:
        """Pictures with a caption each, and their labels."""
        labels, rng = self._begin(part, n)
        if self.rich:
            drawn = draw_pairs(labels, self.size, 1, rng, voice)
            return drawn.images, drawn.captions, labels
        flowers = draw_flowers(labels, rng)
        images = np.stack([render(f, self.size, rng) for f in flowers])
        return images, tuple(describe(f, rng, voice) for f in flowers), labels

    def reference(self, n: int) -> dict[str, Any]:
        """What scores are learnt from: pictures, their captions and what they show."""
        images, said, labels = self.pictures("reference", n, WORLD)
        shown = self.attributes("reference", n)
        return {"reference": ImageSet(images, labels), "reference_captions": said, "attributes": shown}

    def attributes(self, part: str, n: int) -> dict[str, Attribute]:
        """What the pictures of a part show: the draws of `pictures` once more, without drawing."""
        labels, rng = self._begin(part, n)
        flowers = [s.flower for s in look_closer(labels, rng)] if self.rich else draw_flowers(labels, rng)
        kinds = [SPECIES[f.species] for f in flowers]
        return {
            "colour": Attribute.of([f.colour for f in flowers], tuple(PETALS)),
            "petals": Attribute.of([COUNTS[k.petals] for k in kinds], tuple(COUNTS.values())),
            "shape": Attribute.of([k.shape for k in kinds], sorted({k.shape for k in SPECIES})),
            "centre": Attribute.of([k.centre for k in kinds], tuple(CENTRES)),
        }

    def public(self, n: int, confusion: float, spread: float) -> PublicData:
        """Pictures under names that are in part their siblings', and captions in the world's voice."""
        images, captions, labels = self.pictures("generic", n, WORLD)
        names = confuse(labels, SIBLING, confusion, numpy_stream(self.seed, "flora", "confusion"), spread)
        return PublicData(images, captions, names, words=tuple(sorted(vocabulary(CLIENTS))))

    def images(self, part: str, n: int) -> ImageSet:
        images, _, labels = self.pictures(part, n)
        return ImageSet(images, labels)

    def texts(self, part: str, n: int) -> TextSet:
        labels, rng = self._begin(part, n)
        if self.rich:
            sights = look_closer(labels, rng)
            flowers, said = [s.flower for s in sights], tuple(tell(s, rng) for s in sights)
        else:
            flowers = draw_flowers(labels, rng)
            said = tuple(describe(f, rng) for f in flowers)
        return TextSet(said, _text_labels(flowers, self.text_labels))

    def part(self, prefix: str, images: int, texts: int) -> dict[ClientTask, ClientData]:
        return {
            ClientTask.IMAGE_CLASSIFICATION: self.images(f"{prefix}images", images),
            ClientTask.TEXT_CLASSIFICATION: self.texts(f"{prefix}texts", texts),
        }

    def pairs(
        self, part: str, n: int, captions: int, by_species: bool = False, voice: Voice = CLIENTS
    ) -> ImageTextPairs:
        labels, rng = self._begin(part, n)
        labels = np.sort(labels) if by_species else labels  # neighbours are alike: shards of them are skewed
        return draw_pairs(labels, self.size, captions, rng, voice)


def _check(options: Mapping[str, Any]) -> None:
    check_choice("text_labels", options["text_labels"], TextLabels)
    pairs = ("pairs", "test_pairs") if options["pairs"] else ()
    for key in ("images", "texts", "test", "generic", "reference", *pairs):
        if (n := options[key]) < len(SPECIES):
            raise BadInput(f"flora: {key}={n}, allowed: at least {len(SPECIES)} (one of each species)")
    if (captions := options["captions"]) < 1:
        raise BadInput(f"flora: captions={captions}, allowed: 1 or more")
    if (size := options["size"]) < 12:
        raise BadInput(f"flora: size={size}, allowed: at least 12 pixels")
    check_confusion(options["confusion"], options["confusion_spread"])


def _text_labels(flowers: Sequence[Flower], kind: TextLabels) -> Labels:
    """What a text of each flower is labelled with."""
    if kind == "colour":
        return np.array([list(PETALS).index(f.colour) for f in flowers], dtype=np.int64)
    species = np.array([f.species for f in flowers], dtype=np.int64)
    return species // 2 if kind == "family" else species


def _samples(options: Mapping[str, Any]) -> Counts:
    counts = {
        ClientTask.IMAGE_CLASSIFICATION: (options["images"], options["test"]),
        ClientTask.TEXT_CLASSIFICATION: (options["texts"], options["test"]),
    }
    pairs = {ClientTask.RETRIEVAL: (options["pairs"], options["test_pairs"])} if options["pairs"] else {}
    return counts | pairs


def _tasks(root: str | None, options: Mapping[str, Any]) -> tuple[ClientTask, ...]:
    return (*SINGLE_MODALITY, ClientTask.RETRIEVAL) if options.get("pairs") else SINGLE_MODALITY


DATASET = Dataset(
    name="flora",
    toy=True,
    summary="procedurally drawn flowers in sibling pairs, with captions that say more than the label (default)",
    load=load,
    tasks=(ClientTask.IMAGE_CLASSIFICATION, ClientTask.TEXT_CLASSIFICATION, ClientTask.RETRIEVAL),
    classes=10,
    source="drawn from a seed by this package",
    samples=_samples,
    find_tasks=_tasks,
    check=_check,
)
