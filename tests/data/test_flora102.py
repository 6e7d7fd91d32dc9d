"""flora-102: species in families, varieties that the label does not say, captions in two voices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedloom.config import DataSettings
from fedloom.data.containers import Attribute, FederatedDataset
from fedloom.data.datasets.flora102 import load
from fedloom.data.datasets.flora102_drawing import CLIENTS_102, WORLD_102
from fedloom.data.datasets.flora102_species import DETAILS, all_species, differing
from fedloom.data.datasets.flora_words import vocabulary
from fedloom.data.public_split import confuse_within
from fedloom.data.registry import load_dataset
from fedloom.data.sizes import data_sizes
from fedloom.errors import BadInput
from fedloom.experiment.datasets import cached_dataset

FEW: dict[str, Any] = {"size": 12, "images": 3, "texts": 3, "test": 2, "generic": 6, "reference": 6}


@pytest.fixture(scope="module")
def small() -> FederatedDataset:
    return load(classes=10, seed=1, **FEW)


def test_siblings_differ_in_one_detail_and_strangers_in_two() -> None:
    table = all_species()
    assert len({s.name for s in table}) == len({s.details for s in table}) == 102
    sizes = np.bincount([s.family for s in table])
    assert set(sizes.tolist()) == {2, 3, 4}
    for i, a in enumerate(table):
        for b in table[:i]:
            apart = differing(a.details, b.details)
            assert apart == 1 if a.family == b.family else apart >= 2
            assert a.family != b.family or a.colours == b.colours
    assert {len(s.colours) for s in table} == {2, 3}
    for n in (10, 50):  # no family is cut
        assert table[n - 1].family != table[n].family


def test_no_caption_names_a_species_and_voices_share_half_of_the_words() -> None:
    ours, theirs = vocabulary(CLIENTS_102), vocabulary(WORLD_102)
    names = {s.name for s in all_species()}
    assert not names & (ours | theirs)
    for detail in (value for values in DETAILS.values() for value in values):
        a, b = set(CLIENTS_102.words[detail]), set(WORLD_102.words[detail])
        assert len(a) == len(b) == 2
    single = [d for d in CLIENTS_102.words if " " not in d and len(CLIENTS_102.words[d]) == 2]
    assert all(len(set(CLIENTS_102.words[d]) & set(WORLD_102.words[d])) == 1 for d in single)
    for voice in (CLIENTS_102, WORLD_102):  # a wording has one meaning
        said = [wording for wordings in voice.words.values() for wording in wordings]
        assert len(said) == len(set(said))


def test_captions_fit_a_text_encoder_of_24_tokens(small: FederatedDataset) -> None:
    assert small.public is not None
    texts = [*small.train["text"].texts, *small.public.captions]  # type: ignore[union-attr]
    assert max(len(text.split()) for text in texts) <= 22


def test_attributes_are_of_the_reference_pictures(small: FederatedDataset) -> None:
    assert small.reference is not None
    assert set(small.attributes) == {"colour", *DETAILS}
    for i, label in enumerate(small.reference.labels.tolist()):
        kind = all_species()[label]
        shown = {key: a.values[a.labels[i]] for key, a in small.attributes.items()}
        assert shown["colour"] in kind.colours
        assert all(shown[key] == getattr(kind.details, key) for key in DETAILS)


def test_attributes_survive_the_cache_of_data_sets(small: FederatedDataset) -> None:
    kept = cached_dataset(DataSettings(name="flora-102", options={"classes": 10, "seed": 1, **FEW}))
    for name, attribute in small.attributes.items():
        assert kept.attributes[name].values == attribute.values
        assert np.array_equal(kept.attributes[name].labels, attribute.labels)


def test_flora_has_attributes_too() -> None:
    options = {"size": 12, "images": 10, "texts": 10, "test": 10, "generic": 10, "reference": 20}
    for pairs in ({}, {"pairs": 10, "test_pairs": 10}):
        dataset = load_dataset("flora", **options, **pairs)
        assert {key: len(a.labels) for key, a in dataset.attributes.items()} == dict.fromkeys(
            ("colour", "petals", "shape", "centre"), 20
        )
    said = dataset.reference_captions[0]
    colour = dataset.attributes["colour"]
    assert any(w in said.split() for w in WORLD_102.words[colour.values[colour.labels[0]]])


def test_sizes_are_known_before_it_is_read(small: FederatedDataset) -> None:
    sizes = data_sizes(DataSettings(name="flora-102", options={"classes": 10, **FEW}))
    assert sizes.classes == small.classes == 10
    assert sizes.samples["image"] == (len(small.train["image"]), len(small.test["image"])) == (30, 20)


def test_names_are_confused_within_families_to_different_degrees() -> None:
    labels, families = np.repeat(np.arange(7), 40), np.array([0, 0, 1, 1, 1, 2, 2])
    names = confuse_within(labels, families, 0.4, np.random.default_rng(0), 0.4)
    assert np.array_equal(families[names], families[labels])
    shares = [float((names != labels)[families[labels] == f].mean()) for f in range(3)]
    assert sorted(shares) == pytest.approx([0.0, 0.4, 0.8])
    wrong = names[(labels == 2) & (names != labels)]
    assert abs(int((wrong == 3).sum()) - int((wrong == 4).sum())) <= 1
    alone = confuse_within(np.zeros(9, dtype=np.int64), np.array([0]), 1.0, np.random.default_rng(0))
    assert not alone.any()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"classes": 9}, "classes=9, allowed: 10 to 102"),
        ({"classes": 103}, "classes=103, allowed: 10 to 102"),
        ({"size": 8}, "size=8, allowed: at least 12"),
        ({"test": 0}, "test=0, allowed: 1 or more"),
        ({"confusion": 0.2}, "confusion_spread=0.4, allowed with confusion=0.2: 0 to 0.2"),
    ],
)
def test_bad_options_are_told(options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        load(**{"classes": 10, **FEW, **options})


def test_an_attribute_has_a_label_for_each_reference_picture(small: FederatedDataset) -> None:
    with pytest.raises(BadInput, match="attribute 'colour': 0 samples but 1 labels"):
        FederatedDataset("x", ("a",), {}, {}, attributes={"colour": Attribute.of(["red"], ["red"])})
