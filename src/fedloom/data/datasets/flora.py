"""flora: flowers drawn from a seed, with captions. The embedded data set: any size, no download, seconds to make.

What it carries, and why:

- Ten species in five *sibling pairs*. The world confuses siblings' names: `PublicData.names` says the sibling's for a
  share of pictures, so a generator that learns from it draws well and names badly. The share is large (0.7) because
  the text tower that the generator listens through knows the true names and pulls the other way: what results is a
  generator that is right for about six prompts in ten.
- Across pairs, species share colour, petal number, petal shape or centre: what a classifier must look at closely.
- Every species has two *varieties* (petal colours), shared with other species: variation within a class that the
  class prompt does not say and a representation can carry.
- Captions describe petals, centre, colour and scene, never the name; each may leave out a detail, so some texts stay
  ambiguous. They say more than the label.
- Image and text samples are drawn apart; only the public part is paired.
- With `pairs` there are clients of pairs too, and everything is of a richer world, where pictures and captions can be
  told apart (see flora_pairs).
- Texts may have a label space of their own (`text_labels`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fedloom.data.containers import ClientData, FederatedDataset, ImageSet, Labels, PublicData, TextSet
from fedloom.data.datasets.flora_drawing import PETALS, SPECIES, Flower, describe, draw_flowers, render
from fedloom.data.datasets.flora_pairs import draw_pairs, look_closer, tell
from fedloom.data.pairs import ImageTextPairs
from fedloom.data.registry import Counts, Dataset
from fedloom.data.tasks import SINGLE_MODALITY, ClientTask
from fedloom.errors import BadInput, unknown
from fedloom.seeding import numpy_stream

SIBLING = np.arange(len(SPECIES)) ^ 1
TextLabels = Literal["species", "family", "colour"]
TEXT_CLASSES: dict[str, tuple[str, ...]] = {
    "species": (),  # those of the pictures
    "family": tuple(f"{a.name} or {b.name}" for a, b in zip(SPECIES[::2], SPECIES[1::2])),
    "colour": tuple(PETALS),
}


def _paint(labels: Labels, side: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    flowers = draw_flowers(labels, rng)
    images = np.stack([render(f, side, rng) for f in flowers])
    return images, tuple(describe(f, rng) for f in flowers)


def _balanced(n: int, rng: np.random.Generator) -> Labels:
    return rng.permutation(np.arange(n, dtype=np.int64) % len(SPECIES))


def load(
    size: int = 24,
    images: int = 400,
    texts: int = 400,
    test: int = 400,
    generic: int = 1800,
    reference: int = 1800,
    confusion: float = 0.7,
    pairs: int = 0,
    captions: int = 2,
    test_pairs: int = 200,
    text_labels: TextLabels = "species",
    seed: int = 0,
) -> FederatedDataset:
    """Draw the data set.

    Args:
        size: side of the pictures in pixels.
        images, texts: samples that the clients share out.
        test: held-out samples of each modality.
        generic: paired pictures and captions that only the server's pretraining sees.
        reference: real pictures for the judge and for FID, seen by no client and no generator.
        confusion: share of the public pictures that carry their sibling's name.
        pairs: pictures with captions that clients of pairs share out, in the order of their species; 0: there are
            none, and everything is of the plain world.
        captions: of each of these pictures.
        test_pairs: held-out ones of the clients, and as many of the server's own.
        text_labels: 'species', the pictures' labels; or a label space of the texts' own: 'family' (five: which two
            siblings) or 'colour' (seven: of the petals).
        seed: what everything is drawn from.

    Raises:
        BadInput: a count below the number of species, a confusion outside [0, 1], an unknown kind of labels.
    """
    counts = {"images": images, "texts": texts, "test": test, "generic": generic, "reference": reference}
    _check(counts | ({"pairs": pairs, "test_pairs": test_pairs} if pairs else {}), confusion, size)
    if captions < 1:
        raise BadInput(f"flora: captions={captions}, allowed: 1 or more")
    if text_labels not in get_args(TextLabels):
        raise unknown("text_labels", str(text_labels), get_args(TextLabels))

    def part(name: str, n: int) -> tuple[NDArray[np.uint8], tuple[str, ...], Labels]:
        rng = numpy_stream(seed, "flora", name)
        labels = _balanced(n, rng)
        if pairs:
            drawn = draw_pairs(labels, size, 1, rng)
            return drawn.images, drawn.captions, labels
        return *_paint(labels, size, rng), labels

    def words(name: str, n: int) -> TextSet:
        rng = numpy_stream(seed, "flora", name)
        labels = _balanced(n, rng)
        if pairs:
            sights = look_closer(labels, rng)
            flowers, said = [s.flower for s in sights], tuple(tell(s, rng) for s in sights)
        else:
            flowers = draw_flowers(labels, rng)
            said = tuple(describe(f, rng) for f in flowers)
        return TextSet(said, _text_labels(flowers, text_labels))

    def paired(name: str, n: int, each: int, by_species: bool = False) -> tuple[ImageTextPairs, Labels]:
        rng = numpy_stream(seed, "flora", name)
        labels = _balanced(n, rng)
        labels = np.sort(labels) if by_species else labels  # neighbours are alike: shards of them are skewed
        return draw_pairs(labels, size, each, rng), labels

    world, told, labels = part("generic", generic)
    wrong = numpy_stream(seed, "flora", "confusion").random(generic) < confusion
    train_images, _, train_labels = part("images", images)
    test_images, _, test_labels = part("test images", test)
    judged, _, judged_labels = part("reference", reference)
    train: dict[ClientTask, ClientData] = {
        ClientTask.IMAGE_CLASSIFICATION: ImageSet(train_images, train_labels),
        ClientTask.TEXT_CLASSIFICATION: words("texts", texts),
    }
    tests: dict[ClientTask, ClientData] = {
        ClientTask.IMAGE_CLASSIFICATION: ImageSet(test_images, test_labels),
        ClientTask.TEXT_CLASSIFICATION: words("test texts", test),
    }
    public_test: ImageTextPairs | None = None
    if pairs:
        train[ClientTask.RETRIEVAL], _ = paired("pairs", pairs, captions, by_species=True)
        tests[ClientTask.RETRIEVAL], _ = paired("test pairs", test_pairs, captions)
        public_test, _ = paired("public test pairs", test_pairs, captions)
    return FederatedDataset(
        name="flora",
        class_names=tuple(kind.name for kind in SPECIES),
        train=train,
        test=tests,
        public=PublicData(world, told, labels, np.where(wrong, SIBLING[labels], labels)),
        reference=ImageSet(judged, judged_labels),
        text_class_names=TEXT_CLASSES[text_labels],
        public_test=public_test,
    )


def _check(counts: Mapping[str, int], confusion: float, size: int) -> None:
    for key, n in counts.items():
        if n < len(SPECIES):
            raise BadInput(f"flora: {key}={n}, allowed: at least {len(SPECIES)} (one of each species)")
    if not 0 <= confusion <= 1:
        raise BadInput(f"flora: confusion={confusion}, allowed: 0 to 1")
    if size < 12:
        raise BadInput(f"flora: size={size}, allowed: at least 12 pixels")


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
    summary="procedurally drawn flowers in sibling pairs, with captions that say more than the label (default)",
    load=load,
    tasks=(ClientTask.IMAGE_CLASSIFICATION, ClientTask.TEXT_CLASSIFICATION, ClientTask.RETRIEVAL),
    classes=10,
    source="drawn from a seed by this package",
    samples=_samples,
    find_tasks=_tasks,
)
