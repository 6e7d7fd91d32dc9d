"""Class names in any script: fonts that have them, else readable escapes; never a box, a formula or a warning."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.font_manager import fontManager
from PIL import Image

from fedloom.comparison.measures import MEASURES
from fedloom.comparison.plots import Line, draw
from fedloom.reporting import canvas, lettering
from fedloom.reporting.heatmaps import class_picture, split_picture
from fedloom.reporting.pictures import label_panel, sample_grid
from fedloom.reporting.plots import compare_curves

pytestmark = pytest.mark.drawn

# A private use character stands for a script that no installed font has, whatever machine this is.
NONE = "\ue0f0"
NAMES = (
    *("花朵", "سوسن جميل", "שושן", "гвоздика", "ไม้ดอก", "देव", "🌼 daisy 😀", NONE * 3, "👩‍🔬", "❤️"),
    *(
        "$x_1$ and $y$",
        "a $100 bill",
        r"a\$b$",
        r"\frac{a}{b",
        "{_^}",
        "%s",
        "_hidden",
        "<b>&amp;",
        "x" * 300,
    ),
    *("new\nline\tand tab", "\u202eevil", "cafe\u0301", "a\x00\x07b\u200b", "bad\udcff", " ", ""),
)


@pytest.fixture(autouse=True)
def _warnings_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


@pytest.mark.parametrize(
    ("text", "limit", "shown"),
    [
        ("гвоздика", 0, "гвоздика"),
        (f"a {NONE}", 0, "a <U+E0F0>"),
        (NONE * 2, 0, "<U+E0F0 E0F0>"),
        (NONE * 9, 14, "<U+E0F0 E0F0>…"),
        ("bad\udcff", 0, "bad<U+DCFF>"),
        ("new\nline\tand  tab", 0, "new line and tab"),
        ("cafe\u0301", 4, "café"),
        ("\u202eevil\u200b\x07", 0, "evil"),
        ("a $100 bill", 0, r"a \$100 bill"),
        ("x" * 300, 8, "x" * 7 + "…"),
        (None, 0, "None"),
        ("", 8, ""),
    ],
)
def test_what_is_drawn_for_a_name(text: object, limit: int, shown: str) -> None:
    assert canvas.clean(text, limit) == shown


def test_every_picture_with_every_name(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Also where the user's own plots are set in something else, and by TeX."""
    rng, n = np.random.default_rng(0), len(NAMES)
    pixels = rng.integers(0, 255, (2 * n, 8, 8, 3), dtype=np.uint8)
    rows = [{"round": r, "image_accuracy": 0.4 + r / 10} for r in range(3)]
    line = Line([0.0, 1.0], [0.5, 0.6], [0.0, 0.1])
    with mpl.rc_context({"font.family": ["serif"], "text.usetex": True}):
        split_picture(rng.integers(0, 9, (n, n)), NAMES, NAMES, tmp_path / "split.png")
        sample_grid(pixels, NAMES, tmp_path / "grid.png", side=24, title=NAMES[0])
        votes = rng.integers(0, n, (2, 2 * n))
        label_panel(pixels, *votes, votes[0] > 5, votes[1], NAMES, tmp_path / "panel.png", side=24)
        compare_curves(dict.fromkeys(NAMES, rows), tmp_path / "curves.png")
        shares = {key: [0.5] * n for key in ("server", "audio_own", "image_own")}
        class_picture(shares, ("audio", "image"), NAMES, tmp_path / "classes.png")
        panels = {name: {"_hidden": line, NONE: line} for name in NAMES[:3]}
        draw(panels, ["_hidden", NONE], MEASURES["image_accuracy"], "rounds", tmp_path / "plot.png")
    assert len(list(tmp_path.glob("*.png"))) == 6
    assert capfd.readouterr() == ("", "")


def test_a_run_whose_name_begins_with_a_line_is_in_the_legend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so is one that lacks the first score."""
    drawn: list[list[str]] = []

    def save(figure: mpl.figure.Figure, target: object) -> None:
        drawn.append([text.get_text() for legend in figure.legends for text in legend.get_texts()])

    monkeypatch.setattr("fedloom.reporting.plots.save", save)
    rows = {"_a": [{"round": 0, "image_accuracy": 0.5}], "b": [{"round": 0, "text_accuracy": 0.5}]}
    compare_curves(rows, tmp_path / "c.png")
    assert drawn == [["_a", "b"]]


# --------------------------------------------------------------------------------------------------- other fonts


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[str]:
    """A font that has one private use character (as a square), and one that has it as nothing at all."""
    before = list(fontManager.ttflist)
    for name, side in (("A Sans of nothing", 0), ("Test Sans", 700)):
        path = tmp_path / f"{name}.ttf"
        _make_font(path, name, side)
        fontManager.addfont(path)
    _forget()
    yield "Test Sans"
    fontManager.ttflist[:] = before
    fontManager._findfont_cached.cache_clear()
    _forget()


def _make_font(path: Path, name: str, side: int) -> None:
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    if side:
        pen.moveTo((0, 0))
        for corner in ((0, side), (side, side), (side, 0)):
            pen.lineTo(corner)
        pen.closePath()
    glyphs = {".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()}
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder(list(glyphs))
    font.setupCharacterMap({ord(NONE): "square"})
    font.setupGlyf(glyphs)
    font.setupHorizontalMetrics(dict.fromkeys(glyphs, (800, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": name, "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(path)


def _forget() -> None:
    lettering._others.cache_clear()
    lettering._token.cache_clear()
    lettering._in_use.clear()
    canvas.text_width.cache_clear()


def ink(path: Path) -> int:
    with Image.open(path) as picture:
        return int((np.asarray(picture.convert("L")) < 128).sum())


def test_an_installed_font_that_has_the_character_is_used(tmp_path: Path, installed: str) -> None:
    assert lettering.spelled(NONE * 2) == NONE * 2
    assert installed in lettering._in_use
    assert lettering.not_drawn([NONE, "a"]) == []
    for bold in ("normal", "bold"):
        widths = [canvas.text_width(NONE * n, 8, bold) for n in (1, 3)]
        assert widths[1] > 2 * widths[0]
        sheet = canvas.Sheet(200, 40)
        sheet.text(10, 20, NONE * 5, fontweight=bold)
        sheet.save(tmp_path / "a.png")
        assert ink(tmp_path / "a.png") > 150  # five squares of 7 by 7 pixels or so
    sample_grid(np.full((2, 8, 8, 3), 255, np.uint8), [NONE, f"a {NONE} b"], tmp_path / "g.png")


def test_without_one_the_user_is_told(cli_partition: tuple[str, str]) -> None:
    out, err = cli_partition
    assert "picture split.png" in out
    assert err.endswith(
        f"no installed font has {NONE}: the picture has their numbers instead; with a font that has them, "
        "such as one of Noto's, it has the names\n"
    )


@pytest.fixture
def cli_partition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[str, str]:
    """What `partition --plot` says of pictures in two class folders, one under such a name."""
    from fedloom.cli.main import main

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("iris", f"rose {NONE}"):
        folder = tmp_path / "mine" / "images" / name
        folder.mkdir(parents=True)
        for i in range(12):
            Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    words = ["partition", "--data", "folder", "--root", "mine", "--plot", "split.png"]
    assert main([*words, "--set", "clients.text=[]", "--set", "data.minimum=1"]) == 0
    said = capsys.readouterr()
    return said.out, said.err
