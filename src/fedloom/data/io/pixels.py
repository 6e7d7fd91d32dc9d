"""Pixel values of any depth to 8 bits: what has a scale of its own, what needs one stated, what was met in a set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedloom.errors import BadInput

Range = Sequence[float]
FULL = 65535  # white in a file of 16 bits
_PHOTOMETRIC, _SAMPLE_FORMAT = 262, 339  # tags of a TIFF
HALF = FULL // 2  # a set without a brighter pixel than this does not use the scale of 16 bits


class NoScale(ValueError):
    """The values of a picture have no black and white of their own, and none are stated."""


class Depth(NamedTuple):
    """Values of a picture of more than 8 bits: the least, the greatest, whether they count on the scale of 16, and
    whether they are of colours, which are read on that scale alone."""

    low: float
    high: float
    full: bool
    colours: bool = False


def check_range(value: Range | None) -> None:
    """Raise BadInput unless `value` is two numbers, black and white, or None."""
    if value is None:
        return
    numbers = value if isinstance(value, (list, tuple)) else ()
    sound = [n for n in numbers if isinstance(n, (int, float)) and not isinstance(n, bool) and math.isfinite(n)]
    if len(sound) != 2 or len(numbers) != 2 or not sound[0] < sound[1]:
        raise BadInput(
            f"range={value!r}, allowed: [black, white], two numbers, the first the smaller, or none for the files' own"
        )


def native(picture: Image.Image) -> tuple[str, Any]:
    """How the file holds the pixels (Pillow's raw mode), and the white that it states itself, else None.

    To be asked before the pixels are loaded.
    """
    tiles = getattr(picture, "tile", None)
    codec, *_, how = tuple(tiles[0]) if tiles else ("", None)
    raw = how[0] if isinstance(how, tuple) and how else how
    if codec == "ppm" and isinstance(how, tuple):
        return "ppm", how[1]
    return str(raw or ""), 4095 if raw == "I;12" else None


def to_grey(picture: Image.Image, raw: str, white: int | None, scale: Range | None) -> tuple[Image.Image, Depth]:
    """A picture of one channel of more than 8 bits as 8-bit grey.

    Args:
        picture: of mode I, F or I;16 in any order of bytes.
        raw, white: see `native`.
        scale: (black, white) as stated; None: those of the file.

    Raises:
        NoScale: 32-bit whole numbers or floats, and no scale is stated.
        ValueError: values that are no numbers.
    """
    values: NDArray[np.float64] = np.asarray(picture).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("some of its values are not numbers (NaN or infinite)")
    if raw == "ppm" and white is not None:
        values = values * (white / FULL)  # Pillow has scaled them to 16 bits
    low, high = float(values.min(initial=np.inf)), float(values.max(initial=-np.inf))
    sixteen = picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in ("PNG", "PPM"))
    if scale is None and not sixteen:
        kind = "floats" if picture.mode == "F" else "whole numbers of more than 16 bits or with a sign"
        example = f"[{low:g}, {high:g}]" if low < high else "[0, 1]"
        raise NoScale(
            f"its values are {kind}, {low:g} to {high:g}, which have no black and white of their own. "
            f"State them for all pictures: range=[black, white], such as data.options.range={example}"
        )
    black, top = scale or (0, white or FULL)
    grey = ((values - black) * (255 / (top - black))).clip(0, 255)
    if getattr(picture, "tag_v2", {}).get(_PHOTOMETRIC) == 0:
        grey = 255 - grey  # a TIFF whose black is white; of 8 bits Pillow has turned it round
    return Image.fromarray(np.rint(grey).astype(np.uint8)), Depth(low, high, white is None)


def colour_depth(picture: Image.Image, raw: str, scale: Range | None) -> Depth | None:
    """What is known of a colour picture of 16 bits a channel, of which Pillow gives the upper 8; None of others."""
    if ";16" not in raw or len(picture.getbands()) < 3:
        return None
    if scale is not None and tuple(scale) != (0, FULL):
        raise NoScale(
            "its colours have 16 bits a channel, which are read on their full scale only: leave out range, or "
            "convert the picture"
        )
    bands = np.asarray(picture)[..., :3]
    return Depth(int(bands.min(initial=255)) * 257.0, int(bands.max(initial=0)) * 257.0, True, True)


def check_sign(picture: Image.Image) -> None:
    """Raises NoScale for a TIFF of 8 bits with a sign, which Pillow reads as if it had none."""
    kinds = getattr(picture, "tag_v2", {}).get(_SAMPLE_FORMAT, ())
    if 2 in (kinds if isinstance(kinds, tuple) else (kinds,)) and picture.mode not in ("I", "F"):
        raise NoScale("its values are of 8 bits with a sign, which is not read: convert the picture")


class Met:
    """What was met in the pictures of a whole set, as they were decoded. range: (black, white) as stated, or None."""

    def __init__(self, range: Range | None = None) -> None:
        check_range(range)
        self.range = range
        self.pictures = self.deep = self.several = self.brightest = 0
        self.low, self.high, self.peak, self.place = math.inf, -math.inf, -math.inf, ""
        self.colours = False

    def add(self, brightest: int, depth: Depth | None, several: bool, place: str) -> None:
        """One picture: its greatest 8-bit value, its depth if above 8 bits, whether it holds several pictures."""
        self.pictures += 1
        self.several += several
        self.brightest = max(self.brightest, brightest)
        if depth is None:
            return
        self.deep += 1
        self.colours |= depth.colours
        self.low, self.high = min(self.low, depth.low), max(self.high, depth.high)
        if depth.full:
            self.peak, self.place = max(self.peak, depth.high), self.place or place

    def check(self) -> None:
        """Raise BadInput where the whole set would come out black or white: its values are on another scale.

        Of the whole set, as a single picture may well be dark.
        """
        if self.range is not None and self.deep:
            black, white = self.range
            if self.high <= black or self.low >= white:
                raise BadInput(
                    f"range={list(self.range)}, but the values of all pictures are {self.low:g} to {self.high:g}"
                )
        elif -math.inf < self.peak <= HALF:
            bits = max(8, math.ceil(math.log2(max(self.peak, 1) + 1)))
            mend = f"set data.options.range=[0, {2**bits - 1}]"
            raise BadInput(
                f"pictures of 16 bits, {self.place} for one, but none has a value above {self.peak:g} of {FULL}: they "
                f"would be dark. If they have {bits} bits in fact, "
                f"{'convert them to 8 bits a colour' if self.colours else mend}; if they are meant to be dark, "
                f"set data.options.range=[0, {FULL}]"
            )

    def notes(self) -> dict[str, Any]:
        """What people should know of it; nothing where there is nothing."""
        notes: dict[str, Any] = {}
        if self.deep:
            notes["deep_pictures"] = {
                "pictures": self.deep,
                "values": [self.low, self.high],
                "range": None if self.range is None else list(self.range),
            }
        elif self.range is not None and self.pictures:
            notes["range_unused"] = list(self.range)
        if self.several:
            notes["pictures_of_several_frames"] = self.several
        if self.pictures and self.brightest < 32:
            notes["brightest_value"] = self.brightest
        return notes
