"""The eight orderings of FedAFD's tables on finished comparisons: paired differences, intervals, p.

    python benchmarks/fedafd_orderings.py runs/compare-fedafd-flora

Lines are as in checklist.py. I, X: image and text accuracy; P: mean R@1 of clients of pairs; S: the server's sum of R@1
both ways, in [0, 2].
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from checklist import Values, said

from fedloom.comparison import load_comparison

NAMES = {"image_accuracy": "I", "text_accuracy": "X", "pair_recall": "P", "server_recall": "S"}
CLIENTS = ("image_accuracy", "text_accuracy", "pair_recall")
BASELINES = ("FedMD", "FedGEMS", "CreamFL", "Fed-ET")


def values_of(folder: Path) -> Values:
    """Scores after the last round, and the round at which the plan's target was reached (R)."""
    found: Values = {}
    for cell in load_comparison(folder).cells:
        for score in (*NAMES, "rounds_to_target"):
            value = ((cell.get("scores") or {}).get(score) or {}).get("after")
            if value is not None:
                found.setdefault((cell["row"], cell["column"], score), {})[cell["seed"]] = value
    return found


def lines(values: Values) -> Iterator[str]:
    """The orderings by their numbers in the specification, column by column."""
    for column in dict.fromkeys(column for _, column, _ in values):

        def compared(
            number: int, better: str, worse: str, *scores: str, column: str = column
        ) -> Iterator[str]:
            for score in scores:
                one, two = (values.get((row, column, score)) for row in (better, worse))
                if one and two:
                    yield said(f"{number}: {better} > {worse} in {NAMES[score]}, {column}", one, two)

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
            yield said(f"7: FedAFD, {better} > {worse} in {NAMES[score]}", one, two)


def rounds(values: Values) -> Iterator[str]:
    """Ordering 8: rounds until the server reached the plan's target, of the seeds that did."""
    for (row, column, score), found in values.items():
        if score == "rounds_to_target":
            each = ", ".join(f"{found[seed]:.0f}" for seed in sorted(found))
            yield f"| {row} | {column} | {each} |"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    values = values_of(parser.parse_args().folder)
    print("| ordering | difference | p | |\n|---|---|---|---|")
    for line in lines(values):
        print(line)
    print("\n| 8: rounds to target | | by seed |\n|---|---|---|")
    for line in rounds(values):
        print(line)


if __name__ == "__main__":
    main()
