"""Picture files to arrays: RGB, centre square, one size. Whatever cannot be read is named."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fedloom.errors import BadInput

Source = Path | bytes
OnBad = Literal["error", "skip"]

# What Pillow raises on broken or hostile files, by format: a truncated JPEG OSError, a broken PNG SyntaxError
# or zlib.error, a broken TIFF struct.error, a picture of absurd size DecompressionBombError.
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def check_size(size: int) -> None:
    """Raise BadInput unless `size` is a side in pixels that a picture can have."""
    if not isinstance(size, int) or isinstance(size, bool) or not 8 <= size <= 2048:
        raise BadInput(f"size={size!r}, allowed: a whole number of pixels from 8 to 2048")


def check_on_bad(on_bad: str) -> None:
    """Raise BadInput unless `on_bad` is 'error' or 'skip'."""
    if on_bad not in get_args(OnBad):
        raise BadInput(f"on_bad={on_bad!r}, allowed: 'error' (stop and name the file) or 'skip' (count it)")


def _rgb(picture: Image.Image) -> Image.Image:
    """RGB of any mode: 16-bit greys are scaled to 8 bits, transparent pixels become white."""
    if picture.mode.startswith("I"):
        return Image.fromarray((np.asarray(picture).clip(0, 65535) / 257).astype(np.uint8)).convert("RGB")
    if "A" in picture.getbands() or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return picture.convert("RGB")


def decode(source: Source, size: int) -> NDArray[np.uint8]:
    """One picture as uint8 (size, size, 3): the centre square, bicubic, antialiased, upright by its EXIF tag.

    A JPEG is decoded at the nearest power-of-two reduction that still has twice the pixels needed (fast).

    Raises:
        one of UNREADABLE: the file is missing, truncated or no picture.
    """
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
        picture.draft(None, (2 * size, 2 * size))  # no effect on formats other than JPEG
        upright = _rgb(ImageOps.exif_transpose(picture))
    width, height = upright.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    # Cropped first: the filter of resize(box=...) would reach beyond the box.
    square = upright.crop((left, top, left + side, top + side))
    square = square.resize((size, size), Image.Resampling.BICUBIC, reducing_gap=3.0)
    return np.asarray(square)


def decode_all(
    sources: Sequence[Source], places: Sequence[str], size: int, on_bad: OnBad = "error"
) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[str]]:
    """Decode N pictures on a few threads (Pillow lets go of the interpreter lock while it decodes).

    Args:
        sources: N paths or encoded pictures.
        places: N names for messages, such as the path, or file and row.
        size: side in pixels.
        on_bad: 'error' stops at the first picture that cannot be read; 'skip' leaves it out.

    Returns:
        images uint8 (M, size, size, 3); index int64 (M,) of those kept; the places of those left out.

    Raises:
        BadInput: a picture cannot be read and `on_bad` is 'error'.
    """
    check_size(size)
    check_on_bad(on_bad)

    def one(i: int) -> NDArray[np.uint8] | str:
        try:
            return decode(sources[i], size)
        except UNREADABLE as error:
            if isinstance(error, FileNotFoundError):
                return "there is no such file"
            if isinstance(
                error, UnidentifiedImageError
            ):  # Pillow's message names an object where there is no file
                return "no picture, or of a format that is not known"
            return str(error).splitlines()[0] if str(error) else type(error).__name__

    images = np.empty((len(sources), size, size, 3), dtype=np.uint8)
    kept: list[int] = []
    bad: list[str] = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for i, result in enumerate(pool.map(one, range(len(sources)))):
            if not isinstance(result, str):
                images[len(kept)] = result
                kept.append(i)
                continue
            if on_bad == "error":
                pool.shutdown(wait=False, cancel_futures=True)
                raise BadInput(f"cannot read picture {places[i]}: {result}. (on_bad='skip' leaves such out)")
            bad.append(places[i])
    return images[: len(kept)], np.array(kept, dtype=np.int64), bad
