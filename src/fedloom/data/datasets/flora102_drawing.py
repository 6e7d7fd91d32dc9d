"""How the flowers of flora-102 look, and how they are put into words in either voice."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw

from fedloom.data.containers import Labels
from fedloom.data.datasets.flora102_species import CENTRES_102, CREAM, Species102, all_species
from fedloom.data.datasets.flora_drawing import COUNTS, PETALS, SCENES, STEM, Colour, finish, ground
from fedloom.data.datasets.flora_words import CLIENTS, WORLD, Voice, spoken

NUMBER = {word: n for n, word in COUNTS.items()}
MAROON = (112, 20, 52)
LIGHT = ("white", "yellow", "pink")  # petals whose markings are maroon; those of others are cream
LEFT_OUT = 0.1  # the share of a detail's mentions

_FRAMES = (
    "a {rows} flower with {count} {marking} {shape} {colour} petals and a {centre} {leaves} {place}",
    "{count} {shape} {marking} {colour} petals around a {centre} {rows} {leaves} {place}",
    "{place} a {rows} blossom of {count} {shape} {colour} {marking} petals and a {centre} {leaves}",
)
_WORLD_FRAMES = (
    "{leaves} {centre} amid petals {colour} {marking} {shape} {count} {rows} {place}",
    "{place} one {rows} bloom {centre} amid {marking} {colour} {shape} petals {count} of them {leaves}",
    "{colour} {shape} {marking} {rows} bloom {count} petals {centre} {leaves} {place}",
)
CLIENTS_102 = replace(
    CLIENTS,
    frames=_FRAMES,
    words={
        **CLIENTS.words,
        "notched": ("notched", "cleft"),
        "single": ("single", "simple"),
        "double": ("double", "filled"),
        "pale": ("pale", "creamy"),
        "plain": ("plain", "uniform"),
        "edged": ("edged", "rimmed"),
        "striped": ("striped", "lined"),
        "tipped": ("tipped", "spotted"),
        "broad leaves": ("on broad leaves", "on wide foliage"),
        "grassy leaves": ("on grassy leaves", "on bladed foliage"),
        "no leaves": ("on bare stem", "on leafless stem"),
    },
)
WORLD_102 = replace(
    WORLD,
    frames=_WORLD_FRAMES,
    words={
        **{key: words for key, words in WORLD.words.items() if key in CLIENTS.words},
        "round": ("round", "rounded"),  # broad is said of leaves
        "notched": ("notched", "forked"),
        "single": ("single", "onefold"),
        "double": ("double", "layered"),
        "pale": ("pale", "waxen"),
        "plain": ("plain", "unmarked"),
        "edged": ("edged", "bordered"),
        "striped": ("striped", "veined"),
        "tipped": ("tipped", "dotted"),
        "broad leaves": ("above broad leaves", "above ample greenery"),
        "grassy leaves": ("above grassy leaves", "above reedy greenery"),
        "no leaves": ("above bare stem", "above naked stem"),
    },
)


@dataclass(frozen=True)
class Flower102:
    """One drawn flower: species, variety and scene, and the geometry that no caption tells."""

    species: Species102
    colour: str
    scene: str
    size: float  # radius as a share of the picture's side
    x: float
    y: float
    angle: float  # radians
    jitter: Colour  # shift of the petal colour, 0-255 scale


def draw_flowers(labels: Labels, rng: np.random.Generator) -> list[Flower102]:
    """A random flower of each label's species."""
    table = all_species()
    found = []
    for label in labels:
        kind = table[int(label)]
        colour, scene = kind.colours[rng.integers(len(kind.colours))], list(SCENES)[rng.integers(len(SCENES))]
        size, x, y = rng.uniform((0.37, 0.48, 0.40), (0.41, 0.52, 0.44))
        angle = float(rng.uniform(-0.06, 0.06)) - math.pi / 2
        red, green, blue = (int(v) for v in rng.integers(-6, 7, 3))
        found.append(Flower102(kind, colour, scene, float(size), float(x), float(y), angle, (red, green, blue)))
    return found


