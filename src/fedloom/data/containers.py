"""What a loaded data set is: labelled pictures, texts, and both in one; pairs; split into who may see what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedloom.data.joint import MultimodalSamples
from fedloom.data.pairs import ImageTextPairs
from fedloom.errors import BadInput, unknown
from fedloom.tasks import CLIENT_TASKS as CLIENT_TASKS
from fedloom.tasks import ClientTask, Modality

Labels = NDArray[np.int64]


def _check(labels: Labels, n: int, what: str) -> None:
    if len(labels) != n:
        raise BadInput(f"{what}: {n} samples but {len(labels)} labels")
    if n and labels.min() < 0:
        raise BadInput(f"{what}: label {int(labels.min())} is negative")


def _check_names(names: Sequence[str], what: str) -> None:
    seen = set()
    for name in names:
        if not isinstance(name, str):
            raise BadInput(f"{what}: class name {name!r} is a {type(name).__name__}, expected text")
        if name in seen:
            raise BadInput(f"{what}: class name {name!r} occurs twice, expected a name of its own for each class")
        seen.add(name)


@dataclass(frozen=True)
class ImageSet:
    """Pictures of one size. images uint8 (N, H, W, 3); labels int64 (N,)."""

    images: NDArray[np.uint8]
    labels: Labels

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[-1] != 3:
            raise BadInput(f"images must be uint8 (N, H, W, 3), not {self.images.dtype} {self.images.shape}")
        _check(self.labels, len(self.images), "image set")

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: NDArray[np.int64] | Sequence[int]) -> ImageSet:
        """The samples at `index`, in that order."""
        i = np.asarray(index, dtype=np.int64)
        return ImageSet(self.images[i], self.labels[i])


@dataclass(frozen=True)
class TextSet:
    """Texts, one label each. texts: N strings; labels int64 (N,)."""

    texts: tuple[str, ...]
    labels: Labels

    def __post_init__(self) -> None:
        _check(self.labels, len(self.texts), "text set")

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: NDArray[np.int64] | Sequence[int]) -> TextSet:
        """The samples at `index`, in that order."""
        i = np.asarray(index, dtype=np.int64)
        return TextSet(tuple(self.texts[int(j)] for j in i), self.labels[i])


Samples = ImageSet | TextSet | MultimodalSamples  # with a label each
ClientData = Samples | ImageTextPairs  # what a client may hold
CONTAINERS: Mapping[ClientTask, type[ClientData]] = {
    ClientTask.IMAGE_CLASSIFICATION: ImageSet,
    ClientTask.TEXT_CLASSIFICATION: TextSet,
    ClientTask.RETRIEVAL: ImageTextPairs,
    ClientTask.MULTIMODAL_CLASSIFICATION: MultimodalSamples,
}


@dataclass(frozen=True)
class Attribute:
    """Something that pictures show besides their class. values: V words; labels int64 (N,) of N pictures, in 0..V-1."""

    values: tuple[str, ...]
    labels: Labels

    @classmethod
    def of(cls, shown: Sequence[str], values: Sequence[str]) -> Attribute:
        """From a word for each picture."""
        number = {value: n for n, value in enumerate(values)}
        return cls(tuple(values), np.array([number[word] for word in shown], dtype=np.int64))


@dataclass(frozen=True)
class PublicData:
    """Pictures and captions that no client has, for pretraining the server's models.

    images uint8 (N, H, W, 3); captions: N descriptions that do not name the class; names (N,): the class each picture
    is *said* to show, some of them wrong: the imperfect class knowledge of a real generator (FedMMKT, Fig. 3). What it
    does show stands nowhere: a server must not know. texts: the whole texts that captions are cut down from, what the
    clients' texts read like. A public set of pairs has no classes: names are zeros.
    """

    images: NDArray[np.uint8]
    captions: tuple[str, ...]
    names: Labels
    texts: tuple[str, ...] = ()
    words: tuple[str, ...] = ()  # besides, that a public tokenizer knows, as a hub's knows a language

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class FederatedDataset:
    """A whole data set. Modalities are the keys of `train` and `test`; a data set may lack some of them.

    Pictures, texts and multimodal samples have labels, of one label space unless `text_class_names` says otherwise;
    pairs have none.
    """

    name: str
    class_names: tuple[str, ...]
    train: Mapping[ClientTask, ClientData]  # what clients share out among themselves
    test: Mapping[ClientTask, ClientData]  # never trained or tuned on
    public: PublicData | None = None
    reference: ImageSet | None = None  # real pictures for what scores, where there are more than the clients' own
    reference_captions: tuple[str, ...] = ()  # of these, where there are any: the scoring CLIP learns them
    notes: Mapping[str, Any] = field(default_factory=dict)  # counts of skipped files and the like, for people
    text_class_names: tuple[str, ...] = ()  # the label space of texts where it is not the pictures'
    public_test: ImageTextPairs | None = None  # pairs that a server's own retrieval is scored on, trained on by nobody
    digest: str = ""  # of all samples, where they come from the cache: what a run that is resumed must find again
    also_named: Mapping[str, str] = field(default_factory=dict)  # class name -> the second name its prompt has
    attributes: Mapping[str, Attribute] = field(
        default_factory=dict
    )  # of the reference pictures; only scores read them
    # "train" and "test" -> whose kind each sample of a task is, such as a vendor's style or a language: what
    # `data.by_group` keeps apart. Absent where a task has no groups.
    groups: Mapping[str, Mapping[ClientTask, Attribute]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for names in (self.class_names, self.text_class_names):
            _check_names(names, self.name)
        for name, attribute in self.attributes.items():
            _check(attribute.labels, 0 if self.reference is None else len(self.reference), f"attribute {name!r}")
        for part, sets in (("train", self.train), ("test", self.test)):
            for modality, group in self.groups.get(part, {}).items():
                _check(group.labels, len(sets[modality]), f"groups of {part} {modality}")
            for modality, held in sets.items():
                if modality not in CLIENT_TASKS:
                    raise unknown("modality", str(modality), CLIENT_TASKS)
                if not isinstance(held, CONTAINERS[modality]):
                    raise BadInput(f"{self.name}: {part} {modality} is a {type(held).__name__}")
                if isinstance(held, ImageTextPairs) or not len(held):
                    continue
                C = len(self.names_of(modality))
                if held.labels.max() >= C:
                    raise BadInput(
                        f"{self.name}: {part} {modality} label {int(held.labels.max())} is out of range, "
                        f"allowed 0..{C - 1}"
                    )
        self._check_sides()

    def _check_sides(self) -> None:
        """BadInput for pictures of two sizes: one network sees all of them."""
        sets = {f"{part} {task}": held for part in ("train", "test") for task, held in getattr(self, part).items()}
        sets |= {"public": self.public, "reference": self.reference, "public test": self.public_test}
        sizes = {}
        for what, held in sets.items():
            pictures = held.parts.get(Modality.IMAGE) if isinstance(held, MultimodalSamples) else held
            images = getattr(pictures, "images", pictures)
            if isinstance(images, np.ndarray) and len(images):
                sizes[what] = images.shape[-3:-1]
        first = next(iter(sizes), "")
        for what, size in sizes.items():
            if size != sizes[first]:
                (h, w), (h0, w0) = size, sizes[first]
                raise BadInput(
                    f"{self.name}: {what} pictures of {h} x {w} pixels, {first} of {h0} x {w0}: give one size"
                )

    @property
    def classes(self) -> int:
        """C, the number of classes: of pictures, and of texts where they have no label space of their own."""
        return len(self.class_names)

    @property
    def one_label_space(self) -> bool:
        """Whether the labels of pictures and of texts mean the same."""
        return not self.text_class_names

    def names_of(self, modality: ClientTask) -> tuple[str, ...]:
        """The class names of a modality; pairs have none."""
        if modality == ClientTask.RETRIEVAL:
            return ()
        return (modality == ClientTask.TEXT_CLASSIFICATION and self.text_class_names) or self.class_names

    def labelled(self, part: Literal["train", "test"], modality: ClientTask) -> Samples:
        """The labelled samples of a part. BadInput where it holds none of that modality, or pairs."""
        held = self._held(part, modality)
        if isinstance(held, ImageTextPairs):
            raise BadInput(f"{self.name}: {part} pairs have no labels")
        return held

    def pairs(self, part: Literal["train", "test"]) -> ImageTextPairs:
        """The pairs of a part. BadInput where there are none."""
        held = self._held(part, ClientTask.RETRIEVAL)
        assert isinstance(held, ImageTextPairs)  # __post_init__
        return held

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The two modalities of its multimodal samples; () where there are none."""
        for held in (
            self.train.get(ClientTask.MULTIMODAL_CLASSIFICATION),
            self.test.get(ClientTask.MULTIMODAL_CLASSIFICATION),
        ):
            if isinstance(held, MultimodalSamples):
                return held.modalities
        return ()

    def _held(self, part: Literal["train", "test"], modality: ClientTask) -> ClientData:
        sets = self.train if part == "train" else self.test
        if modality not in sets:
            raise BadInput(f"{self.name}: no {part} {modality}s, there are: {', '.join(sets) or 'none'}")
        return sets[modality]

    def prompt(self, label: int) -> str:
        """The class prompt of FedMMKT's appendix A: `A picture of NAME.`, or `A picture of NAME, also named LATIN.`"""
        name = self.class_names[label]
        also = self.also_named.get(name)
        return f"A picture of {name}, also named {also}." if also else f"A picture of {name}."

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts of all C classes, in order."""
        return tuple(self.prompt(label) for label in range(self.classes))
