"""Picture files to arrays: RGB, centre square, one size. Whatever cannot be read is named."""

from __future__ import annotations

import builtins
import io
import os
import stat
import struct
import zlib
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fedloom.data.io.pixels import Depth, Met, NoScale, Range, check_sign, colour_depth, native, to_grey
from fedloom.errors import BadInput

Source = Path | bytes
OnBad = Literal["error", "skip"]
T = TypeVar("T")
MOST_PIXELS = 120_000_000  # of one picture as it lies in its file: 12000 x 10000, half a gigabyte while it is read
SKIP = "(on_bad='skip' leaves such out)"

# What Pillow raises on broken or hostile files, by format: a truncated JPEG OSError, a broken PNG SyntaxError
# or zlib.error, a broken TIFF struct.error, a picture of absurd size DecompressionBombError.
UNREADABLE = (
    *(OSError, MemoryError, SyntaxError, ValueError, EOFError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)

# Formats that run other programs (EPS), or are only recognised, not read.
UNSAFE = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "IPTC", "MCIDAS", "SPIDER", "IMT", "XVTHUMB", "PCD"})
# Not MPO: that is a photograph with its preview.
FRAMED = frozenset({"GIF", "PNG", "WEBP", "AVIF", "TIFF", "FLI", "DCX", "PSD"})


def check_size(size: int) -> None:
    """Raise BadInput unless `size` is a side in pixels that a picture can have."""
    if not isinstance(size, int) or isinstance(size, bool) or not 8 <= size <= 2048:
        raise BadInput(f"size={size!r}, allowed: a whole number of pixels from 8 to 2048")


def check_on_bad(on_bad: str) -> None:
    """Raise BadInput unless `on_bad` is 'error' or 'skip'."""
    if on_bad not in get_args(OnBad):
        raise BadInput(f"on_bad={on_bad!r}, allowed: 'error' (stop and name the file) or 'skip' (count it)")


def endings() -> frozenset[str]:
    """The endings, in lower case, of files that are read as pictures: what Pillow opens here, without UNSAFE."""
    Image.init()
    return frozenset(end for end, kind in Image.EXTENSION.items() if kind in Image.OPEN and kind not in UNSAFE)


@cache
def _formats() -> list[str]:
    """The formats that are tried, the usual ones first, as each is asked in turn."""
    Image.init()
    usual = [kind for kind in ("JPEG", "PNG", "WEBP", "TIFF") if kind in Image.ID]
    return usual + [kind for kind in Image.ID if kind not in UNSAFE and kind not in usual]


def decode(source: Source, size: int, range: Range | None = None) -> NDArray[np.uint8]:
    """One picture as uint8 (size, size, 3): the centre square, bicubic, antialiased, upright by its EXIF tag.

    A JPEG is decoded at the nearest power-of-two reduction that still has twice the pixels needed (fast). Of several
    frames or pages the first is taken; transparent pixels become white. 16 bits become 8 by their full scale, or by
    `range`, the values of black and white, which 32-bit values need.

    Raises:
        one of UNREADABLE: the file is missing, truncated, no picture, or one of more than MOST_PIXELS.
    """
    return _decode(source, size, range)[0]


def _decode(source: Source, size: int, range: Range | None) -> tuple[NDArray[np.uint8], Depth | None, bool]:
    """The picture, its depth where that is above 8 bits, and whether it is the first of several."""
    if isinstance(source, Path) and not stat.S_ISREG(os.stat(source).st_mode):
        raise OSError("no file but a folder, pipe or device")  # to open a pipe would hang
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_formats()) as picture:
        if picture.width * picture.height > MOST_PIXELS:  # nothing of it is decoded yet
            raise ValueError(f"{picture.width} x {picture.height} pixels, allowed: {MOST_PIXELS:,} in all")
        picture.draft(None, (2 * size, 2 * size))  # no effect on formats other than JPEG
        raw, white = native(picture)
        check_sign(picture)
        depth = None
        if picture.mode.startswith(("I", "F")):
            grey, depth = to_grey(picture, raw, white, range)
            grey.info["exif"] = picture.getexif().tobytes()
            upright = ImageOps.exif_transpose(grey).convert("RGB")
        else:
            depth = colour_depth(picture, raw, range)
            upright = _rgb(ImageOps.exif_transpose(picture))
        several = picture.format in FRAMED and _is_several(picture)
    return centre_square(upright, size), depth, several


def centre_square(picture: Image.Image, size: int) -> NDArray[np.uint8]:
    """The centre square of an RGB picture, uint8 (size, size, 3)."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    # Cropped first: the filter of resize(box=...) would reach beyond the box.
    square = picture.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size, size), Image.Resampling.BICUBIC, reducing_gap=3.0))


def _rgb(picture: Image.Image) -> Image.Image:
    """RGB of any mode of 8 bits or less; transparent pixels become white."""
    if "A" in picture.getbands() or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return picture.convert("RGB")


def _is_several(picture: Image.Image) -> bool:
    try:
        return bool(getattr(picture, "is_animated", False))
    except UNREADABLE:  # the first is sound
        return True


def in_threads(task: Callable[[int], T], n: int) -> Generator[T, None, None]:
    """task(0) ... task(n - 1) in order, computed on a few threads: decoders let go of the interpreter lock.

    To be closed, so that nothing more is computed once the caller has given up.
    """
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        yield from pool.map(task, builtins.range(n))
    finally:
        pool.shutdown(cancel_futures=True)


def decode_all(
    sources: Sequence[Source], places: Sequence[str], size: int, on_bad: OnBad = "error", met: Met | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[str]]:
    """Decode N pictures.

    Args:
        sources: N paths or encoded pictures.
        places: N names for messages, such as the path, or file and row.
        size: side in pixels.
        on_bad: 'error' stops at the first picture that cannot be read; 'skip' leaves it out.
        met: holds the stated scale and gathers what is met; the caller must `check` it after the last part. None:
            these are all pictures of the set.

    Returns:
        images uint8 (M, size, size, 3); index int64 (M,) of those kept; the places of those left out.

    Raises:
        BadInput: a picture cannot be read and `on_bad` is 'error'; values without a scale; see Met.check.
    """
    check_size(size)
    check_on_bad(on_bad)
    whole = met or Met()

    def one(i: int) -> tuple[NDArray[np.uint8], Depth | None, bool] | str:
        try:
            return _decode(sources[i], size, whole.range)
        except NoScale as error:  # a matter of the set, not of this file
            raise BadInput(f"picture {places[i]}: {error}") from error
        except UNREADABLE as error:
            return _reason(sources[i], error)

    images = np.empty((len(sources), size, size, 3), dtype=np.uint8)
    kept: list[int] = []
    bad: list[str] = []
    with closing(in_threads(one, len(sources))) as results:
        for i, result in enumerate(results):
            if isinstance(result, str):
                if on_bad == "error":
                    raise BadInput(f"cannot read picture {places[i]}: {result}. {SKIP}")
                bad.append(places[i])
                continue
            images[len(kept)], depth, several = result
            whole.add(int(images[len(kept)].max(initial=0)), depth, several, places[i])
            kept.append(i)
    if met is None:
        whole.check()
    return images[: len(kept)], np.array(kept, dtype=np.int64), bad


def _reason(source: Source, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        linked = isinstance(source, Path) and source.is_symlink()
        return "a link to a file that is not there" if linked else "there is no such file"
    if isinstance(error, UnidentifiedImageError):
        return "no picture, or of a format that is not known"  # Pillow names an object where there is no file
    if isinstance(error, MemoryError):
        return "larger than the memory that is left"
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
