"""Tables of a study's kept rows, in Markdown. A seed's rows are of one machine, and the note says of which."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from evidence import rows
from evidence.rows import Row
from evidence.studies import BEFORE, Claim, Study
from fedloom.comparison.statistics import corrected, p_text, paired, spread, verdict_text
from fedloom.errors import unknown

NONE = "–"
Values = dict[int, float]  # by seed


@dataclass(frozen=True)
class Kept:
    """The rows of a study that its tables are made of, and what was left out.

    stale: rows of settings that the study has no more. beside: rows of other machines than their seed's.
    """

    study: Study
    rows: tuple[Row, ...]
    stale: int
    beside: tuple[Row, ...]

    def only(self, seeds: Collection[int] | None) -> Kept:
        """The rows of these seeds; of all for None."""
        return self if seeds is None else replace(self, rows=tuple(r for r in self.rows if int(r["seed"]) in seeds))

    def values(self, arm: str, score: str) -> Values:
        """A column of an arm, by seed; of `ARM (before)` the score before the first round."""
        column = f"{score}_before" if arm.endswith(BEFORE) else score
        arm = arm.removesuffix(BEFORE)
        found = {int(r["seed"]): rows.number(r, column) for r in self.rows if r["arm"] == arm}
        return {seed: found[seed] for seed in sorted(found) if found[seed] is not None}  # type: ignore[misc]

    @cached_property
    def arms(self) -> list[str]:
        """Those with rows, in the study's order; after the main one what it began from."""
        there = {r["arm"] for r in self.rows}
        found = [arm for arm in self.study.arms if arm in there]
        if self.study.main in found:
            found.insert(found.index(self.study.main) + 1, self.study.main + BEFORE)
        return found

    @cached_property
    def seeds(self) -> list[int]:
        """All that have a row."""
        return sorted({int(r["seed"]) for r in self.rows})

    def kind(self, arm: str) -> str:
        """What a reader must know of an arm."""
        kinds = ["no client"] * (arm in self.study.without_clients) + ["oracle bound"] * (arm in self.study.bounds)
        return ", ".join(kinds)

    @property
    def note(self) -> str:
        """Seeds, machine, commits, and what is not in the tables."""
        if not self.rows:
            return "No rows are kept yet."
        commits = sorted({r["commit"] for r in self.rows})
        text = f"{counted(len(self.seeds), 'seed')} ({ranges(self.seeds)})"
        here = rows.by_machine(self.rows)
        if len(here) == 1:
            text += f" on {rows.machine_text(*here)}"
        else:
            cell = " of a cell" if self.study.grid else ""
            text += f"; all rows of a seed{cell} are of one machine: {_counts(here)}"
        text += f"; commit{'s' * (len(commits) > 1)} {', '.join(commits)}."
        if self.beside:
            text += f" Not in it: {_counts(rows.by_machine(self.beside))}."
        if self.stale:
            text += f" Not in it: {counted(self.stale, 'row')} of other settings."
        return text


def kept(study: Study, folder: Path | None = None, extra: Mapping[str, Any] | None = None) -> Kept:
    """The rows that count for a study as it is declared now, with `extra` settings."""
    found = rows.read(rows.file_of(study.name, folder))
    now = {arm: study.settings_text(arm, extra) for arm in study.arms}
    current = rows.latest(r for r in found if now.get(r["arm"]) == r["settings"])
    here = rows.chosen(current, study.main)
    counts = set(map(id, here))
    beside = tuple(row for row in current if id(row) not in counts)
    return Kept(study, tuple(here), len(rows.latest(found)) - len(current), beside)


def _counts(machines: Mapping[tuple[str, ...], int]) -> str:
    """`191 rows on A; 145 rows on B`."""
    return "; ".join(f"{counted(n, 'row')} on {rows.machine_text(m)}" for m, n in machines.items())


def counted(n: int, word: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{n} {word}{'s' * (n != 1)}"


def ranges(seeds: Sequence[int]) -> str:
    """`0-4, 7` of 0, 1, 2, 3, 4, 7."""
    parts: list[list[int]] = []
    for seed in seeds:
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ", ".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts)


def spread_text(values: Values, planned: int = 0) -> str:
    """`0.757 ± 0.076`; `(n = 3)` where seeds are missing; '' for none."""
    found = spread(values)
    if not found["n"]:
        return ""
    text = f"{found['mean']:.3f}" + ("" if found["sd"] is None else f" ± {found['sd']:.3f}")
    return text + (f" (n = {found['n']})" if found["n"] < planned else "")


def difference_text(found: Mapping[str, Any]) -> str:
    """`+0.031 [+0.010, +0.052]`; NONE without a common seed."""
    if found["mean"] is None:
        return NONE
    interval = "" if found["low"] is None else f" [{found['low']:+.3f}, {found['high']:+.3f}]"
    return f"{found['mean']:+.3f}{interval}"


def _tests(found: Mapping[str, Any]) -> list[str]:
    """The cells after the name of a line: n, difference, effect, three p, verdict."""
    effect = NONE
    if found["effect"] is not None:
        effect = f"{found['effect']:.2f} [{found['effect_low']:.2f}, {found['effect_high']:.2f}]"
    ps = [p_text(found[k]).removeprefix("p ").removeprefix("= ") or NONE for k in ("p", "p_flip")]
    return [str(found["n"]), difference_text(found), effect, *ps, verdict_text(found)]


_HEAD = ["n", "difference [95 %]", "d_z [95 %]", "p, t-test", "p, sign flip", "verdict (p, Holm)"]


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    shown = [list(head), ["---"] * len(head), *map(list, lines)]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in shown)


