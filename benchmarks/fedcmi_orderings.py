"""FedCMI's five orderings on finished comparisons: paired differences, intervals, p.

    python benchmarks/fedcmi_orderings.py runs/compare-fedcmi-duet

Lines are as in checklist.py. F: the shared model by both kinds; A, V: its own classifier of sounds, of pictures; pA,
pV: a linear probe on its features of either; filled, zeros: its fusion head where the other kind is missing.
Methods are compared in the weak kind by the probe, the same readout for all: only FedCMI's rows have classifiers of
their own, and A and V of the others are fusion heads fed zeros.
Orderings 1 and 5 are one list: 5 is 1 in the columns of Dirichlet splits, half the clients and missing samples.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from checklist import Line, Values, table, values_of

NAMES = {
    "server_accuracy": "F",
    "joint_accuracy": "clients' mean",
    "audio_own": "A",
    "image_own": "V",
    "audio_probe": "pA",
    "image_probe": "pV",
    "audio_zeros": "A, zeros",
    "image_zeros": "V, zeros",
    "audio_filled": "A, filled",
    "image_filled": "V, filled",
    "server_spread": "spread",
}
BASELINES = ("FedAvg", "FedAvg +unimodal CE", "FedProx", "SCAFFOLD", "FedProto", "OGM-GE", "PMR", "FedMSplit")
ABLATIONS = ("-infiltration", "-self-projector", "-class-wise", "-proximal")


def weak_kind(column: str) -> str:
    """The kind that is weak in that column of the presets."""
    return "audio" if "sounds weak" in column else "image"


def lines(values: Values) -> Iterator[Line]:
    """The orderings by their numbers in the specification, column by column; below them the ablations."""
    for column in dict.fromkeys(column for _, column, _ in values):
        weak = weak_kind(column)

        def compared(
            number: object,
            better: tuple[str, str],
            worse: tuple[str, str],
            column: str = column,
        ) -> Iterator[Line]:
            one, two = (values.get((row, column, score)) for row, score in (better, worse))
            if one and two:
                left, right = (f"{row} {NAMES[score]}" for row, score in (better, worse))
                yield f"{number}: {left} > {right}, {column}", one, two

        for score in (f"{weak}_probe", "server_accuracy"):
            for row in BASELINES:
                yield from compared(1, ("FedCMI", score), (row, score))
        for score in (f"{weak}_own", f"{weak}_probe"):
            yield from compared(2, ("FedCMI", score), ("FedCMI -self-projector", score))
        yield from compared(3, ("FedCMI -class-wise", "server_spread"), ("FedCMI", "server_spread"))
        for kind in ("audio", "image"):
            yield from compared(4, ("FedCMI", f"{kind}_filled"), ("FedCMI", f"{kind}_zeros"))
        for row in ABLATIONS:
            for score in ("server_accuracy", f"{weak}_own", f"{weak}_probe"):
                yield from compared("ablation", ("FedCMI", score), (f"FedCMI {row}", score))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    for line in table(lines(values_of([parser.parse_args().folder], NAMES))):
        print(line)


if __name__ == "__main__":
    main()
