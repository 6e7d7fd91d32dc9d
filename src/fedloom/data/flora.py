"""flora: flowers drawn from a seed, with captions. The embedded data set: any size, no download, seconds to make.

What it carries, and why:

- Ten species in five *sibling pairs*. The world confuses siblings' names: `Generic.names` says the sibling's for a
  share of pictures, so a generator that learns from it draws well and names badly. The share is large (0.7) because
  the text tower that the generator listens through knows the true names and pulls the other way: what results is a
  generator that is right for about six prompts in ten.
- Across pairs, species share colour, petal number, petal shape or centre: what a classifier must look at closely.
- Every species has two *varieties* (petal colours), shared with other species: variation within a class that the
  class prompt does not say and a representation can carry.
- Captions describe petals, centre, colour and scene, never the name; each may leave out a detail, so some texts stay
  ambiguous. They say more than the label.
- Image and text samples are drawn apart (no pairs at clients); only the generic part is paired.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fedloom.data.scene import Generic, ImageSet, Labels, Scene, TextSet
from fedloom.errors import BadInput
from fedloom.randomness import numpy_stream

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
SCENES = {
    "a meadow": ((88, 150, 70), (58, 110, 48)),
    "the sky": ((150, 200, 240), (110, 170, 226)),
}
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
SIBLING = np.arange(len(SPECIES)) ^ 1


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
    jitter: tuple[int, int, int]  # shift of the petal colour, 0-255 scale


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
    kind, big = SPECIES[flower.species], 4 * side
    top, bottom = SCENES[flower.scene]
    ramp = np.linspace(0, 1, big)[:, None, None]
    ground = (1 - ramp) * np.array(top) + ramp * np.array(bottom)
    picture = Image.fromarray(np.broadcast_to(ground, (big, big, 3)).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    cx, cy, radius = flower.x * big, flower.y * big, flower.size * big
    pen.line([(cx, cy), (cx + 0.06 * big, big)], fill=(60, 104, 44), width=max(2, big // 24))
    base = [int(np.clip(c + j, 0, 255)) for c, j in zip(PETALS[flower.colour], flower.jitter)]
    shade = tuple(int(0.72 * c) for c in base)
    outline = _petal(kind.shape, radius, kind.petals)
    for k in range(kind.petals):
        a = flower.angle + 2 * math.pi * k / kind.petals
        turned = [
            (cx + math.cos(a) * x - math.sin(a) * y, cy + math.sin(a) * x + math.cos(a) * y)
            for x, y in outline
        ]
        pen.polygon(turned, fill=tuple(base), outline=shade, width=max(1, big // 80))
    r = 0.27 * radius
    pen.ellipse([cx - r, cy - r, cx + r, cy + r], fill=CENTRES[kind.centre], outline=shade)
    small = np.asarray(picture.resize((side, side), Image.Resampling.BOX), dtype=np.float32)
    return np.clip(small + rng.normal(0, 2, small.shape), 0, 255).astype(np.uint8)


def describe(flower: Flower, rng: np.random.Generator) -> str:
    """A caption in words, without the name. One detail in ten is left out, so that some captions stay ambiguous."""
    kind = SPECIES[flower.species]
    said = rng.random(4) > 0.1
    count = COUNTS[kind.petals] if said[0] else "some"
    shape = kind.shape if said[1] else ""
    petals = " ".join(word for word in (count, shape, flower.colour, "petals") if word)
    centre = f"a {kind.centre} centre" if said[2] else ""
    place = f"in front of {flower.scene}" if said[3] else ""
    frame = rng.integers(3)
    if frame == 0:
        return " ".join(w for w in ("a flower with", petals, f"and {centre}" if centre else "", place) if w)
    if frame == 1:
        return " ".join(w for w in (petals, f"around {centre}" if centre else "", place) if w)
    return " ".join(w for w in (place, "a blossom of", petals, f"and {centre}" if centre else "") if w)


def _paint(labels: Labels, side: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    flowers = draw_flowers(labels, rng)
    images = np.stack([render(f, side, rng) for f in flowers])
    return images, tuple(describe(f, rng) for f in flowers)


def _balanced(n: int, rng: np.random.Generator) -> Labels:
    return rng.permutation(np.arange(n, dtype=np.int64) % len(SPECIES))


def load(
    size: int = 24,
    images: int = 400,
    texts: int = 400,
    test: int = 400,
    generic: int = 1800,
    reference: int = 1800,
    confusion: float = 0.7,
    seed: int = 0,
) -> Scene:
    """Draw the scene.

    Args:
        size: side of the pictures in pixels.
        images, texts: samples that the clients share out.
        test: held-out samples of each modality.
        generic: paired pictures and captions that only the server's pretraining sees.
        reference: real pictures for the judge and for FID, seen by no client and no generator.
        confusion: share of the generic pictures that carry their sibling's name.
        seed: what everything is drawn from.

    Raises:
        BadInput: a count below the number of species, or a confusion outside [0, 1].
    """
    counts = {"images": images, "texts": texts, "test": test, "generic": generic, "reference": reference}
    for key, n in counts.items():
        if n < len(SPECIES):
            raise BadInput(f"flora: {key}={n}, allowed: at least {len(SPECIES)} (one of each species)")
    if not 0 <= confusion <= 1:
        raise BadInput(f"flora: confusion={confusion}, allowed: 0 to 1")
    if size < 12:
        raise BadInput(f"flora: size={size}, allowed: at least 12 pixels")

    def part(name: str, n: int) -> tuple[NDArray[np.uint8], tuple[str, ...], Labels]:
        rng = numpy_stream(seed, "flora", name)
        labels = _balanced(n, rng)
        return *_paint(labels, size, rng), labels

    def words(name: str, n: int) -> TextSet:
        rng = numpy_stream(seed, "flora", name)
        labels = _balanced(n, rng)
        return TextSet(tuple(describe(f, rng) for f in draw_flowers(labels, rng)), labels)

    world, captions, labels = part("generic", generic)
    wrong = numpy_stream(seed, "flora", "confusion").random(generic) < confusion
    train_images, _, train_labels = part("images", images)
    test_images, _, test_labels = part("test images", test)
    judged, _, judged_labels = part("reference", reference)
    return Scene(
        name="flora",
        class_names=tuple(kind.name for kind in SPECIES),
        train={"image": ImageSet(train_images, train_labels), "text": words("texts", texts)},
        test={"image": ImageSet(test_images, test_labels), "text": words("test texts", test)},
        generic=Generic(world, captions, labels, np.where(wrong, SIBLING[labels], labels)),
        reference=ImageSet(judged, judged_labels),
    )
