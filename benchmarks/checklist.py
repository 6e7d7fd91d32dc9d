"""The orderings of FedMMKT's tables that finished comparisons can speak to: paired differences, intervals, p.

    python benchmarks/checklist.py runs/compare-table-1-flora runs/compare-table-3-flora [...]

Each line is `better > worse in SCORE, column`: the mean paired difference over the seeds that both have, its 95 %
interval, the two-sided p, corrected for the number of lines (Holm). `holds`: above zero with p < 0.05; `reversed`:
below zero with p < 0.05; else `in the mean` where it is above zero, `not` where it is not.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

from fedloom.comparison import load_comparison
from fedloom.comparison.statistics import BELOW, NOT_SHOWN, corrected, paired

NAMES = {"image_accuracy": "I", "text_accuracy": "X", "t2i_accuracy": "G", "clip_score": "CS"}
FEDERATED = ("FedMD", "FedGEMS", "Fed-ET", "DisentAFL", "FedMBridge", "CreamFL", "FedMEKT")
OWN = ("l-FedMMKT", "u-FedMMKT", "FedMMKT")
CHAIN = ("FedMMKT", "u-FedMMKT", "l-FedMMKT", "FedMEKT", "CreamFL", "FedMBridge", "DisentAFL", "Standalone")

Values = dict[tuple[str, str, str], dict[int, float]]  # row, column, score -> seed -> value
Line = tuple[str, dict[int, float], dict[int, float]]  # what is said, and the values of the better and the worse


def values_of(folders: list[Path], names: Iterable[str] = NAMES) -> Values:
    """Scores `names` after the last round; of a public set and of synthetic samples apart, by the comparison's name."""
    found: Values = {}
    for folder in folders:
        for cell in load_comparison(folder).cells:
            for score in names:
                value = ((cell.get("scores") or {}).get(score) or {}).get("after")
                if value is not None:
                    found.setdefault((cell["row"], cell["column"], score), {})[cell["seed"]] = value
    return found


def lines(values: Values) -> Iterator[Line]:
    """Everything that both sides are there for."""
    columns = dict.fromkeys(column for _, column, _ in values)
    for column in columns:
        present = [r for r in CHAIN if any((r, column, s) in values for s in NAMES)]
        others = [r for r in dict.fromkeys(r for r, c, _ in values if c == column) if r not in present]
        for score in NAMES:
            if "Standalone" in present:
                for row in (*FEDERATED, *OWN):
                    yield from compared(values, row, "Standalone", column, score)
            best = "FedMMKT" if "FedMMKT" in present else "u-FedMMKT"
            for row in (*others, *present):
                if row not in (best, "Standalone"):
                    yield from compared(values, best, row, column, score)
            for row in FEDERATED:
                if best != "l-FedMMKT":
                    yield from compared(values, "l-FedMMKT", row, column, score)
            chain = [r for r in ("FedMEKT", "CreamFL", "FedMBridge", "DisentAFL") if r in present]
            for better, worse in itertools.pairwise(chain):
                yield from compared(values, better, worse, column, score)
    for one, two in (("2+2 : 2+2", "images 2+2"), ("2 : 2", "2+2 : 2+2"), ("2+2 : 2+2", "2+2+2 : 2+2+2")):
        for row in CHAIN:
            for score in ("image_accuracy", "text_accuracy"):
                if (row, one, score) in values and (row, two, score) in values:
                    yield (
                        f"{row}: {one} > {two} in {NAMES[score]}",
                        values[row, one, score],
                        values[row, two, score],
                    )


def compared(values: Values, better: str, worse: str, column: str, score: str) -> Iterator[Line]:
    """One line, if both have the score."""
    one, two = values.get((better, column, score)), values.get((worse, column, score))
    if one and two:
        where = f", {column}" if column else ""
        yield f"{better} > {worse} in {NAMES[score]}{where}", one, two


def table(found: Iterable[Line]) -> Iterator[str]:
    """The lines in Markdown, tests corrected for their number."""
    there = list(found)
    differences = [paired(one, two) for _, one, two in there]
    there = [line for line, d in zip(there, differences) if d["n"]]  # both have a seed in common
    differences = [d for d in differences if d["n"]]
    corrected(differences)
    yield "| ordering | difference | p | |\n|---|---|---|---|"
    for (what, _, _), d in zip(there, differences):
        p, shown = d["p_holm"], d["verdict"]
        verdict = ("in the mean" if d["mean"] > 0 else "not") if shown == NOT_SHOWN else "holds"
        verdict = "reversed" if shown == BELOW else verdict
        interval = "" if d["low"] is None else f" [{d['low']:+.3f}, {d['high']:+.3f}]"
        yield f"| {what} | {d['mean']:+.3f}{interval} | {'' if p is None else f'{p:.3f}'} | {verdict} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    given = parser.parse_args()
    for line in table(lines(values_of(given.folders))):
        print(line)


if __name__ == "__main__":
    main()
