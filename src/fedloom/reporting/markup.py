"""Small pieces of HTML. Everything that comes from a run goes through `esc`."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from fedloom.errors import FedloomError

TRUST = "Before you trust these scores"  # over the warnings of a run or a comparison


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def esc(text: object) -> Markup:
    """Any text made safe to stand in HTML, inside or outside an attribute; `Markup` stays as it is."""
    return text if isinstance(text, Markup) else Markup(html.escape(str(text), quote=True))


def join(parts: Sequence[object]) -> Markup:
    """Pieces one after another."""
    return Markup("\n".join(esc(part) for part in parts if part))


def section(title: str, note: str, *parts: object) -> Markup:
    """A titled box, or nothing when it would be empty."""
    content = join(parts)
    if not content:
        return Markup("")
    text = f'<p class="note">{esc(note)}</p>' if note else ""
    return Markup(f"<section>\n<h2>{esc(title)}</h2>\n{text}\n{content}\n</section>")


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    numbers: Sequence[int] = (),
    dim: Sequence[int] = (),
) -> Markup:
    """A table.

    Args:
        head: names of columns.
        rows: cells; text is escaped.
        numbers: columns to set flush right.
        dim: rows to set back.
    """
    if not rows:
        return Markup("")

    def line(tag: str, cells: Sequence[object], row: int = -1) -> str:
        kinds = [' class="n"' if i in numbers else "" for i in range(len(cells))]
        inside = "".join(f"<{tag}{kind}>{esc(cell)}</{tag}>" for kind, cell in zip(kinds, cells))
        back = ' class="dim"' if row in dim else ""
        return f"<tr{back}>{inside}</tr>"

    body = "\n".join(line("td", cells, i) for i, cells in enumerate(rows))
    return Markup(f'<div class="scroll"><table>\n{line("th", head)}\n{body}\n</table></div>')


def image(data: bytes, alt: str, *, width: int | None = None) -> Markup:
    """A PNG inside the page.

    Args:
        width: shown width in CSS pixels, at most that of the page.
    """
    size = f' width="{width}"' if width else ""
    encoded = base64.b64encode(data).decode()
    return Markup(f'<img alt="{esc(alt)}"{size} src="data:image/png;base64,{encoded}">')


def figure(picture: Markup, caption: str) -> Markup:
    """A picture under a caption."""
    return Markup(f"<figure><figcaption>{esc(caption)}</figcaption>{picture}</figure>")


def drawn(draw: Callable[[BinaryIO], object], alt: str) -> Markup:
    """The plot that `draw` writes."""
    buffer = BytesIO()
    draw(buffer)
    return image(buffer.getvalue(), alt)


def picture_file(path: Path, alt: str, *, height: int | None = None) -> Markup:
    """A picture from disk, as it is or as a thumbnail `height` pixels high; a note if it is none."""
    from PIL import Image, UnidentifiedImageError

    try:
        data = path.read_bytes()
        with Image.open(BytesIO(data)) as opened:
            copy = opened.convert("RGB")
            as_it_is = opened.format == "PNG" and not (height and copy.height > height)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        return Markup(f'<p class="note">{esc(path.name)} cannot be read as a picture.</p>')
    if as_it_is:
        return image(data, alt, width=copy.width)
    if height and copy.height > height:
        size = max(1, round(copy.width * height / copy.height)), height
        copy = copy.resize(size, Image.Resampling.LANCZOS)
    buffer = BytesIO()
    copy.save(buffer, "PNG")
    return image(buffer.getvalue(), alt, width=copy.width)


def sparkline(values: Sequence[float]) -> Markup:
    """A tiny line of values, '' for fewer than two."""
    if len(values) < 2:
        return Markup("")
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    points = [(4 + 152 * i / (len(values) - 1), 26 - 22 * (v - low) / span) for i, v in enumerate(values)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    return Markup(
        f'<svg viewBox="0 0 160 30" aria-hidden="true"><polyline points="{path}" fill="none" '
        f'stroke="#0072b2" stroke-width="2" stroke-linejoin="round"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#0072b2"/></svg>'
    )


def warning_name(name: str, level: str) -> Markup:
    """A warning's name in the colour of its level."""
    return Markup(f'<b class="nowrap {"down" if level == "serious" else "caution"}">{esc(name)}</b>')


def page(title: str, body: Markup) -> str:
    """The whole page.

    Raises:
        FedloomError: the template is missing from the installation.
    """
    from importlib import resources
    from string import Template

    template = resources.files("fedloom.reporting").joinpath("page.html")
    try:
        text = template.read_text(encoding="utf-8")
    except OSError as error:
        raise FedloomError(f"the installation of fedloom lacks {template}: install it again.") from error
    return Template(text).substitute(title=esc(title), body=body)
