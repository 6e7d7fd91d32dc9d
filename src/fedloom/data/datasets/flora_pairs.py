"""flora's pairs: flowers in richer pictures, with captions that tell one picture from two hundred others.

A picture has, besides its flower, a size, a place, one of six grounds, perhaps a visitor in one corner and perhaps a
bud in another: with species and variety 38 400 kinds. A caption says it all in at most 22 words (a text encoder of 24
tokens reads them whole); each detail is left out two times in five, so many captions stay ambiguous.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw

from fedloom.data.containers import Labels
from fedloom.data.datasets.flora_drawing import (
    COUNTS,
    PETALS,
    SCENES,
    SPECIES,
    STEM,
    Colour,
    Flower,
    bloom,
    draw_flowers,
    finish,
    ground,
)
from fedloom.data.datasets.flora_words import CLIENTS, Voice, spoken
from fedloom.data.pairs import ImageTextPairs

LEFT_OUT = 0.4  # the share of a detail's mentions: who understands all finds four in five of 200 pictures by a caption
SIZES = {"small": 0.2, "large": 0.31}  # radius as a share of the picture's side
PLACES = {
    "in the middle": (0.5, 0.5),
    "at upper left": (0.33, 0.33),
    "at upper right": (0.67, 0.33),
    "at lower left": (0.33, 0.67),
    "at lower right": (0.67, 0.67),
}
GROUNDS: dict[str, tuple[Colour, Colour]] = {
    "in meadow": SCENES["a meadow"],
    "under sky": SCENES["the sky"],
    "on sand": ((236, 216, 170), (214, 186, 132)),
    "at night": ((22, 24, 62), (10, 12, 34)),
    "in snow": ((214, 226, 234), (236, 240, 244)),
    "by bricks": ((158, 82, 62), (126, 60, 46)),
}
VISITORS = ("", "bee", "butterfly", "ladybird")
CORNER = 0.13  # how far from the edges a visitor or bud is


@dataclass(frozen=True)
class Sight:
    """What a picture of the pairs shows. ground, place, size, visitor: keys of the tables above; bud: a colour of
    petals; '' for no visitor or bud."""

    flower: Flower
    size: str
    place: str
    ground: str
    visitor: str
    bud: str


def look_closer(labels: Labels, rng: np.random.Generator) -> list[Sight]:
    """A random sight of each label's species."""
    sights = []
    for flower in draw_flowers(labels, rng):
        size, place = (list(table)[rng.integers(len(table))] for table in (SIZES, PLACES))
        (x, y), (dx, dy) = PLACES[place], rng.uniform(-0.04, 0.04, 2)
        placed = replace(flower, size=SIZES[size] * float(rng.uniform(0.9, 1.1)), x=x + float(dx), y=y + float(dy))
        scene = list(GROUNDS)[rng.integers(len(GROUNDS))]
        visitor = VISITORS[rng.integers(len(VISITORS))]
        bud = ("", *PETALS)[rng.integers(len(PETALS) + 1)]
        sights.append(Sight(placed, size, place, scene, visitor, bud))
    return sights


def show(sight: Sight, side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The picture of a sight, uint8 (side, side, 3)."""
    big = 4 * side
    picture = ground(GROUNDS[sight.ground], big)
    pen = ImageDraw.Draw(picture)
    right, low = sight.flower.x < 0.55, sight.flower.y < 0.55  # the corner away from the flower
    x, y = (1 - CORNER if right else CORNER), (1 - CORNER if low else CORNER)
    if sight.bud:
        _bud(pen, (1 - x) * big, y * big, big, PETALS[sight.bud])
    bloom(pen, sight.flower, big)
    if sight.visitor:
        _visitor(pen, sight.visitor, x * big, y * big, 0.11 * big)
    return finish(picture, side, rng)


def _bud(pen: ImageDraw.ImageDraw, x: float, y: float, big: int, colour: Colour) -> None:
    r = 0.1 * big
    pen.line([(x, y), (x, big)], fill=STEM, width=max(2, big // 24))
    pen.ellipse([x - r, y - 1.2 * r, x + r, y + r], fill=colour, outline=STEM, width=max(1, big // 80))


def _visitor(pen: ImageDraw.ImageDraw, kind: str, x: float, y: float, r: float) -> None:
    if kind == "butterfly":
        for turn in (-1, 1):
            wing = [(x, y), (x + turn * 1.1 * r, y - r), (x + turn * 1.1 * r, y + r)]
            pen.polygon(wing, fill=(60, 220, 230))
        pen.line([(x, y - r), (x, y + r)], fill=(20, 20, 20), width=max(1, round(0.3 * r)))
        return
    body = (250, 200, 20) if kind == "bee" else (214, 24, 24)
    pen.ellipse([x - r, y - 0.8 * r, x + r, y + 0.8 * r], fill=body, outline=(20, 20, 20))
    if kind == "bee":
        for at in (-0.3, 0.35):
            pen.line([(x + at * r, y - 0.8 * r), (x + at * r, y + 0.8 * r)], fill=(20, 20, 20), width=round(0.4 * r))
    else:
        pen.pieslice([x - r, y - 0.8 * r, x + r, y + 0.8 * r], 130, 230, fill=(20, 20, 20))


def tell(sight: Sight, rng: np.random.Generator, voice: Voice = CLIENTS) -> str:
    """A caption in words, without the name: `small flower with five round red petals and a dark centre at upper left on
    sand with bee near white bud`, its later parts in any order, details left out at random."""
    kind = SPECIES[sight.flower.species]
    said = rng.random(7) >= LEFT_OUT
    count = COUNTS[kind.petals] if said[0] else "some"
    rest = [
        sight.place if said[4] else "",
        voice.say(sight.ground, rng) if said[5] else "",
        f"with {voice.say(sight.visitor, rng)}" if sight.visitor and said[6] else "",
        f"near {voice.say(sight.bud, rng)} bud" if sight.bud and rng.random() >= LEFT_OUT else "",
    ]
    parts = {
        "size": voice.say(sight.size, rng) if said[1] else "",
        "count": voice.say(count, rng),
        "shape": voice.say(kind.shape, rng) if said[2] else "",
        "colour": voice.say(sight.flower.colour, rng),
        "centre": voice.centre.format(voice.say(kind.centre, rng)) if said[3] else "",
        "rest": " ".join(rest[i] for i in rng.permutation(len(rest))),
    }
    return spoken(voice.sentence, parts)


def draw_pairs(
    labels: Labels, side: int, captions: int, rng: np.random.Generator, voice: Voice = CLIENTS
) -> ImageTextPairs:
    """A picture of each label's species with so many captions each, in the order of the labels."""
    sights: Sequence[Sight] = look_closer(labels, rng)
    images = np.stack([show(sight, side, rng) for sight in sights])
    told = tuple(tell(sight, rng, voice) for sight in sights for _ in range(captions))
    return ImageTextPairs(images, told, np.repeat(np.arange(len(sights), dtype=np.int64), captions))
