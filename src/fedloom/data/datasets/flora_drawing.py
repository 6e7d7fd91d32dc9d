"""How flora's flowers look: the species, and a picture of a flower. Their words are in `flora_words`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fedloom.data.containers import Labels

Colour = tuple[int, int, int]
PETALS = {
    "red": (208, 42, 48),
    "yellow": (244, 208, 48),
    "blue": (66, 92, 214),
    "white": (244, 242, 238),
    "purple": (140, 60, 176),
    "orange": (240, 130, 36),
    "pink": (240, 140, 180),
}
CENTRES = {"golden": (250, 196, 30), "dark": (52, 34, 30), "green": (110, 160, 60)}
SCENES = {"a meadow": ((88, 150, 70), (58, 110, 48)), "the sky": ((150, 200, 240), (110, 170, 226))}
STEM = (60, 104, 44)
COUNTS = {3: "three", 4: "four", 5: "five", 6: "six", 8: "eight"}


@dataclass(frozen=True)
class Species:
    """A species: petal number, petal shape (`round`, `pointed` or `narrow`), centre, and its two petal colours."""

    name: str
    petals: int
    shape: str
    centre: str
    colours: tuple[str, str]


# Siblings stand next to each other: 0-1, 2-3, ...
SPECIES = (
    Species("poppy", 4, "round", "dark", ("red", "white")),
    Species("zinnia", 8, "narrow", "dark", ("orange", "pink")),
    Species("lily", 6, "pointed", "green", ("pink", "white")),
    Species("cosmos", 8, "round", "golden", ("purple", "red")),
    Species("daisy", 8, "narrow", "golden", ("white", "blue")),
    Species("buttercup", 5, "round", "green", ("yellow", "orange")),
    Species("iris", 3, "round", "golden", ("blue", "purple")),
    Species("clematis", 6, "pointed", "dark", ("red", "yellow")),
    Species("periwinkle", 5, "round", "dark", ("blue", "purple")),
    Species("trillium", 3, "pointed", "green", ("yellow", "pink")),
)


@dataclass(frozen=True)
class Flower:
    """One drawn flower: its species, variety and scene, and the geometry that the caption does not tell."""

    species: int
    colour: str
    scene: str
    size: float  # radius as a share of the picture's side
    x: float
    y: float
    angle: float  # radians
    jitter: Colour  # shift of the petal colour, 0-255 scale


def draw_flowers(labels: Labels, rng: np.random.Generator) -> list[Flower]:
    """A random flower of each label's species."""
    flowers = []
    for label in labels:
        kind = SPECIES[int(label)]
        flowers.append(
            Flower(
                int(label),
                kind.colours[rng.integers(2)],
                list(SCENES)[rng.integers(len(SCENES))],
                float(rng.uniform(0.42, 0.46)),
                float(rng.uniform(0.49, 0.51)),
                float(rng.uniform(0.49, 0.51)),
                float(rng.uniform(-0.06, 0.06)) - math.pi / 2,
                tuple(int(v) for v in rng.integers(-6, 7, 3)),  # type: ignore[arg-type]
            )
        )
    return flowers


def _petal(shape: str, length: float, petals: int) -> list[tuple[float, float]]:
    """Outline of a petal that points along +x, from the centre to `length`, as points of a polygon."""
    t = np.linspace(0, math.pi, 9)
    half = {"round": 0.34, "pointed": 0.27, "narrow": 0.19}[shape] * length * min(1.0, 4.6 / petals + 0.28)
    x = 0.54 * length - 0.46 * length * np.cos(t)
    y = half * np.sin(t) if shape != "pointed" else half * np.sin(t) ** 1.6 * (1 + 0.5 * np.cos(t))
    return [*zip(x, y), *zip(x[::-1], -y[::-1])]


def render(flower: Flower, side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The picture of a flower, uint8 (side, side, 3): drawn four times as large, then averaged down."""
    picture = ground(SCENES[flower.scene], 4 * side)
    bloom(ImageDraw.Draw(picture), flower, 4 * side)
    return finish(picture, side, rng)


def ground(colours: tuple[Colour, Colour], big: int) -> Image.Image:
    """What a flower stands before: a ramp from the upper colour to the lower one, `big` pixels a side."""
    top, bottom = colours
    ramp = np.linspace(0, 1, big)[:, None, None]
    shades = (1 - ramp) * np.array(top) + ramp * np.array(bottom)
    return Image.fromarray(np.broadcast_to(shades, (big, big, 3)).astype(np.uint8))


def bloom(pen: ImageDraw.ImageDraw, flower: Flower, big: int) -> None:
    """Draw a flower with its stem on a picture of `big` pixels a side."""
    kind = SPECIES[flower.species]
    cx, cy, radius = flower.x * big, flower.y * big, flower.size * big
    pen.line([(cx, cy), (cx + 0.06 * big, big)], fill=STEM, width=max(2, big // 24))
    base = [int(np.clip(c + j, 0, 255)) for c, j in zip(PETALS[flower.colour], flower.jitter)]
    shade = tuple(int(0.72 * c) for c in base)
    outline = _petal(kind.shape, radius, kind.petals)
    for k in range(kind.petals):
        a = flower.angle + 2 * math.pi * k / kind.petals
        turned = [(cx + math.cos(a) * x - math.sin(a) * y, cy + math.sin(a) * x + math.cos(a) * y) for x, y in outline]
        pen.polygon(turned, fill=tuple(base), outline=shade, width=max(1, big // 80))
    r = 0.27 * radius
    pen.ellipse([cx - r, cy - r, cx + r, cy + r], fill=CENTRES[kind.centre], outline=shade)


def finish(picture: Image.Image, side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The picture averaged down to `side` pixels, with a little noise."""
    small = np.asarray(picture.resize((side, side), Image.Resampling.BOX), dtype=np.float32)
    return np.clip(small + rng.normal(0, 2, small.shape), 0, 255).astype(np.uint8)
