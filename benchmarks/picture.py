"""README's picture of a run: what LabVote did in round 1, and what the generator drew before and after.

    fedloom run --preset emoji --out runs/emoji
    python benchmarks/picture.py runs/emoji docs/images/emoji.png

Put together of the run's own `samples/`: nothing is drawn anew, and nothing is picked.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

GAP, TITLE = 12, 40


def picture_of(run: Path) -> Image.Image:
    """The labels of round 1, below them the first grid of samples and the last, on white.

    Many classes stand in two blocks side by side.

    Raises:
        FileNotFoundError: the run is not finished, or has drawn nothing.
    """
    classes = json.loads((run / "summary.json").read_text())["class_names"]
    grids = sorted((run / "samples").glob("round_*.png"))
    if len(grids) < 2:
        raise FileNotFoundError(f"{run / 'samples'}: two grids of samples or more are needed, found {len(grids)}")
    labels = Image.open(run / "samples" / "labels_0001.png").convert("RGB")
    last = int(grids[-1].stem.removeprefix("round_"))
    named = [("before", Image.open(grids[0])), (f"after round {last}", Image.open(grids[-1]))]
    parts = 2 if len(classes) >= 8 and len(classes) % 2 == 0 else 1
    blocks = [(name, grid.convert("RGB").crop(_part(grid, n, parts))) for n in range(parts) for name, grid in named]
    width = sum(block.width for _, block in blocks) + GAP * (len(blocks) - 1)
    labels = labels.crop((0, 0, labels.width, _content(labels)))
    top = labels.height + GAP + TITLE
    sheet = Image.new("RGB", (max(width, labels.width), top + blocks[0][1].height), "white")
    sheet.paste(labels, ((sheet.width - labels.width) // 2, 0))
    draw, font, x = ImageDraw.Draw(sheet), ImageFont.load_default(24), 0
    for name, block in blocks:
        draw.text((x + block.width / 2, top - TITLE / 2), name, fill="#333333", font=font, anchor="mm")
        sheet.paste(block, (x, top))
        x += block.width + GAP
    return sheet


def _part(grid: Image.Image, n: int, parts: int) -> tuple[int, int, int, int]:
    """The box of the rows of part n of a grid, whose rows are equally high."""
    return 0, n * grid.height // parts, grid.width, (n + 1) * grid.height // parts


def _content(image: Image.Image) -> int:
    """Height without the white at the bottom."""
    box = Image.eval(image.convert("L"), lambda value: 255 - value).getbbox()
    return box[3] if box else image.height


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("out", type=Path, help="the PNG")
    given = parser.parse_args()
    try:
        picture_of(given.run).save(given.out, optimize=True)
    except FileNotFoundError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
