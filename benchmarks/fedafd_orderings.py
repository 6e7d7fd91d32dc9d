"""The eight orderings of FedAFD's tables on finished comparisons: paired differences, intervals, p.

    python benchmarks/fedafd_orderings.py runs/compare-fedafd-flora --target 0.7

Lines are as in checklist.py. I, X: image and text accuracy; P: mean R@1 of image-text clients; S: the server's sum of
R@1 both ways, in [0, 2].
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from checklist import Line, Values, table, values_of

from fedloom.comparison import load_comparison

NAMES = {"image_accuracy": "I", "text_accuracy": "X", "pair_recall": "P", "server_recall": "S"}
CLIENTS = ("image_accuracy", "text_accuracy", "pair_recall")
BASELINES = ("FedMD", "FedGEMS", "CreamFL", "Fed-ET")


def lines(values: Values) -> Iterator[Line]:
    """The orderings by their numbers in the specification, column by column."""
    for column in dict.fromkeys(column for _, column, _ in values):

        def compared(number: int, better: str, worse: str, *scores: str, column: str = column) -> Iterator[Line]:
            for score in scores:
                one, two = (values.get((row, column, score)) for row in (better, worse))
                if one and two:
                    yield f"{number}: {better} > {worse} in {NAMES[score]}, {column}", one, two

        yield from compared(1, "FedAFD", "Local", *NAMES)
        yield from compared(2, "FedAFD", "FedAFD -GFF", *CLIENTS)
        yield from compared(2, "Local", "FedAFD -GFF", *CLIENTS)
        yield from compared(3, "FedAFD", "CreamFL", "server_recall")
        yield from compared(4, "FedAFD", "FedAFD -BAA", "server_recall")
        yield from compared(4, "FedAFD -BAA", "FedAFD", "image_accuracy")
        yield from compared(5, "FedAFD", "FedAFD -SED", *NAMES)
        for row in BASELINES:
            if row == "Fed-ET":
                yield from compared(6, row, "Local", "image_accuracy", "text_accuracy")
            else:
                yield from compared(6, "Local", row, "image_accuracy")
    for score, better, worse in (
        ("server_recall", "P = 1200", "non-IID"),
        *((score, "non-IID", "P = 1200") for score in CLIENTS),
    ):
        one, two = (values.get(("FedAFD", column, score)) for column in (better, worse))
        if one and two:
            yield f"7: FedAFD, {better} > {worse} in {NAMES[score]}", one, two


def rounds(folder: Path, target: float) -> Iterator[str]:
    """Ordering 8: the first scored round at which the server's sum was `target` or more; a dash where it never was."""
    found: dict[tuple[str, str], dict[int, str]] = {}
    for cell in load_comparison(folder).cells:
        reached = [p["round"] for p in cell["rounds"] if (p.get("server_recall") or 0.0) >= target]
        found.setdefault((cell["row"], cell["column"]), {})[cell["seed"]] = str(reached[0]) if reached else "-"
    for (row, column), each in found.items():
        yield f"| {row} | {column} | {', '.join(each[seed] for seed in sorted(each))} |"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--target", type=float, default=0.6, help="of ordering 8, the server's sum of R@1")
    given = parser.parse_args()
    for line in table(lines(values_of([given.folder], NAMES))):
        print(line)
    print(f"\n| 8: rounds to {given.target:g} | | by seed |\n|---|---|---|")
    for line in rounds(given.folder, given.target):
        print(line)


if __name__ == "__main__":
    main()
