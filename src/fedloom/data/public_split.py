"""The public part of a real data set: captioned pictures of no client, partly under a wrong name.

It stands for what a server's text-to-image model was pretrained on. Its captions do not name the class; its names do,
and a share of them is a sibling's: a generator confuses classes that look alike.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedloom.data.captions import colour_caption as colour_caption
from fedloom.data.captions import light_captions, telling_words
from fedloom.data.containers import ImageSet, Labels, PublicData, Samples, TextSet
from fedloom.errors import BadInput
from fedloom.seeding import numpy_stream
from fedloom.tasks import ClientTask

Index = NDArray[np.int64]
WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|['-]){2,}")  # letters of any script
COMMON = 0.15  # a word in more than this share of all texts tells no class from another ...
OWN = 1.5  # ... unless classes are few: a word that one class of C has to itself is in 1/C of the texts


def stratified(labels: Labels, share: float, rng: np.random.Generator) -> tuple[Index, Index]:
    """Sorted indices of a random `share` of every class, and of the rest.

    Of a class with two samples or more, each side gets at least one when 0 < share < 1; a single one is rest.
    """
    taken = []
    for c in np.unique(labels):
        own = np.flatnonzero(labels == c)
        n = round(share * len(own))
        if 0 < share < 1:
            n = min(max(n, 1), len(own) - 1)
        taken.append(rng.permutation(own)[:n])
    mask = np.zeros(len(labels), dtype=bool)
    mask[np.concatenate([*taken, np.empty(0, dtype=np.int64)]).astype(np.int64)] = True
    return np.flatnonzero(mask), np.flatnonzero(~mask)


def look_alikes(images: ImageSet, classes: int) -> Labels:
    """The sibling of each class, int64 (C,): pairs whose mean pictures are closest, closest pair first.

    A class's mean picture is the mean over its images of a 4 x 4 grid of colours, with their spread. A class
    left over (an odd number) gets the nearest of all; one without images is its own sibling.
    """
    n, side = len(images), images.images.shape[1]
    edges = np.arange(4) * side // 4
    sums = np.add.reduceat(np.add.reduceat(images.images, edges, axis=1, dtype=np.int64), edges, axis=2)
    cells = np.diff([*edges, side])
    grid = (sums / (cells[:, None, None] * cells[None, :, None])).reshape(n, -1)  # (N, 48)
    present = np.unique(images.labels)
    sibling = np.arange(classes, dtype=np.int64)
    if len(present) < 2:
        return sibling
    own = [grid[images.labels == c] for c in present]
    features = np.stack([np.concatenate([g.mean(0), g.std(0)]) for g in own])  # (C, 96)
    apart = np.linalg.norm(features[:, None] - features[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    free = np.ones(len(present), dtype=bool)
    while free.sum() > 1:
        among = np.where(free[:, None] & free[None], apart, np.inf)
        i, j = np.unravel_index(int(np.argmin(among)), among.shape)
        sibling[present[i]], sibling[present[j]] = present[j], present[i]
        free[[i, j]] = False
    for i in np.flatnonzero(free):
        sibling[present[i]] = present[int(np.argmin(apart[i]))]
    return sibling


def confuse(labels: Labels, siblings: Labels, share: float, rng: np.random.Generator, spread: float = 0.0) -> Labels:
    """`labels` with a `share` of every class, to the nearest whole sample, replaced by its sibling.

    With a spread the share of each pair of siblings differs, evenly from `share - spread` to `share + spread` in an
    order that is drawn. Where one share of less than a half holds for all, whoever learns the names learns the truth
    from the majority.

    Raises:
        BadInput: a share, with its spread, outside [0, 1].
    """
    check_confusion(share, spread)
    names, present = labels.copy(), np.unique(labels)
    pairs = np.unique([min(c, siblings[c]) for c in present])
    shares = (
        share + spread * np.linspace(-1, 1, len(pairs)) if spread and len(pairs) > 1 else np.full(len(pairs), share)
    )
    shares = rng.permutation(shares) if spread else shares
    for c in present:
        own = rng.permutation(np.flatnonzero(labels == c))
        of = shares[np.searchsorted(pairs, min(c, siblings[c]))]
        names[own[: round(float(of) * len(own))]] = siblings[c]
    return names


def confuse_within(
    labels: Labels, families: Labels, share: float, rng: np.random.Generator, spread: float = 0.0
) -> Labels:
    """`confuse` for families of any size: a share of every class carries the name of one of its siblings, drawn evenly.

    Args:
        families: int (C,), the family of each class. A class without siblings keeps its name.
        share, spread: as of `confuse`, over families.

    Raises:
        BadInput: as `confuse`.
    """
    check_confusion(share, spread)
    names, kinds = labels.copy(), np.unique(families)
    shares = rng.permutation(share + spread * (np.linspace(-1, 1, len(kinds)) if len(kinds) > 1 else np.zeros(1)))
    for c in np.unique(labels):
        siblings = np.flatnonzero((families == families[c]) & (np.arange(len(families)) != c))
        if not len(siblings):
            continue
        own = rng.permutation(np.flatnonzero(labels == c))
        own = own[: round(float(shares[np.searchsorted(kinds, families[c])]) * len(own))]
        names[own] = siblings[(np.arange(len(own)) + int(rng.integers(len(siblings)))) % len(siblings)]
    return names


def check_confusion(share: float, spread: float) -> None:
    """Raise BadInput unless names can be confused so, see `confuse`."""
    if not 0 <= share <= 1:
        raise BadInput(f"confusion={share}, allowed: 0 to 1")
    if not 0 <= spread <= min(share, 1 - share) + 1e-9:
        most = min(share, 1 - share)
        raise BadInput(f"confusion_spread={spread}, allowed with confusion={share}: 0 to {most:g}; set both")


class Condenser:
    """Cuts texts down to their salient words, learnt from a set of texts.

    Salient: not used by more than 15 % of all texts (with few classes: 1.5 / C), and not part of the class's own name
    (nor its plural or singular). The `words` that the class uses most beyond the others are kept, in the text's order.
    """

    def __init__(self, texts: TextSet, class_names: Sequence[str], words: int = 12) -> None:
        found = [set(WORD.findall(t.lower())) for t in texts.texts]
        everywhere = Counter(w for f in found for w in f)
        limit = max(COMMON, OWN / len(class_names)) * len(found)
        common = {w for w, n in everywhere.items() if n > limit}
        by_class: dict[int, list[set[str]]] = {}
        for words_in, label in zip(found, texts.labels.tolist()):
            by_class.setdefault(label, []).append(words_in)
        self._words = words
        self._names = [set(WORD.findall(name.lower())) for name in class_names]
        self._weight: list[dict[str, float]] = []
        for c in range(len(class_names)):
            own = by_class.get(c, [])
            inside = Counter(w for f in own for w in f)
            # How often the class uses the word, times how much of the word's use is the class's own.
            self._weight.append({w: n / len(own) * n / everywhere[w] for w, n in inside.items() if w not in common})

    def __call__(self, text: str, label: int) -> str:
        """The caption of a text of class `label`; empty when no word is left."""
        stems = {w.rstrip("s") for w in self._names[label]}
        weight = self._weight[label]
        words = [w for w in dict.fromkeys(WORD.findall(text.lower())) if w in weight and w.rstrip("s") not in stems]
        best = set(sorted(words, key=lambda w: (-weight[w], w))[: self._words])
        return " ".join(w for w in words if w in best)


def _captions(
    images: ImageSet,
    own: Mapping[int, Sequence[str]],
    texts: TextSet | None,
    class_names: Sequence[str],
    shorten: bool,
    rng: np.random.Generator,
) -> tuple[str, ...]:
    """A caption for each picture: one of its own texts, else one of its class, else its colours.

    Where no word of these tells pictures apart, what is said of light and detail takes the place of the colours.
    """
    shorter = Condenser(texts, class_names) if shorten and texts is not None else None
    by_class: dict[int, list[str]] = {}
    for text, label in zip(texts.texts, texts.labels) if texts is not None else ():
        by_class.setdefault(int(label), []).append(text)
    captions = []
    for i, label in enumerate(images.labels.tolist()):
        choice = own.get(i) or by_class.get(label, ())
        text = choice[int(rng.integers(len(choice)))] if choice else ""
        caption = shorter(text, label) if shorter else text
        captions.append(caption)
    bare = [i for i, caption in enumerate(captions) if not caption]
    for i in bare:
        captions[i] = colour_caption(images.images[i])
    if bare and not telling_words(captions):
        for i, caption in zip(bare, light_captions(images.images[bare])):
            captions[i] = caption
    return tuple(captions)


def split_public(
    train: Mapping[ClientTask, Samples],
    class_names: Sequence[str],
    *,
    share: float = 0.5,
    confusion: float = 0.4,
    seed: int = 0,
    keys: Mapping[ClientTask, Sequence[str]] | None = None,
    siblings: Labels | None = None,
    shorten: bool = True,
) -> tuple[dict[ClientTask, Samples], PublicData | None]:
    """Take a share of the training images, and of the texts, away from the clients as the public part.

    Args:
        train, class_names: the training samples of each task, and C names.
        share, seed: of every class's images and texts, drawn from the seed. 0: there is no public part.
        confusion: share of the public images that carry their sibling's name.
        keys: of paired images and texts: all texts of equal key are the captions of a public image, and the others
            stay with the clients.
        siblings: int (C,); default: look_alikes of the public images.
        shorten: captions are the salient words of a text (recipes, titles, reports), see Condenser; else the text.

    Returns:
        What is left for the clients, and the public part: None with share 0; of texts alone it has no pictures and no
        captions. Unpaired images get the words of a public text of their class, or else for their colours or light.

    Raises:
        BadInput: share outside [0, 1) or above 0 with no class of two images; confusion outside [0, 1].
    """
    if not 0 <= share < 1:
        raise BadInput(f"generic_share={share}, allowed: 0 (no public part) up to, not including, 1")
    images, texts = train.get(ClientTask.IMAGE_CLASSIFICATION), train.get(ClientTask.TEXT_CLASSIFICATION)
    if share == 0 or not isinstance(images, ImageSet):
        return _texts_alone(train, share, seed)
    taken, rest = stratified(images.labels, share, numpy_stream(seed, "generic images"))
    if not len(taken):
        raise BadInput(f"generic_share={share}, but no class has two training images; allowed here: 0")
    left: dict[ClientTask, Samples] = {ClientTask.IMAGE_CLASSIFICATION: images.subset(rest)}
    world = images.subset(taken)
    own: dict[int, list[str]] = {}
    public_texts = None
    if isinstance(texts, TextSet):
        going, kept, own = _split_texts(texts, taken, share, keys, seed)
        left[ClientTask.TEXT_CLASSIFICATION], public_texts = texts.subset(kept), texts.subset(going)
    siblings = look_alikes(world, len(class_names)) if siblings is None else siblings
    captions = _captions(world, own, public_texts, class_names, shorten, numpy_stream(seed, "generic captions"))
    names = confuse(world.labels, siblings, confusion, numpy_stream(seed, "generic names"))
    whole = public_texts.texts if public_texts is not None and shorten else ()
    return left, PublicData(world.images, captions, names, whole)


def _split_texts(
    texts: TextSet, taken: Index, share: float, keys: Mapping[ClientTask, Sequence[str]] | None, seed: int
) -> tuple[Index, Index, dict[int, list[str]]]:
    """The texts that are public, the rest, and the texts of the n-th taken image: those of its key, if any."""
    if keys is None:
        return *stratified(texts.labels, share, numpy_stream(seed, "generic texts")), {}
    image_keys, text_keys = keys[ClientTask.IMAGE_CLASSIFICATION], keys[ClientTask.TEXT_CLASSIFICATION]
    at = {image_keys[i]: n for n, i in enumerate(taken.tolist())}
    goes = np.array([key in at for key in text_keys], dtype=bool)
    own: dict[int, list[str]] = {}
    for j in np.flatnonzero(goes).tolist():
        own.setdefault(at[text_keys[j]], []).append(texts.texts[j])
    return np.flatnonzero(goes), np.flatnonzero(~goes), own


def _texts_alone(
    train: Mapping[ClientTask, Samples], share: float, seed: int
) -> tuple[dict[ClientTask, Samples], PublicData | None]:
    """A share of every class's texts as a public part without pictures; nothing where there are no texts."""
    texts = train.get(ClientTask.TEXT_CLASSIFICATION)
    if not isinstance(texts, TextSet):
        return dict(train), None
    going, kept = stratified(texts.labels, share, numpy_stream(seed, "generic texts"))
    if not len(going):
        return dict(train), None
    none = np.zeros(0, dtype=np.int64)
    whole = PublicData(np.zeros((0, 1, 1, 3), dtype=np.uint8), (), none, texts.subset(going).texts)
    return {**train, ClientTask.TEXT_CLASSIFICATION: texts.subset(kept)}, whole
