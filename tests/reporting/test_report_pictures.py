from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedloom.errors import BadInput
from fedloom.reporting import canvas
from fedloom.reporting.heatmaps import split_picture
from fedloom.reporting.pictures import label_panel, sample_grid
from fedloom.reporting.plots import bytes_plot, compare_curves, curves, label_curves

pytestmark = pytest.mark.drawn


def pictures(n: int, side: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (n, side, side, 3), dtype=np.uint8)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as opened:
        return np.asarray(opened.convert("RGB"))


def colours(path: Path) -> int:
    return len(np.unique(pixels(path).reshape(-1, 3), axis=0))


def test_a_grid_repeats_small_pictures_pixel_by_pixel(tmp_path: Path) -> None:
    images = pictures(6)
    size = sample_grid(images, ["poppy", "a $100 daisy"], tmp_path / "g.png", side=32)
    sheet = pixels(tmp_path / "g.png")
    assert sheet.shape == (size[1], size[0], 3)
    assert size[1] == 2 * 8 + 2 * 32 + 2
    right, bottom = size[0] - 8, size[1] - 8
    assert (sheet[bottom - 32 : bottom, right - 32 : right] == images[5].repeat(4, 0).repeat(4, 1)).all()
    first = sheet[8:40, right - 3 * 32 - 4 : right - 2 * 32 - 4]
    assert (first == images[0].repeat(4, 0).repeat(4, 1)).all()


def test_a_grid_must_be_even(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="5 images do not fill 2 rows"):
        sample_grid(pictures(5), ["a", "b"], tmp_path / "g.png")
    with pytest.raises(BadInput, match="uint8"):
        sample_grid(pictures(2).astype(np.float32), ["a", "b"], tmp_path / "g.png")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="0 rows"):
        sample_grid(pictures(2), [], tmp_path / "g.png")


def test_large_pictures_are_shrunk_and_flat_ones_keep_their_form() -> None:
    assert canvas.resized(pictures(1, 300), 96).shape == (1, 96, 96, 3)
    assert canvas.resized(np.zeros((2, 200, 400, 3), np.uint8), 100).shape == (2, 50, 100, 3)
    assert canvas.resized(pictures(1, 128), 96).shape == (1, 128, 128, 3)


@pytest.mark.parametrize("judge", [True, False])
def test_the_label_panel(tmp_path: Path, judge: bool) -> None:
    rng, n = np.random.default_rng(0), 40
    drawn, voted, kept = rng.integers(0, 3, n), rng.integers(0, 3, n), rng.random(n) < 0.5
    truth = voted if judge else None
    names = ["poppy", "<b>$x$</b>", "a very long name of a class that does not fit under its picture"]
    size = label_panel(pictures(n, 16), drawn, voted, kept, truth, names, tmp_path / "p.png", per_row=5)
    assert pixels(tmp_path / "p.png").shape == (size[1], size[0], 3)
    assert colours(tmp_path / "p.png") > 50


def test_a_label_panel_may_lack_a_group_or_everything(tmp_path: Path) -> None:
    same = np.zeros(3, int)
    label_panel(pictures(3), same, same, same == 0, same, ["a"], tmp_path / "p.png")
    none = np.zeros(0, int)
    label_panel(pictures(0), none, none, none, None, ["a"], tmp_path / "q.png")
    with pytest.raises(BadInput, match="voted has shape"):
        label_panel(pictures(3), same, same[:2], same == 0, None, ["a"], tmp_path / "p.png")


def test_plots_are_drawn_at_their_size(tmp_path: Path) -> None:
    rows = [
        {
            "round": r,
            "image_accuracy": 0.4 + r / 10,
            "text_accuracy": None,
            "clip_score": 24.0 + r,
            "bytes_up": 1000 * r,
            "bytes_down": 5,
            "formula_up": 900,
            "formula_down": None,
            "per_client": {"image-0": 0.5, "$_x$": 0.2},
            "labels": {"voted_accuracy": 0.8, "kept_share": 0.5} if r else None,
        }
        for r in range(3)
    ]
    for draw in (curves, label_curves, bytes_plot):
        for number, given in enumerate((rows, [])):
            path = tmp_path / f"{draw.__name__}{number}.png"
            draw(given, path)
            assert pixels(path).shape[1] == 1500
            assert colours(path) > 20
    compare_curves({"_a": rows, "b $": rows[:1], "c": []}, tmp_path / "c.png")
    compare_curves({"a": []}, tmp_path / "d.png")
    buffer = BytesIO()
    curves(rows, buffer, clients={"image": ["$_x$"]})
    assert buffer.getvalue().startswith(b"\x89PNG")


@pytest.mark.parametrize(("k", "c"), [(1, 1), (5, 12), (20, 102)])
def test_the_split_picture(tmp_path: Path, k: int, c: int) -> None:
    counts = np.random.default_rng(0).integers(0, 9, (k, c))
    split_picture(counts, [f"image-{i}" for i in range(k)], [f"class {i}" for i in range(c)], tmp_path / "s.png")
    assert pixels(tmp_path / "s.png").shape[1] == 1500
    with pytest.raises(BadInput, match="clients"):
        split_picture(counts, ["one", "two"], ["x"], tmp_path / "s.png")


def test_a_picture_is_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        sample_grid(pictures(4), ["x", "y"], tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
