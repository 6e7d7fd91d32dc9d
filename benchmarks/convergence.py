"""The quantities of FedMMKT's convergence analysis, round by round, of one run with `settings.diagnostics`.

fedloom run --set settings.diagnostics=true --set rounds=8 --out runs/diagnosed
python benchmarks/convergence.py runs/diagnosed docs/images/convergence.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fedloom.errors import BadInput, FedloomError
from fedloom.runs.disk import read_lines

FACTS = {
    "alignment_error": "alignment error between modalities",
    "client_drift": "client drift",
    "gradient_variance": "variance of the generator's gradient norm",
}


def curves(run: Path) -> dict[str, list[float | None]]:
    """The facts of each round from 1 on.

    Raises:
        BadInput: the run has none.
    """
    rounds = [r for r in read_lines(run / "metrics.jsonl") if r["round"] > 0]
    found = {fact: [(r.get("facts") or {}).get(fact) for r in rounds] for fact in FACTS}
    if all(value is None for values in found.values() for value in values):
        raise BadInput(f"{run}: no diagnostics in its metrics; run it with --set settings.diagnostics=true")
    return found


def draw(found: dict[str, list[float | None]], path: Path) -> None:
    """A panel a quantity."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 2.8), layout="constrained")
    for ax, (fact, values) in zip(figure.subplots(1, len(found)), found.items()):
        ax.plot(range(1, len(values) + 1), [float("nan") if v is None else v for v in values], marker="o")
        ax.set_title(FACTS[fact], fontsize=9)
        ax.set_xlabel("round")
        ax.set_ylim(bottom=0)
        ax.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        figure.savefig(file, format="png", dpi=130)


def main() -> int:
    """Exit code 2: bad input."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("run", type=Path)
    made.add_argument("picture", type=Path)
    given = made.parse_args()
    try:
        draw(curves(given.run), given.picture)
    except FedloomError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(given.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
