"""Pictures that are not of 8 bits: scaled as stated, by their own standard, or refused; never silently black."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_decoding import encoded

from fedloom.data.datasets.folder import load
from fedloom.data.io.decode import decode, decode_all
from fedloom.data.notes import data_notes
from fedloom.errors import BadInput

RAMP = np.linspace(0, 1, 64).reshape(8, 8)


def folder(root: Path, *values: np.ndarray[Any, Any], ending: str = "tif") -> Path:
    """Two classes with a picture of each of these values."""
    for name in ("dark", "light"):
        (root / "images" / name).mkdir(parents=True)
        for i, array in enumerate(values * 2):
            Image.fromarray(array).save(root / "images" / name / f"{i}.{ending}")
    return root


def read(root: Path, **options: Any) -> Any:
    return load(root, **{"size": 8, "generic_share": 0, "test_share": 0.5, **options})


@pytest.mark.parametrize(
    ("values", "says", "scale"),
    [
        (RAMP.astype(np.float32), "floats, 0 to 1.*range=\\[0, 1\\]", [0, 1]),
        ((RAMP * 255).astype(np.float32), "floats, 0 to 255", [0, 255]),
        ((RAMP * 4095 - 1024).astype(np.int32), "with a sign, -1024 to 3071", [-1024, 3071]),
        (
            (RAMP * 4095).astype(np.uint16),
            "none has a value above 4095 of 65535.* 12 bits.*=\\[0, 4095\\]",
            [0, 4095],
        ),
        ((RAMP * 1023).astype(np.uint16), "10 bits in fact, set data.options.range=\\[0, 1023\\]", [0, 1023]),
    ],
)
def test_values_without_a_scale_are_refused_and_scaled_as_stated(
    tmp_path: Path, values: np.ndarray[Any, Any], says: str, scale: list[float]
) -> None:
    root = folder(tmp_path, values)
    for on_bad in ("error", "skip"):  # it is no broken file
        with pytest.raises(BadInput, match=says):
            read(root, on_bad=on_bad)
    dataset = read(root, range=scale)
    assert np.abs(dataset.train["image"].images[0, :, :, 0].astype(int) - np.round(RAMP * 255)).max() <= 1
    assert any(line.startswith("Pictures of more than 8 bits: 4, values ") for line in data_notes(dataset))


def test_sixteen_bits_have_a_scale_of_their_own(tmp_path: Path) -> None:
    dark = (RAMP * 900).astype(np.uint16)  # one dark picture is no sign of another scale
    dataset = read(folder(tmp_path, (RAMP * 65535).astype(np.uint16), dark, ending="png"))
    images = np.concatenate([dataset.train["image"].images, dataset.test["image"].images])
    assert images.max() == 255
    assert sum(image.max() < 5 for image in images) == 4


def test_a_scale_that_fits_nothing_is_refused_and_one_without_effect_told(tmp_path: Path) -> None:
    root = folder(tmp_path / "a", (RAMP * 4095 + 2).astype(np.int32))
    with pytest.raises(BadInput, match=r"range=\[0, 1\], but the values of all pictures are 2 to 4097"):
        read(root, range=[0, 1])
    plain = folder(tmp_path / "b", (RAMP * 9).astype(np.uint8), ending="png")
    told = data_notes(read(plain, range=[0, 1]))
    assert "range=[0, 1] has no effect: no picture has more than 8 bits" in told
    assert "Nearly black: no pixel of any picture is brighter than 9 of 255" in told


@pytest.mark.parametrize("value", [[1, 0], [0], "0,1", [0, float("nan")], [0, 0], 5, ["a", "b"], [False, True]])
def test_a_scale_is_two_numbers(tmp_path: Path, value: Any) -> None:
    with pytest.raises(BadInput, match=r"range=.*allowed: \[black, white\]"):
        read(tmp_path, range=value)


def test_values_that_are_no_numbers_are_a_broken_picture() -> None:
    with pytest.raises(BadInput, match="cannot read picture x: some of its values are not numbers"):
        decode_all([encoded(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "TIFF")], ["x"], 8)


def test_a_stated_white_is_used(tmp_path: Path) -> None:
    """PGM says its greatest value; a stated range is in the file's own values."""
    pgm = b"P5\n4 4\n4095\n" + np.full(16, 2048, ">u2").tobytes()
    assert abs(int(decode(pgm, 8).max()) - 128) <= 1
    assert abs(int(decode(pgm, 8, [0, 2048]).max()) - 255) <= 1
    images, _, _ = decode_all([pgm], ["x"], 8)
    assert images.max() == decode(pgm, 8).max()


