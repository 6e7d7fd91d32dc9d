"""Pictures of every awkward kind to square RGB arrays."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import picture, truncate
from fedloom.data.io.decode import decode, decode_all
from fedloom.errors import BadInput


def encoded(image: Image.Image, kind: str = "PNG", **how: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def test_centre_square_of_a_wide_picture() -> None:
    array = np.zeros((20, 60, 3), dtype=np.uint8)
    array[:, 20:40] = 255
    assert (decode(encoded(Image.fromarray(array)), 8) == 255).all()


def test_draft_mode_agrees_with_the_full_decode() -> None:
    ramp = np.linspace(0, 255, 512).astype(np.uint8)
    array = np.stack([np.broadcast_to(ramp, (512, 512)), np.broadcast_to(ramp[:, None], (512, 512))] * 2, -1)[..., :3]
    small = decode(encoded(Image.fromarray(array), "JPEG", quality=95), 32).astype(int)
    whole = np.asarray(Image.fromarray(array).resize((32, 32), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(small - whole).max() <= 6


def test_modes() -> None:
    grey16 = Image.fromarray(np.full((10, 10), 65535 // 2, dtype=np.uint16))
    assert np.abs(decode(encoded(grey16), 8).astype(int) - 127).max() <= 1
    assert (decode(encoded(Image.new("L", (9, 9), 50)), 8) == 50).all()
    assert (decode(encoded(Image.new("RGBA", (9, 9), (10, 20, 30, 0))), 8) == 255).all()
    assert decode(encoded(Image.new("CMYK", (9, 9)), "JPEG"), 8).shape == (8, 8, 3)
    assert decode(encoded(Image.new("1", (9, 9), 1)), 8).min() == 255


def test_exif_orientation() -> None:
    array = np.zeros((16, 16, 3), dtype=np.uint8)
    array[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to show
    shown = decode(encoded(Image.fromarray(array), exif=exif), 16)
    assert shown[:, 12:].min() == 255
    assert shown[:, :4].max() == 0


def test_broken_pictures_are_named_or_counted(tmp_path: Path) -> None:
    good = picture(tmp_path / "good.jpg", 0, 0, side=(64, 64))
    cut = truncate(picture(tmp_path / "cut.jpg", 1, 0, side=(64, 64)))
    sources = [good, cut, b"no picture", tmp_path / "gone.jpg", good]
    places = ["a", "cut.jpg", "row 3", "gone.jpg", "b"]
    for only, says in ((1, r"cut\.jpg"), (2, "row 3"), (3, r"gone\.jpg: there is no such file")):
        with pytest.raises(BadInput, match=says):
            decode_all([sources[only]], [places[only]], 16)
    images, kept, bad = decode_all(sources, places, 16, "skip")
    assert images.shape == (2, 16, 16, 3)
    assert kept.tolist() == [0, 4]
    assert bad == ["cut.jpg", "row 3", "gone.jpg"]
    assert (images[0] == images[1]).all()


@pytest.mark.parametrize("size", [0, 7, 4096, 32.0, True])
def test_size_out_of_range(size: object) -> None:
    with pytest.raises(BadInput, match="size="):
        decode_all([], [], size)  # type: ignore[arg-type]


def test_on_bad_out_of_range() -> None:
    with pytest.raises(BadInput, match="on_bad='ignore'"):
        decode_all([], [], 16, "ignore")  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:Image size")  # Pillow has a limit of its own, at which it warns
def test_a_picture_too_large_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    """Of a PNG the header alone: there is nothing to decode."""
    small = encoded(Image.new("L", (9, 9)))
    header = b"IHDR" + struct.pack(">II", 13_000, 13_000) + small[24:29]
    path = tmp_path / "large.png"
    path.write_bytes(small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:])
    sources, places = [path, encoded(Image.new("L", (9, 9)))], ["large.png", "small.png"]
    with pytest.raises(BadInput, match=r"large\.png: 13000 x 13000 pixels, allowed: 120,000,000 in all"):
        decode_all(sources, places, 8)
    images, kept, bad = decode_all(sources, places, 8, "skip")
    assert (len(images), kept.tolist(), bad) == (1, [1], ["large.png"])
