"""README's picture of a run: what LabVote did in round 1, and what the generator drew before and after.

    fedloom run --preset emoji --out runs/emoji
    python benchmarks/picture.py runs/emoji docs/images/emoji.png

Put together of the run's own `samples/`: nothing is drawn anew, and nothing is picked.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

GAP = 12


def picture_of(run: Path) -> Image.Image:
    """The labels of round 1 at the left, the first and the last grid of samples beside them, on white.

    Raises:
        FileNotFoundError: the run has drawn nothing, or was not let finish round 1.
    """
    grids = sorted((run / "samples").glob("round_*.png"))
    if len(grids) < 2:
        raise FileNotFoundError(f"{run / 'samples'}: two grids of samples or more are needed, found {len(grids)}")
    parts = [Image.open(path).convert("RGB") for path in (run / "samples" / "labels_0001.png", grids[0], grids[-1])]
    height = max(part.height for part in parts)
    width = sum(part.width for part in parts) + GAP * (len(parts) - 1)
    sheet, x = Image.new("RGB", (width, height), "white"), 0
    for part in parts:
        sheet.paste(part, (x, 0))
        x += part.width + GAP
    return sheet


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