def png(values: tuple[int, ...], colour: int) -> bytes:
    """A PNG of one pixel of 16 bits a channel, which Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + struct.pack(f">{len(values)}H", *values)))
    return b"\x89PNG\r\n\x1a\n" + head + pixels + chunk(b"IEND", b"")


def test_colours_of_sixteen_bits() -> None:
    assert decode(png((65535, 0, 32768), 2), 8)[0, 0].tolist() == [255, 0, 128]
    with pytest.raises(BadInput, match="none has a value above"):
        decode_all([png((4095, 0, 2048), 2)], ["x"], 8)
    with pytest.raises(BadInput, match="none has a value above"):
        decode_all([png((4095, 0, 2048, 65535), 6)], ["x"], 8)
    with pytest.raises(ValueError, match="colours have 16 bits a channel"):
        decode(png((4095, 0, 2048), 2), 8, [0, 4095])


@pytest.mark.parametrize(
    ("mode", "colour", "kind", "expected"),
    [
        ("1", 1, "PNG", [255, 255, 255]),
        ("1", 0, "TIFF", [0, 0, 0]),
        ("P", 0, "PNG", None),
        ("LA", (40, 255), "PNG", [40, 40, 40]),
        ("LA", (40, 0), "PNG", [255, 255, 255]),
        ("CMYK", (255, 0, 0, 0), "TIFF", [0, 255, 255]),
        ("CMYK", (255, 0, 0, 0), "JPEG", [0, 255, 255]),
        ("RGBA", (9, 9, 9, 0), "WEBP", [255, 255, 255]),
        ("YCbCr", (128, 128, 128), "JPEG", [128, 128, 128]),
    ],
)
def test_other_modes(mode: str, colour: Any, kind: str, expected: list[int] | None) -> None:
    image = Image.new(mode, (9, 9), colour)
    if mode == "P":
        image.putpalette([200, 100, 50] * 256)
        expected = [200, 100, 50]
    assert np.abs(decode(encoded(image, kind), 8)[4, 4].astype(int) - np.array(expected)).max() <= 3


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
def test_of_several_frames_the_first_is_read_and_told(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "lime", "blue")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert np.abs(decode(data, 8)[0, 0].astype(int) - [255, 0, 0]).max() <= 2
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(2):
            (tmp_path / "images" / name / f"{i}.{kind.lower()}").write_bytes(data)
    told = data_notes(read(tmp_path))
    assert "Pictures of several frames or pages, of which the first is read: 4" in told


def test_a_picture_in_name_only_runs_nothing(tmp_path: Path) -> None:
    """EPS is a program that Pillow hands to another one, whatever the file is called."""
    with pytest.raises(BadInput, match="no picture, or of a format that is not known"):
        decode_all([b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"], ["x.jpg"], 8)


# ------------------------------------------------------------------------------------------------- odd kinds of TIFF

PHOTOMETRIC, SAMPLE_FORMAT = 262, 339


def tiff(values: np.ndarray[Any, Any], **tags: int) -> bytes:
    """A TIFF with these tags put into it, which Pillow does not write."""
    data = bytearray(encoded(Image.fromarray(values), "TIFF"))
    at = struct.unpack_from("<I", data, 4)[0]
    for n in range(struct.unpack_from("<H", data, at)[0]):
        entry = at + 2 + 12 * n
        tag = struct.unpack_from("<H", data, entry)[0]
        if (new := tags.pop(f"t{tag}", None)) is not None:
            struct.pack_into("<HHII", data, entry, tag, 3, 1, new)
    assert not tags
    return bytes(data)


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ((RAMP * 65535).astype(np.uint16), None),
        ((RAMP * 4095).astype(np.uint16), [0, 4095]),
        ((RAMP * 2 - 1).astype(np.float32), [-1, 1]),
    ],
)
def test_zero_is_white(values: np.ndarray[Any, Any], scale: Any) -> None:
    """As X-rays and scans have it: turned round within the scale, whatever the depth."""
    plain, turned = (decode(data, 8, scale).astype(int) for data in (tiff(values, t262=1), tiff(values, t262=0)))
    assert np.abs(plain + turned - 255).max() <= 1
    assert plain[0, 0, 0] < 20 < 235 < turned[0, 0, 0]


def test_bytes_with_a_sign_are_refused() -> None:
    data = encoded(Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)), "TIFF", tiffinfo={SAMPLE_FORMAT: 2})
    with pytest.raises(BadInput, match="8 bits with a sign"):
        decode_all([data], ["x.tif"], 8)


def test_colours_are_not_told_to_state_a_range(tmp_path: Path) -> None:
    """They are read on their full scale alone."""
    for name in ("dark", "light"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(4):
            rows = b"".join(b"\0" + struct.pack(">12H", *([100 * i + 500] * 12)) for _ in range(4))
            head = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
            blocks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
            png = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in blocks)
            (tmp_path / "images" / name / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + png)
    with pytest.raises(BadInput, match="convert them to 8 bits a colour; if they are meant to be dark") as error:
        load(tmp_path, size=8)
    assert "range=[0, 65535]" in str(error.value)
    load(tmp_path, size=8, range=[0, 65535])