def scores(found: Kept) -> str:
    """Mean and standard deviation of every score, an arm a line."""
    there = [s for s in found.study.scores if any(found.values(arm, s) for arm in found.arms)]
    n = len(found.seeds)
    lines = [[arm, found.kind(arm), *(spread_text(found.values(arm, s), n) for s in there)] for arm in found.arms]
    return table(["row", "kind", *(found.study.scores[s] for s in there)], lines)


def tested(found: Kept, score: str) -> dict[str, dict[str, Any]]:
    """The main arm minus each other arm that has the score, corrected over these lines."""
    main = found.values(found.study.main, score)
    out = {}
    for arm in found.arms:
        if arm != found.study.main and (values := found.values(arm, score)):
            out[arm] = paired(main, values)
    out = {arm: d for arm, d in out.items() if d["n"]}
    corrected(out.values())
    return out


def differences(found: Kept, score: str) -> str:
    """The main arm minus the others in a score."""
    lines = [[arm, found.kind(arm), *_tests(d)] for arm, d in tested(found, score).items()]
    return table([f"{found.study.scores[score]}: {found.study.main} minus", "kind", *_HEAD], lines)


def claimed(found: Kept) -> list[tuple[Claim, dict[str, Any]]]:
    """The study's claims, each with its test, corrected over all of them."""
    results = []
    for claim in found.study.claims:
        ease = claim.margin if claim.direction == "above" else -claim.margin
        left = {seed: value + ease for seed, value in found.values(claim.arm, claim.score).items()}
        results.append(paired(left, found.values(claim.reference, claim.reference_score or claim.score)))
    corrected(d for d in results if d["n"])
    return list(zip(found.study.claims, results))


def claims(found: Kept) -> str:
    """The headline claims."""
    lines = []
    for claim, d in claimed(found):
        if not d["n"]:
            lines.append([claim.text, "0", *[NONE] * 5, "no rows"])
            continue
        sign = 1 if claim.direction == "above" else -1
        held = "not shown"
        if d["verdict"] in ("above", "below"):
            held = "reversed" if d["verdict"] != claim.direction else "shown"
            held = "shown, but smaller" if held == "shown" and sign * d["mean"] < claim.at_least else held
        lines.append([claim.text, *_tests(d), f"**{held}**" if held == "shown" else held])
    return table(["claim", *_HEAD, "claim is"], lines)


def labels(found: Kept) -> str:
    """What labels the main arm's synthetic samples had."""
    lines = []
    for label in rows.LABELS:
        cells = [spread_text(found.values(found.study.main, f"{label}_{when}")) for when in ("round1", "mean")]
        if any(cells):
            lines.append([label.replace("_", " "), *cells])
    return table(["labels", "round 1", "mean of all rounds"], lines)


def curve(row: Row) -> dict[str, list[float | None]]:
    """Scores round by round, as `harvest.curve_of` wrote them."""
    pairs = (part.partition("=") for part in row.get("curve", "").split("; ") if part)
    return {name: [None if v == "-" else float(v) for v in values.split("/")] for name, _, values in pairs}


def by_round(found: Kept) -> str:
    """Means of the main arm's scores after each round."""
    curves = [curve(r) for r in found.rows if r["arm"] == found.study.main]
    there = [s for s in found.study.scores if any(s in c for c in curves)]
    most = max((len(values) for c in curves for values in c.values()), default=0)
    lines = []
    for t in range(most):
        cells = []
        for s in there:
            values = [c[s][t] for c in curves if s in c and t < len(c[s])]
            known = [v for v in values if v is not None]
            cells.append(f"{fmean(known):.3f}" if known else "")
        lines.append([str(t), *cells])
    return table(["round", *(found.study.scores[s] for s in there)], lines)


def costs(found: Kept) -> str:
    """Bytes of a round and seconds of a run, means over seeds."""
    lines = []
    for arm in found.arms:
        values = [found.values(arm, key) for key in rows.COSTS]
        if not arm.endswith(BEFORE):
            lines.append([arm, *(f"{fmean(v.values()):,.0f}" if v else "" for v in values)])
    return table(["row", "bytes up", "bytes down", "seconds", "of them set-up", "CPU seconds"], lines)


def extract(found: Kept, name: str) -> str:
    """One of the study's short tables, without arms that have no rows."""
    chosen, n = found.study.tables[name], len(found.seeds)
    lines = [
        [title, *(spread_text(found.values(arm, s), n) for s in chosen.scores)] for arm, title in chosen.rows.items()
    ]
    return table(["", *chosen.scores.values()], [line for line in lines if any(line[1:])])


def tables(study: Study) -> dict[str, Callable[[Kept], str]]:
    """Every table of a study by its name."""
    made: dict[str, Callable[[Kept], str]] = {"scores": scores, "labels": labels, "rounds": by_round, "costs": costs}
    made |= {f"differences-{s}": lambda found, s=s: differences(found, s) for s in study.scores}  # type: ignore[misc]
    made |= {"claims": claims} if study.claims else {}
    if study.map:
        from evidence.maps import MAPS

        made |= MAPS
    made |= {name: lambda found, name=name: extract(found, name) for name in study.tables}  # type: ignore[misc]
    return made


def text(found: Kept, name: str) -> str:
    """A table and what it is made of."""
    known = tables(found.study)
    if name not in known:
        raise unknown("table", name, known)
    return f"{known[name](found)}\n\n{found.note}"
