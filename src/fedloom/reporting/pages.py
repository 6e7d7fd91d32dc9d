"""HTML from the templates in `templates/`: the data that they take, and pictures that lie inside the page."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from fedloom.errors import FedloomError
from fedloom.formatting import second_text

if TYPE_CHECKING:
    from jinja2 import Environment

TRUST = "Before you trust these scores"  # over the warnings of a run or a comparison


@dataclass(frozen=True)
class Cell:
    """A cell of a table that is more than text.

    css: a class of the style sheet. small: a second line. href: where it leads.
    """

    text: str
    css: str = ""
    bold: bool = False
    small: Cell | None = None
    href: str = ""


@dataclass
class Table:
    """A table; whatever is no `Cell` is shown as text.

    numbers: columns set flush right. dim: rows set back.
    """

    head: Sequence[str]
    rows: Iterable[Sequence[object]]
    numbers: Collection[int] = ()
    dim: Collection[int] = ()
    title: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        self.rows = [[v if isinstance(v, Cell) else Cell(str(v)) for v in row] for row in self.rows]


@dataclass(frozen=True)
class Image:
    """A PNG inside the page, `width` CSS pixels wide at most; or the `problem` that stands in its place."""

    alt: str
    data: str = field(default="", repr=False)
    width: int | None = None
    problem: str = ""


def drawn(draw: Callable[[BinaryIO], object], alt: str) -> Image:
    """The plot that `draw` writes."""
    buffer = BytesIO()
    draw(buffer)
    return Image(alt, base64.b64encode(buffer.getvalue()).decode())


def picture_file(path: Path, alt: str, *, height: int | None = None) -> Image:
    """A picture from disk, as it is or as a thumbnail `height` pixels high."""
    import PIL.Image

    try:
        data = path.read_bytes()
        with PIL.Image.open(BytesIO(data)) as opened:
            copy = opened.convert("RGB")
            as_it_is = opened.format == "PNG" and not (height and copy.height > height)
    except (OSError, SyntaxError, ValueError):
        return Image(alt, problem=f"{path.name} cannot be read as a picture.")
    if not as_it_is:
        if height:
            copy.thumbnail((copy.width, height), PIL.Image.Resampling.LANCZOS)
        buffer = BytesIO()
        copy.save(buffer, "PNG")
        data = buffer.getvalue()
    return Image(alt, base64.b64encode(data).decode(), copy.width)


def warning_name(name: str, level: str) -> Cell:
    """A warning's name in the colour of its level."""
    return Cell(name, f"nowrap {'down' if level == 'serious' else 'caution'}", bold=True)


def render(template: str, **facts: Any) -> str:
    """The HTML of a template, everything in it escaped.

    Raises:
        FedloomError: the template is missing from the installation.
    """
    from jinja2 import TemplateNotFound

    try:
        return _with_contents(_environment().get_template(template).render(facts))
    except TemplateNotFound as error:
        raise FedloomError(f"the installation of fedloom lacks the template {error}: install it again.") from error


_PART = re.compile(r'<(section)>\n<h2>(.*?)</h2>|<(details) class="run"><summary>(.*?)</summary>')
_FEW = 3  # sections that need no contents


def _with_contents(page: str) -> str:
    """A page with a list of its sections before the first; of several runs each is one entry."""
    entries: list[str] = []
    runs = False

    def anchored(part: re.Match[str]) -> str:
        nonlocal runs
        runs |= part[3] is not None
        if runs and part[1]:
            return part[0]
        entries.append(f'<a href="#s{len(entries)}">{part[2] or part[4]}</a>')
        return part[0].replace(f"<{part[1] or part[3]}", f'<{part[1] or part[3]} id="s{len(entries) - 1}"', 1)

    page, head = _PART.sub(anchored, page), _PART.search(page)
    if head is None or len(entries) <= _FEW or "<main>" not in page:  # no page, but a part of a notebook
        return page
    return f'{page[: head.start()]}<nav aria-label="Contents">{" ".join(entries)}</nav>\n{page[head.start() :]}'


def notebook(
    name: str,
    state: str,
    *,
    tables: Sequence[Table] = (),
    lines: Sequence[str] = (),
    lines_title: str = TRUST,
    pictures: Sequence[tuple[str, Image]] = (),
    folder: Path | None = None,
) -> str:
    """What a notebook shows: name and state, tables, lines under a title, pictures with captions, the folder."""
    return render(
        "glance.html",
        name=name,
        state=state,
        tables=tables,
        lines=lines,
        lines_title=lines_title,
        pictures=pictures,
        folder=folder,
    )


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader

    found = Environment(
        loader=PackageLoader("fedloom.reporting"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    found.filters |= {"points": _points, "seconds": second_text}
    return found


def _points(values: Sequence[float]) -> list[tuple[float, float]]:
    """The corners of a line through values in a box of 160 x 30; none for fewer than two values.

    Changes of less than a tenth of the values do not fill its height: that would be noise.
    """
    if len(values) < 2:
        return []
    low, high = min(values), max(values)
    span = max(high - low, 0.1 * max(abs(low), abs(high))) or 1.0
    foot = (low + high - span) / 2
    return [(4 + 152 * i / (len(values) - 1), 26 - 22 * (v - foot) / span) for i, v in enumerate(values)]
