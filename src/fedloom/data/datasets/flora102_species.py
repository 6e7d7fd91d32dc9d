"""The species of flora-102: families of siblings that differ in one detail, with names that one can pronounce.

The table is drawn once from a stream of its own: the same for every seed, and for fewer classes its first rows.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cache

import numpy as np

from fedloom.data.datasets.flora_drawing import CENTRES, PETALS
from fedloom.seeding import numpy_stream

SPECIES_COUNT = 102
FAMILY_SIZES = (2, 4, 4, 3, 4, 3, 2, 3, 3, 2)  # of each thirty species; ten, fifty and 102 end with a family
CREAM = (250, 232, 196)
CENTRES_102 = CENTRES | {"pale": CREAM}


@dataclass(frozen=True)
class Details:
    """What all flowers of a species have in common: one value of each row of `DETAILS`."""

    petals: str
    shape: str
    rows: str
    centre: str
    marking: str
    leaves: str


DETAILS: dict[str, tuple[str, ...]] = {
    "petals": ("three", "four", "five", "six", "eight"),
    "shape": ("round", "pointed", "narrow", "notched"),
    "rows": ("single", "double"),
    "centre": tuple(CENTRES_102),
    "marking": ("plain", "edged", "striped", "tipped"),
    "leaves": ("broad leaves", "grassy leaves", "no leaves"),
}
assert tuple(DETAILS) == tuple(f.name for f in fields(Details))


@dataclass(frozen=True)
class Species102:
    """A species. colours: of its two or three varieties, the same for all siblings, so that no colour names one."""

    name: str
    family: int
    details: Details
    colours: tuple[str, ...]


@cache
def all_species() -> tuple[Species102, ...]:
    """The 102 species, siblings next to each other."""
    rng = numpy_stream(0, "flora-102", "species")
    found: list[Species102] = []
    names, family = _names(rng), 0
    while len(found) < SPECIES_COUNT:
        size = min(FAMILY_SIZES[family % len(FAMILY_SIZES)], SPECIES_COUNT - len(found))
        colours = _colours(rng)
        for details in _family(size, [s.details for s in found], rng):
            found.append(Species102(names[len(found)], family, details, colours))
        family += 1
    return tuple(found)


def _colours(rng: np.random.Generator) -> tuple[str, ...]:
    """Petal colours of two or three varieties."""
    drawn = rng.permutation(len(PETALS))[: 2 + int(rng.integers(2))]
    return tuple(list(PETALS)[i] for i in drawn)


def _family(size: int, taken: list[Details], rng: np.random.Generator) -> list[Details]:
    """So many siblings that differ in one detail only, and from every other species in two where that can be."""
    for trial in range(1000):
        base = Details(**{key: values[rng.integers(len(values))] for key, values in DETAILS.items()})
        fitting = [key for key, values in DETAILS.items() if len(values) >= size]
        key = fitting[rng.integers(len(fitting))]
        values = [DETAILS[key][i] for i in rng.permutation(len(DETAILS[key]))[:size]]
        siblings = [replace(base, **{key: value}) for value in values]
        least = 2 if trial < 500 else 1
        if all(differing(a, b) >= least for a in siblings for b in taken):
            return siblings
    raise AssertionError("no room for another family")  # the table is fixed: a test draws it


def differing(a: Details, b: Details) -> int:
    """In how many details two species differ."""
    return sum(getattr(a, key) != getattr(b, key) for key in DETAILS)


def _names(rng: np.random.Generator) -> list[str]:
    """Distinct words of three syllables, such as `belaria`."""
    starts, vowels, ends = "bcdfglmnprstv", "aeiou", ("ia", "is", "um", "ea", "or", "yx")
    found: dict[str, None] = {}
    while len(found) < SPECIES_COUNT:
        syllables = [starts[rng.integers(len(starts))] + vowels[rng.integers(len(vowels))] for _ in range(2)]
        found["".join(syllables) + starts[rng.integers(len(starts))] + ends[rng.integers(len(ends))]] = None
    return list(found)
