"""Whether a new run is what the kept rows predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from evidence import rows
from evidence.rows import Row
from evidence.tables import Kept
from fedloom.comparison.statistics import prediction

FEWEST = 3  # kept runs that a prediction is made of
OUTSIDE = 0.05  # share of new runs that a 95 % prediction interval leaves out
RARE = 0.01  # more outside than this probability explains is no chance

RULE = (
    "Chance leaves 5 % outside. The exit code is 1 where as many as here, or more, have a probability below 1 % "
    "(binomial). Scores of one run and runs of one seed hang together, hence 1 % and not 5 %."
)


@dataclass(frozen=True)
class Check:
    """A score of a new run, and the 95 % prediction interval of n kept runs of that arm with other seeds.

    same: what the kept run with this seed has, if there is one. low, high: None with fewer than three kept runs.
    """

    arm: str
    seed: int
    score: str
    value: float
    n: int
    low: float | None
    high: float | None
    same: float | None

    @property
    def inside(self) -> bool | None:
        """None: there are too few kept runs to say."""
        if self.low is None or self.high is None:
            return None
        slack = 1e-6 * max(abs(self.low), abs(self.high))  # rows hold eight digits
        return self.low - slack <= self.value <= self.high + slack

    @property
    def text(self) -> str:
        """`fedmmkt seed 0, image_accuracy 0.742: inside [0.580, 0.934] (9 runs); this seed had 0.757 (-0.015)`."""
        said = {None: f"only {self.n} kept runs of other seeds", True: "inside", False: "OUTSIDE"}[self.inside]
        if self.low is not None:
            said += f" [{self.low:.3f}, {self.high:.3f}] ({self.n} runs)"
        if self.same is not None:
            gap = self.value - self.same
            equal = abs(gap) <= 1e-6 * max(abs(self.value), abs(self.same))
            said += f"; this seed had {self.same:.3f} ({'equal' if equal else f'{gap:+.3f}'})"
        return f"{self.arm} seed {self.seed}, {self.score} {self.value:.3f}: {said}"


def checks(found: Kept, row: Row) -> list[Check]:
    """One for each score that the row and kept rows of its arm have."""
    arm, seed = row["arm"], int(row["seed"])
    out = []
    for score in found.study.scores:
        value, there = rows.number(row, score), found.values(arm, score)
        if value is None or not there:
            continue
        same = there.pop(seed, None)  # no new member: it is the same draw of everything
        low, high = prediction(list(there.values())) if len(there) >= FEWEST else (None, None)
        out.append(Check(arm, seed, score, value, len(there), low, high, same))
    return out


def chance(outside: int, total: int) -> float:
    """The probability of so many outside, or more, of independent checks."""
    from scipy.stats import binom

    return float(binom.sf(outside - 1, total, OUTSIDE))


def judged(found: Sequence[Check]) -> tuple[list[str], bool]:
    """The lines below the checks, and whether chance explains what is outside."""
    known = [c for c in found if c.inside is not None]
    outside = sum(not c.inside for c in known)
    lines = []
    for score in dict.fromkeys(c.score for c in found):
        gaps = [c.value - c.same for c in found if c.score == score and c.same is not None]
        if gaps:
            lines.append(f"{score}: {fmean(gaps):+.3f} against the kept runs of the same seeds, mean of {len(gaps)}")
    p = chance(outside, len(known))
    lines += [f"{outside} of {len(known)} scores are outside; chance gives so many or more with p = {p:.3g}.", RULE]
    return lines, p >= RARE
