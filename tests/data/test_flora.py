"""flora: the plain scene as it always was, and the richer world of its pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from fedloom.data.containers import FederatedDataset, ImageSet, TextSet
from fedloom.data.datasets.flora import load
from fedloom.data.datasets.flora_drawing import SPECIES, draw_flowers, render
from fedloom.data.datasets.flora_pairs import draw_pairs, look_closer, show, tell
from fedloom.data.datasets.flora_words import CLIENTS, WORLD, describe, vocabulary
from fedloom.errors import BadInput
from fedloom.seeding import numpy_stream

FEW: dict[str, Any] = {"size": 16, "images": 20, "texts": 20, "test": 20, "generic": 20, "reference": 20}


def digest(array: np.ndarray[Any, Any], texts: Sequence[str] = ()) -> str:
    return hashlib.sha256(array.tobytes() + "\n".join(texts).encode()).hexdigest()[:16]


def same(a: FederatedDataset, b: FederatedDataset) -> bool:
    """Whether pictures and texts of the clients are equal."""
    pairs = [(getattr(a, part), getattr(b, part)) for part in ("train", "test")]
    return all(
        np.array_equal(x["image"].images, y["image"].images)
        and np.array_equal(x["image"].labels, y["image"].labels)
        and x["text"].texts == y["text"].texts
        for x, y in pairs
    )


def test_the_plain_scene_stays_what_it_is() -> None:
    """Texts and labels by their digests; pictures, as a drawing library's release may change a pixel,
    by how they were drawn."""
    dataset = load(seed=3, **FEW)
    texts, held_out = dataset.train["text"], dataset.test["text"]
    assert isinstance(texts, TextSet)
    assert isinstance(held_out, TextSet)
    assert digest(texts.labels, texts.texts) == "f9e1958573586827"
    assert digest(held_out.labels, held_out.texts) == "f6c8d7b305c80cfe"
    assert dataset.public is not None
    assert digest(dataset.public.names) == "a9644b4ea511d534"
    rng = numpy_stream(3, "flora", "generic")
    labels = rng.permutation(np.arange(20) % 10)
    flowers = draw_flowers(labels, rng)
    assert np.array_equal(dataset.public.images, np.stack([render(f, 16, rng) for f in flowers]))
    assert dataset.public.captions == tuple(describe(f, rng, WORLD) for f in flowers)
    assert dataset.reference is not None
    assert len(dataset.reference_captions) == len(dataset.reference)
    assert dataset.public.texts == ()
    assert dataset.public_test is None
    assert set(dataset.train) == {"image", "text"}
    assert dataset.one_label_space


def test_with_pairs_everything_is_of_the_richer_world() -> None:
    """Labels, names and who is confused stay; pictures and words are drawn as those of pairs are."""
    plain, dataset = load(**FEW), load(pairs=40, captions=3, test_pairs=30, **FEW)
    assert plain.public
    assert dataset.public
    assert plain.reference
    assert dataset.reference
    parts: dict[str, tuple[Any, Any]] = {
        "generic": (plain.public, dataset.public),
        "reference": (plain.reference, dataset.reference),
        "images": (plain.train["image"], dataset.train["image"]),
        "test images": (plain.test["image"], dataset.test["image"]),
    }
    for name, (one, two) in parts.items():
        rng = numpy_stream(0, "flora", name)
        drawn = draw_pairs(rng.permutation(np.arange(20) % 10), 16, 1, rng, WORLD)
        assert np.array_equal(two.images, drawn.images)
        assert getattr(two, "captions", drawn.captions) == drawn.captions
        if name != "generic":
            assert np.array_equal(one.labels, two.labels)
    assert np.array_equal(plain.public.names, dataset.public.names)
    assert dataset.public.texts == ()
    for part in ("train", "test"):
        before, texts = (getattr(s, part)["text"] for s in (plain, dataset))
        rng = numpy_stream(0, "flora", "texts" if part == "train" else "test texts")
        sights = look_closer(rng.permutation(np.arange(20) % 10), rng)
        assert texts.texts == tuple(tell(s, rng) for s in sights)
        assert np.array_equal(before.labels, texts.labels)
    train, test, own = dataset.pairs("train"), dataset.pairs("test"), dataset.public_test
    assert own is not None
    assert [(len(p), len(p.captions)) for p in (train, test, own)] == [(40, 120), (30, 90), (30, 90)]
    assert not np.array_equal(test.images, own.images)
    assert len(dataset.public.captions) == len(dataset.public.images) == 20
    again = load(pairs=40, captions=3, test_pairs=30, **FEW)
    assert np.array_equal(again.pairs("train").images, train.images)
    assert again.pairs("train").captions == train.captions


def test_pairs_lie_in_the_order_of_their_species() -> None:
    """So shards of neighbours are skewed. Seen by colours: each species has two."""
    pairs = load(pairs=200, captions=1, test_pairs=10, **FEW).pairs("train")
    for c, kind in enumerate(SPECIES):
        words = " ".join(pairs.captions[20 * c : 20 * c + 20])
        assert all(any(f"{word} petals" in words for word in CLIENTS.words[colour]) for colour in kind.colours)
        assert {w for w in words.replace("petals", "").split() if w in {"three", "four", "five", "six", "eight"}} == {
            {3: "three", 4: "four", 5: "five", 6: "six", 8: "eight"}[kind.petals]
        }


def test_captions_tell_pictures_apart() -> None:
    """Most captions are of one picture alone, none names a species, all are short; pictures show what they say."""
    rng = np.random.default_rng(0)
    sights = look_closer(np.arange(200) % 10, rng)
    assert len({(s.flower.species, s.flower.colour, s.size, s.place, s.ground, s.visitor, s.bud) for s in sights}) > 195
    captions = [tell(s, rng) for s in sights]
    assert len(set(captions)) > 180
    assert max(len(c.split()) for c in captions) <= 22
    assert not {kind.name for kind in SPECIES} & {w for c in captions for w in c.split()}
    night, snow = (np.mean([show(s, 16, rng).mean() for s in sights if s.ground == g]) for g in ("at night", "in snow"))
    assert night < 80 < 180 < snow
    left = next(s for s in sights if (s.place, s.ground, s.visitor, s.bud) == ("at upper left", "at night", "", ""))
    picture = show(left, 16, rng).astype(int)
    assert picture[:8, :8].mean() > picture[8:, 8:].mean()


@pytest.mark.parametrize("pairs", [0, 10])
def test_texts_with_a_label_space_of_their_own(pairs: int) -> None:
    species = load(pairs=pairs, **FEW)
    family, colour = (load(pairs=pairs, text_labels=kind, **FEW) for kind in ("family", "colour"))
    assert same(species, family)
    assert family.text_class_names[0] == "poppy or zinnia"
    assert not family.one_label_space
    assert family.names_of("image") == species.class_names
    assert [len(s.names_of("text")) for s in (species, family, colour)] == [10, 5, 7]
    assert np.array_equal(family.labelled("train", "text").labels, species.labelled("train", "text").labels // 2)
    texts = colour.train["text"]
    assert isinstance(texts, TextSet)
    for text, label in zip(texts.texts, texts.labels):
        assert any(f"{word} petals" in text for word in CLIENTS.words[colour.text_class_names[label]])
    images = colour.train["image"]
    assert isinstance(images, ImageSet)
    assert images.labels.max() == 9


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pairs": 9}, "flora: pairs=9, allowed: at least 10"),
        ({"pairs": 10, "test_pairs": 3}, "flora: test_pairs=3"),
        ({"pairs": 10, "captions": 0}, "flora: captions=0, allowed: 1 or more"),
        ({"text_labels": "colours"}, "unknown text_labels 'colours'. Did you mean 'colour'"),
    ],
)
def test_complaints(options: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        load(**{**FEW, **options})


def test_the_public_speaks_in_another_voice_than_the_clients() -> None:
    """Other sentences and, of every detail, half of the words: the captioner never learns how the clients write."""
    assert not set(CLIENTS.frames) & set(WORLD.frames)
    for detail in {*CLIENTS.words} - {"some", "a meadow", "the sky"}:
        ours, theirs = set(CLIENTS.words[detail]), set(WORLD.words[detail])
        assert len(ours & theirs) == 1, detail
        assert (len(ours), len(theirs)) == (2, 2), detail
    flowers = draw_flowers(np.arange(200) % 10, np.random.default_rng(0))
    one, two = ([describe(f, np.random.default_rng(1), voice) for f in flowers] for voice in (CLIENTS, WORLD))
    assert not set(one) & set(two)
    assert max(len(text.split()) for text in one + two) <= 22
    names = {kind.name for kind in SPECIES}
    assert not names & (vocabulary(CLIENTS) | vocabulary(WORLD))
    assert {w for text in one for w in text.split()} <= vocabulary(CLIENTS)


def test_a_tokenizer_knows_the_words_of_both_voices() -> None:
    dataset = load(seed=3, **FEW)
    assert dataset.public is not None
    assert set(dataset.public.words) == vocabulary(CLIENTS)


def test_no_majority_of_the_names_is_right_for_all_species() -> None:
    """Who learns from the names alone is right about some pairs of siblings and wrong about others."""
    confused, truth = (
        load(**{**FEW, "generic": 1000}, **more).public for more in ({}, {"confusion": 0, "confusion_spread": 0})
    )
    assert confused is not None
    assert truth is not None
    right = [float((confused.names == truth.names)[truth.names == c].mean()) for c in range(10)]
    assert sorted(round(r, 2) for r in right[::2]) == [0.05, 0.25, 0.45, 0.65, 0.85]
    assert right[::2] == right[1::2]
