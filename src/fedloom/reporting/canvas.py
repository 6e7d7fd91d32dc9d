"""What all pictures share: colours that colour-blind readers can tell apart, safe text, saving."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from fedloom.reporting.lettering import fonts, spelled
from fedloom.runs.disk import write_atomic

Target = Path | BinaryIO
Pixels = NDArray[np.uint8]

# Okabe and Ito's palette.
BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
INK, MUTED, GRID = "#1f2933", "#6b7785", "#e3e7eb"
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, VERMILLION, SKY, "#000000", "#999999")

MARKS = "osD^vPXh"  # of the lines in these colours

DPI = 150
HANDLE = 4.0  # length of a line in a legend, in which dashes show


def clean(text: object, limit: int = 0) -> str:
    """`text` on one line of characters that can be drawn, without formula signs; cut to `limit` columns, unless 0."""
    return spelled(text, limit).replace("$", r"\$")


def save(figure: Any, target: Target) -> None:
    """Write a figure as PNG, at its own dpi: a file is there as a whole, or as it was.

    Raises:
        FedloomError: the file cannot be written.
    """
    drawn = BytesIO()
    with fonts() as families:
        for text in figure.findobj(Text):  # whatever the user's own plots are set in
            text.set(fontfamily=families, usetex=False, parse_math=True)
        figure.savefig(drawn, format="png", dpi=figure.dpi, metadata={"Software": None})
    if isinstance(target, Path):
        write_atomic(target, drawn.getvalue())
    else:
        target.write(drawn.getvalue())


def panels(count: int, *, across: int = 0, width: float = 10, height: float = 2.75, **options: Any) -> tuple[Any, Any]:
    """A figure with `count` plots, at most three a row unless `across` says how many, and those plots.

    Args:
        width: of the figure, inches.
        height: of a row of plots, inches.
        options: of `Figure.subplots`.
    """
    across = across or (2 if count in (2, 4) else min(3, max(1, count)))
    down = max(1, -(-count // across))
    layout = ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.08)
    figure = Figure(figsize=(width, height * down), dpi=DPI, layout=layout, facecolor="white")
    axes = list(figure.subplots(down, across, squeeze=False, **options).flat)
    for spare in axes[max(1, count) :]:
        spare.set_visible(False)
    return figure, axes


def style(axes: Any, title: str, *, rounds: bool = True) -> None:
    """The common look of a plot: a title at the left, a light grid, no box, whole rounds."""
    axes.set_title(title, loc="left", fontsize=10.5, color=INK, fontweight="bold")
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#b8c0c8")
    axes.tick_params(colors=MUTED, labelsize=8.5, length=0)
    if rounds:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
        axes.set_xlabel("round", fontsize=8.5, color=MUTED)


def from_least(axes: Any, least: float = 0.0) -> None:
    """The y axis begins where the quantity does, so that noise does not fill the plot; lines below it are shown whole.

    Call it when all is drawn.
    """
    values = np.concatenate([[least], *(np.asarray(line.get_ydata(), dtype=float) for line in axes.get_lines())])
    if np.nanmin(values) < least:
        axes.margins(y=0.12)
        return
    highest = float(np.nanmax([*values, axes.dataLim.y1 if np.isfinite(axes.dataLim.y1) else least]))
    axes.set_ylim(least, least + 1.14 * (highest - least) if highest > least else least + 1)


def empty(axes: Any, text: str) -> None:
    """A plot that has nothing to show says so."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", color=MUTED, fontsize=11)


def line_look(number: int) -> dict[str, Any]:
    """Colour, dashes and marks of the line with that number: no two of the first 24 are alike.

    Later lines are thinner, and lie on the others: of equal ones each is seen.
    """
    place, dash = number % len(CYCLE), ("-", "--", ":")[number // len(CYCLE) % 3]
    look = {"color": CYCLE[place], "linestyle": dash, "marker": MARKS[place]}
    return look | {"linewidth": 3.4 - 0.3 * place, "markersize": 7 - 0.5 * place, "markeredgewidth": 0}


def legend(axes: Any, **options: Any) -> None:
    """A legend without a box."""
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, **options)


