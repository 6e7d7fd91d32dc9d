"""The public part: what is taken, what the captions say, who is confused with whom."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import COLOURS
from fedloom.data.captions import telling_words
from fedloom.data.containers import ImageSet, TextSet
from fedloom.data.public_split import (
    Condenser,
    colour_caption,
    confuse,
    look_alikes,
    split_public,
    stratified,
)
from fedloom.errors import BadInput

NAMES = ("apple pie", "tacos", "soup", "rice")


def images(each: int = 10, classes: int = 4) -> ImageSet:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), each)
    base = np.array(COLOURS)[labels][:, None, None]
    noise = rng.integers(-15, 16, (len(labels), 9, 9, 3))
    return ImageSet(np.clip(base + noise, 0, 255).astype(np.uint8), labels)


def texts(each: int = 10) -> TextSet:
    own = ["bake crust cinnamon apples", "shells salsa beef", "broth ladle simmer", "steam grain bowl"]
    words = [f"serve with {own[c]} extra{i}" for c in range(4) for i in range(each)]
    return TextSet(tuple(words), np.repeat(np.arange(4), each))


def test_stratified_takes_a_share_of_every_class() -> None:
    labels = np.array([0] * 10 + [1] * 3 + [2] * 2 + [3])
    taken, rest = stratified(labels, 0.5, np.random.default_rng(0))
    assert sorted([*taken, *rest]) == list(range(16))
    assert np.bincount(labels[taken], minlength=4).tolist() == [5, 2, 1, 0]
    assert np.bincount(labels[stratified(labels, 0.01, np.random.default_rng(0))[0]]).tolist() == [1, 1, 1]


def test_look_alikes_pairs_by_colour() -> None:
    assert look_alikes(images(), 4).tolist() == [3, 2, 1, 0]  # the two reds; green and blue are left
    odd = look_alikes(images(classes=3), 5)
    assert odd[3:].tolist() == [3, 4]  # absent classes are their own sibling
    assert (odd[:3] != np.arange(3)).all()


def test_confuse_exact_share() -> None:
    labels = np.repeat([0, 1], 10)
    names = confuse(labels, np.array([1, 0]), 0.4, np.random.default_rng(0))
    assert (names != labels).sum() == 8
    assert (confuse(labels, np.array([1, 0]), 0.0, np.random.default_rng(0)) == labels).all()
    with pytest.raises(BadInput, match=r"confusion=1\.5"):
        confuse(labels, np.array([1, 0]), 1.5, np.random.default_rng(0))


def test_confusion_may_differ_by_pair() -> None:
    """So no majority of the names is right for all classes, and none is wrong for all."""
    labels, siblings = np.repeat(np.arange(6), 100), np.arange(6) ^ 1
    names = confuse(labels, siblings, 0.5, np.random.default_rng(0), spread=0.4)
    wrong = [int((names[labels == c] != c).sum()) for c in range(6)]
    assert wrong[::2] == wrong[1::2]  # of both siblings as many
    assert sorted(wrong[::2]) == [10, 50, 90]
    assert set(names[labels == 2]) <= {2, 3}
    orders = {
        tuple((confuse(labels, siblings, 0.5, np.random.default_rng(s), 0.4) != labels).tolist()) for s in range(9)
    }
    assert len(orders) > 1  # which pair is confused most is drawn
    with pytest.raises(BadInput, match=r"confusion_spread=0\.4, allowed with confusion=0\.3: 0 to 0\.3"):
        confuse(labels, siblings, 0.3, np.random.default_rng(0), spread=0.4)


def test_condenser_drops_common_words_and_the_name() -> None:
    shorter = Condenser(texts(), NAMES, words=3)
    caption = shorter("Serve with bake crust cinnamon apples extra1 and an unknown word", 0)
    assert caption == "bake crust cinnamon"  # `apples` is the name, `serve with` everybody's
    assert shorter("unheard of", 0) == ""


def test_colour_caption_is_true() -> None:
    image = np.full((8, 8, 3), 250, dtype=np.uint8)
    image[6:] = (200, 30, 30)
    assert colour_caption(image) == "a bright picture, mostly white and red"


def test_unpaired_split() -> None:
    left, generic = split_public({"image": images(), "text": texts()}, NAMES, share=0.3, seed=1)
    assert generic is not None
    assert (len(left["image"]), len(left["text"]), len(generic)) == (28, 28, 12)
    assert len(generic.captions) == 12
    for n, caption in enumerate(generic.captions):
        assert len(caption.split()) <= 12
        assert not set(caption.split()) & set(NAMES[n // 3].split())
    assert "salsa" in generic.captions[3]
    assert len(generic.texts) == 12  # whole, for the tokenizer and for text backbones; no client holds them
    assert not {*generic.texts} & {*left["text"].texts}  # type: ignore[union-attr]
    assert (generic.names != np.repeat(np.arange(4), 3)).sum() == 4  # round(0.4 * 3) in each class


def test_paired_texts_go_with_their_pictures() -> None:
    keys = [f"p{i}" for i in range(40)]
    words = TextSet(tuple(f"about p{i // 2}" for i in range(80)), np.repeat(np.arange(4), 20))
    pairs = {"image": keys, "text": [f"p{i // 2}" for i in range(80)]}
    left, generic = split_public({"image": images(), "text": words}, NAMES, keys=pairs, shorten=False)
    assert generic is not None
    assert (len(left["image"]), len(left["text"]), len(generic)) == (20, 40, 20)
    assert generic.texts == ()  # the captions are whole
    taken = set(generic.captions)
    assert len(taken) == 20
    assert not taken & set(left["text"].texts)  # type: ignore[union-attr]


def test_images_alone_and_texts_alone() -> None:
    _, generic = split_public({"image": images()}, NAMES)
    assert generic is not None
    assert all(caption.startswith("a ") for caption in generic.captions)
    left, generic = split_public({"text": texts()}, NAMES)
    assert generic is not None
    assert (len(left["text"]), len(generic.texts), len(generic.images), generic.captions) == (20, 20, 0, ())
    assert not {*generic.texts} & {*left["text"].texts}  # type: ignore[union-attr]
    assert split_public({"text": texts(each=1)}, NAMES)[1] is None  # none to spare
    left, nothing = split_public({"text": texts()}, NAMES, share=0)
    assert nothing is None
    assert len(left["text"]) == 40


def scans(kind: str) -> ImageSet:
    """Pictures of one colour scheme, whose colours in words are all the same."""
    rng, labels = np.random.default_rng(0), np.arange(40) % 4
    paper, ink = {"scans": (110, 50), "documents": (215, 20), "spectrograms": (210, 150)}[kind]
    pixels = rng.integers(paper - 15, paper + 15, (40, 12, 12, 1)).repeat(3, 3)
    for n in range(40):
        row = 3 * (n % 4)
        pixels[n, row : row + 2, : 4 + n % 7] = ink
    if kind == "spectrograms":
        pixels = pixels * np.array([0.3, 0.5, 1.0])
    return ImageSet(pixels.astype(np.uint8), labels)


@pytest.mark.parametrize("kind", ["scans", "documents", "spectrograms"])
def test_pictures_of_one_colour_scheme_are_told_apart_by_their_light(kind: str) -> None:
    assert not telling_words([colour_caption(image) for image in scans(kind).images])
    _, generic = split_public({"image": scans(kind)}, NAMES)
    assert generic is not None
    words = telling_words(generic.captions)
    assert len(words) >= 8
    assert {"light", "dark", "above", "below"} <= set(words)
    # beside texts in which no word tells anything, too
    same = TextSet(("see picture",) * 40, np.arange(40) % 4)
    _, generic = split_public({"image": scans(kind), "text": same}, NAMES)
    assert generic is not None
    assert len(telling_words(generic.captions)) >= 8


def test_words_of_any_script() -> None:
    own = ["корица яблоки тесто", "соль говядина", "suppe löffel", "米 飯 碗"]
    held = TextSet(tuple(f"{own[n % 4]} {n}" for n in range(40)), np.arange(40) % 4)
    assert {"корица", "löffel", "米"} <= set(telling_words(held.texts))
    assert Condenser(held, NAMES)("яблоки и тесто 3", 0) == "яблоки тесто"


def test_share_limits_and_determinism() -> None:
    train = {"image": images(), "text": texts()}
    left, nothing = split_public(train, NAMES, share=0)
    assert nothing is None
    assert len(left["image"]) == 40
    with pytest.raises(BadInput, match=r"generic_share=1"):
        split_public(train, NAMES, share=1)
    (_, a), (_, b), (_, c) = (split_public(train, NAMES, seed=s) for s in (0, 0, 1))
    assert a is not None
    assert b is not None
    assert c is not None
    assert a.captions == b.captions
    assert (a.names == b.names).all()
    assert (a.images != c.images).any()