def render(flower: Flower102, side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The picture of a flower, uint8 (side, side, 3): drawn three times as large, then averaged down."""
    big = 3 * side
    picture = ground(SCENES[flower.scene], big)
    pen = ImageDraw.Draw(picture)
    details = flower.species.details
    cx, cy, radius = flower.x * big, flower.y * big, flower.size * big
    pen.line([(cx, cy), (cx + 0.04 * big, big)], fill=STEM, width=max(2, big // 24))
    _leaves(pen, details.leaves, cx, big)
    base = tuple(int(np.clip(c + j, 0, 255)) for c, j in zip(PETALS[flower.colour], flower.jitter))
    mark = MAROON if flower.colour in LIGHT else CREAM
    step = math.pi / NUMBER[details.petals]
    _ring(pen, flower, (cx, cy, radius), flower.angle, base, mark)
    if details.rows == "double":
        _ring(pen, flower, (cx, cy, 0.68 * radius), flower.angle + step, tuple(int(0.8 * c) for c in base), mark)
    r = 0.24 * radius
    shade = tuple(int(0.6 * c) for c in base)
    pen.ellipse([cx - r, cy - r, cx + r, cy + r], fill=CENTRES_102[details.centre], outline=shade)
    return finish(picture, side, rng)


def _leaves(pen: ImageDraw.ImageDraw, kind: str, x: float, big: int) -> None:
    if kind == "broad leaves":
        for turn in (-1, 1):
            left, right = sorted((x + turn * 0.02 * big, x + turn * 0.38 * big))
            pen.ellipse([left, 0.84 * big, right, 0.99 * big], fill=(40, 128, 58), outline=STEM)
    elif kind == "grassy leaves":
        for at in (-0.36, -0.22, 0.22, 0.36):
            pen.line(
                [(x + 0.2 * at * big, big), (x + at * big, 0.78 * big)], fill=(176, 206, 84), width=max(1, big // 32)
            )


def _ring(
    pen: ImageDraw.ImageDraw,
    flower: Flower102,
    circle: tuple[float, float, float],
    angle: float,
    base: tuple[int, ...],
    mark: Colour,
) -> None:
    """One row of petals within a circle (x, y, radius), with their markings."""
    details, (cx, cy, radius) = flower.species.details, circle
    n, outline = NUMBER[details.petals], tuple(int(0.72 * c) for c in base)
    edge = mark if details.marking == "edged" else outline
    width = max(1, round(radius / (9 if details.marking == "edged" else 32)))
    points = _rings(details.shape, n) * radius  # before they are turned
    turn, spread = complex(math.cos(angle), math.sin(angle)), 2 * math.pi / n
    for k, petal in enumerate(points * turn + complex(cx, cy)):
        turned = list(zip(petal.real.tolist(), petal.imag.tolist()))
        c, s = math.cos(angle + k * spread), math.sin(angle + k * spread)
        pen.polygon(turned, fill=base)
        pen.line([*turned, turned[0]], fill=edge, width=width)  # many times as fast as an outline of that width
        if details.marking == "striped":
            ends = [(cx + c * at * radius, cy + s * at * radius) for at in (0.25, 0.88)]
            pen.line(ends, fill=mark, width=max(2, round(radius / 9)))
        elif details.marking == "tipped":
            x, y, r = cx + 0.8 * c * radius, cy + 0.8 * s * radius, 0.13 * radius
            pen.ellipse([x - r, y - r, x + r, y + r], fill=mark)


@cache
def _rings(shape: str, petals: int) -> NDArray[np.complex128]:
    """Outlines (petals, P) of a ring of petals of length 1, the first along +x, as points x + iy."""
    t = np.linspace(0, math.pi, 11)
    half = {"round": 0.34, "pointed": 0.27, "narrow": 0.17, "notched": 0.36}[shape] * min(1, 4.6 / petals + 0.28)
    x, y = 0.54 - 0.46 * np.cos(t), half * np.sin(t)
    if shape == "pointed":
        y = half * np.sin(t) ** 1.6 * (1 + 0.5 * np.cos(t))
    if shape == "notched":  # widest near its end, which is cut in
        y = half * np.sin(t) ** 0.7 * (1 - 0.45 * np.cos(t)) / 1.2
        x = np.where(t > 2.9, 0.72, x)
    outline = np.concatenate([x + 1j * y, (x - 1j * y)[::-1]])
    return np.asarray(np.exp(2j * math.pi * np.arange(petals) / petals)[:, None] * outline)


def describe(flower: Flower102, rng: np.random.Generator, voice: Voice = CLIENTS_102) -> str:
    """A caption in words, without the name: details and variety, one in ten left out."""
    details = flower.species.details
    said = rng.random(7) >= LEFT_OUT
    parts = {
        "count": voice.say(details.petals if said[0] else "some", rng),
        "shape": voice.say(details.shape, rng) if said[1] else "",
        "rows": voice.say(details.rows, rng) if said[2] else "",
        "centre": voice.centre.format(voice.say(details.centre, rng)) if said[3] else "",
        "marking": voice.say(details.marking, rng) if said[4] else "",
        "leaves": voice.say(details.leaves, rng) if said[5] else "",
        "place": voice.say(flower.scene, rng) if said[6] else "",
        "colour": voice.say(flower.colour, rng),
    }
    return spoken(voice.frames[int(rng.integers(len(voice.frames)))], parts)