def legend_below(figure: Any, handles: Mapping[str, Any], columns: int, limit: int = 40) -> None:
    """One legend for all plots, under them; names are cut to `limit` columns."""
    # Named here: matplotlib leaves out lines whose own label begins with "_".
    names = [clean(name, limit) for name in handles]
    look: dict[str, Any] = {"frameon": False, "fontsize": 8.5, "handlelength": HANDLE, "ncols": columns}
    figure.legend(list(handles.values()), names, loc="outside lower center", **look)


def resized(images: Pixels, side: int) -> Pixels:
    """Pictures (N, H, W, 3) at about `side` pixels: small ones repeated pixel by pixel, large ones shrunk."""
    _, h, w, _ = images.shape
    largest = max(h, w)
    if largest <= 1.5 * side:
        factor = max(1, round(side / largest))
        return images.repeat(factor, axis=1).repeat(factor, axis=2)
    size = max(1, round(w * side / largest)), max(1, round(h * side / largest))
    return np.stack([np.asarray(Image.fromarray(i).resize(size, Image.Resampling.LANCZOS)) for i in images])


class Sheet:
    """A figure addressed in pixels from its top left corner, on which pictures keep every pixel."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        # One dot is one pixel; 100 dots an inch makes 7.2 points ten pixels high.
        self.figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor="white")
        self._canvas = FigureCanvasAgg(self.figure)  # measures text
        self.pixels: Pixels = np.full((height, width, 3), 255, np.uint8)

    def paste(self, image: Pixels, x: int, y: int) -> None:
        """Put a picture (h, w, 3) with its top left corner at (x, y)."""
        self.pixels[y : y + image.shape[0], x : x + image.shape[1]] = image

    def frame(self, x: int, y: int, w: int, h: int, colour: str, thick: int = 3) -> None:
        """A frame around the box (x, y, w, h), outside it."""
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        inside = self.pixels[y : y + h, x : x + w].copy()
        self.pixels[y - thick : y + h + thick, x - thick : x + w + thick] = rgb
        self.pixels[y : y + h, x : x + w] = inside

    def text(self, x: float, y: float, text: str, *, struck: bool = False, **options: Any) -> None:
        """A line of text that starts at (x, y), the middle of its height; `struck` draws a line through."""
        from matplotlib.lines import Line2D
        from matplotlib.transforms import IdentityTransform

        options = {"va": "center", "fontsize": 8, "color": INK, **options}
        shown = clean(text)
        with fonts():
            placed = self.figure.text(x, self.height - y, shown, transform=IdentityTransform(), **options)
            box = placed.get_window_extent(self._canvas.get_renderer()) if struck else None
        if box is not None:
            middle = (box.y0 + box.y1) / 2
            line = Line2D([box.x0 - 1, box.x1 + 1], [middle, middle], transform=IdentityTransform())
            line.set(color=options["color"], linewidth=1.1)
            self.figure.add_artist(line)

    def fit(self, text: str, width: float, **options: Any) -> str:
        """`text`, cut with an ellipsis to be at most `width` pixels wide."""
        line = " ".join(text.split())
        if text_width(line, **options) <= width:
            return line
        keep = bisect_right(range(1, len(line)), width, key=lambda n: text_width(line[:n] + "…", **options))
        return line[:keep].rstrip() + "…"

    def save(self, target: Target) -> None:
        """Write the sheet as a PNG of exactly its size."""
        self.figure.figimage(self.pixels, 0, 0, origin="upper", zorder=-1)
        save(self.figure, target)


@lru_cache(maxsize=4096)
def text_width(text: str, fontsize: float = 8, fontweight: str = "normal") -> float:
    """Width of a line of text on a sheet, pixels."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    if not text.strip():
        return 0.0
    shown = clean(text)  # first: it is then known which fonts it needs
    with fonts():
        path = TextPath((0, 0), shown, prop=FontProperties(size=fontsize, weight=fontweight))
    return float(path.get_extents().width) * 100 / 72
