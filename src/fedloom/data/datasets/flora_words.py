"""How flora is put into words: in one voice by the public world, in another by the clients.

Both voices say the same things of a flower, in other sentences. Of each detail they share a word and have one of their
own: who has only heard one voice understands half the words of the other, as a hub's captioner does of a site's notes.
No voice names a species.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fedloom.data.datasets.flora_drawing import COUNTS, SPECIES, Flower


@dataclass(frozen=True)
class Voice:
    """words: each detail's wordings, one of which is drawn. frames: sentences for a picture of a flower alone.

    The parts of a frame are {count}, {shape}, {colour}, {centre} and {place}; `centre` is the wording of the centre;
    the sentence is that of the richer world, with {size} and {rest} besides: see `flora_pairs`.
    """

    words: Mapping[str, tuple[str, ...]]
    frames: tuple[str, ...]
    centre: str
    sentence: str

    def say(self, detail: str, rng: np.random.Generator) -> str:
        """A wording of a detail; "" of none."""
        wordings = self.words.get(detail, (detail,))
        return wordings[int(rng.integers(len(wordings)))]


CLIENTS = Voice(
    words={
        "three": ("three", "triple"),
        "four": ("four", "quadruple"),
        "five": ("five", "quintuple"),
        "six": ("six", "sextuple"),
        "eight": ("eight", "octuple"),
        "some": ("some",),
        "round": ("round", "oval"),
        "pointed": ("pointed", "sharp"),
        "narrow": ("narrow", "thin"),
        "red": ("red", "scarlet"),
        "yellow": ("yellow", "canary"),
        "blue": ("blue", "navy"),
        "white": ("white", "snowy"),
        "purple": ("purple", "plum"),
        "orange": ("orange", "tangerine"),
        "pink": ("pink", "coral"),
        "golden": ("golden", "honey"),
        "dark": ("dark", "black"),
        "green": ("green", "olive"),
        "a meadow": ("in front of a meadow", "in front of grass"),
        "the sky": ("in front of the sky", "in front of clouds"),
    },
    frames=(
        "a flower with {count} {shape} {colour} petals and a {centre} {place}",
        "{count} {shape} {colour} petals around a {centre} {place}",
        "{place} a blossom of {count} {shape} {colour} petals and a {centre}",
    ),
    centre="{} centre",
    sentence="{size} flower with {count} {shape} {colour} petals and {centre} {rest}",
)
WORLD = Voice(
    words={
        "three": ("three", "treble"),
        "four": ("four", "fourfold"),
        "five": ("five", "fivefold"),
        "six": ("six", "sixfold"),
        "eight": ("eight", "eightfold"),
        "some": ("some",),
        "round": ("round", "broad"),
        "pointed": ("pointed", "tapering"),
        "narrow": ("narrow", "slender"),
        "red": ("red", "crimson"),
        "yellow": ("yellow", "lemon"),
        "blue": ("blue", "azure"),
        "white": ("white", "ivory"),
        "purple": ("purple", "mauve"),
        "orange": ("orange", "amber"),
        "pink": ("pink", "rosy"),
        "golden": ("golden", "brass"),
        "dark": ("dark", "sooty"),
        "green": ("green", "mossy"),
        "a meadow": ("over a meadow", "over turf"),
        "the sky": ("under the sky", "under haze"),
        "small": ("small", "tiny"),
        "large": ("large", "huge"),
        "bee": ("bee", "bumblebee"),
        "butterfly": ("butterfly", "moth"),
        "ladybird": ("ladybird", "beetle"),
        "in meadow": ("in meadow", "in turf"),
        "under sky": ("under sky", "under haze"),
        "on sand": ("on sand", "on dunes"),
        "at night": ("at night", "at midnight"),
        "in snow": ("in snow", "in frost"),
        "by bricks": ("by bricks", "by masonry"),
    },
    frames=(
        "{centre} amid petals {colour} {shape} {count} {place}",
        "{place} one bloom {centre} amid {colour} {shape} petals {count} of them",
        "{colour} {shape} bloom {count} petals {centre} {place}",
    ),
    centre="{} eye",
    sentence="{rest} {centre} petals {colour} {shape} {count} on {size} bloom",
)


def describe(flower: Flower, rng: np.random.Generator, voice: Voice = CLIENTS) -> str:
    """A caption in words, without the name. One detail in ten is left out, so that some captions stay ambiguous."""
    kind = SPECIES[flower.species]
    said = rng.random(4) > 0.1
    parts = {
        "count": voice.say(COUNTS[kind.petals] if said[0] else "some", rng),
        "shape": voice.say(kind.shape, rng) if said[1] else "",
        "colour": voice.say(flower.colour, rng),
        "centre": voice.centre.format(voice.say(kind.centre, rng)) if said[2] else "",
        "place": voice.say(flower.scene, rng) if said[3] else "",
    }
    return spoken(voice.frames[int(rng.integers(len(voice.frames)))], parts)


def vocabulary(voice: Voice) -> set[str]:
    """All words of a voice."""
    phrases = [*(w for wordings in voice.words.values() for w in wordings), *voice.frames, voice.centre]
    return {word for phrase in phrases for word in phrase.split() if "{" not in word}


def spoken(frame: str, parts: Mapping[str, str]) -> str:
    """A frame filled in, without the words that would join a centre that is left out."""
    if not parts["centre"]:
        for link in ("and a ", "around a ", "and ", "amid "):
            frame = frame.replace(link + "{centre}", "").replace("{centre} " + link, "")
    return " ".join(frame.format(**parts).split())
