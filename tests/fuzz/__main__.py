"""python -m fuzz [--messages 10000] [--files 10000] [--seed 0] [--surface NAME ...] [--keep]"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
from pathlib import Path

from fuzz.harness import Finding, Surface, Tally, run, run_given
from fuzz.inputs import Input, from_json, to_json
from fuzz.surfaces import FILES, MESSAGES, SURFACES

KEPT = Path(__file__).parent / "kept"
COLUMNS = ("surface", "inputs", "refused", "accepted", "findings", "seconds", "longest s", "peak growth MB")


def kept_inputs(surface: Surface) -> dict[str, Input]:
    """Inputs that something was once wrong with, by the names of their files."""
    files = sorted((KEPT / surface.name).glob("*.json"))
    return {file.stem: from_json(file.read_text(encoding="utf-8")) for file in files}


def shares(surfaces: list[Surface], inputs: int) -> dict[str, int]:
    """How many of the inputs each surface gets, at least eight."""
    whole = sum(s.share for s in surfaces)
    return {s.name: max(8, round(inputs * s.share / whole)) for s in surfaces}


def keep(finding: Finding) -> Path | None:
    """Writes the input of a finding beside the others."""
    if finding.given is None:
        return None
    text = to_json(finding.given, f"{finding.kind}: {finding.detail}")
    folder = KEPT / finding.surface
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{finding.kind.replace(' ', '-')}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.json"
    path.write_text(text, encoding="utf-8")
    return path


def line(name: str, tally: Tally) -> str:
    """A row of the table."""
    cells = (tally.inputs, tally.refused, tally.accepted, len(tally.findings))
    cells_text = (
        *(str(c) for c in cells),
        f"{tally.seconds:.1f}",
        f"{tally.longest:.2f}",
        f"{tally.growth / 1e6:.0f}",
    )
    return f"{name:22}" + "".join(f"{c:>{max(9, len(h) + 1)}}" for c, h in zip(cells_text, COLUMNS[1:]))


def main() -> int:
    """Prints a table of all surfaces, then one line for each kind of finding; 1 where there is one."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000, help="inputs of what comes over the wire, all together")
    parser.add_argument("--files", type=int, default=10_000, help="inputs of what lies in files, all together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--surface", nargs="*", choices=[s.name for s in SURFACES], help="default: all")
    parser.add_argument("--keep", action="store_true", help="keep one input of each kind of finding")
    given = parser.parse_args()
    os.environ["FEDLOOM_CACHE"] = tempfile.mkdtemp(prefix="fuzz-cache-")
    chosen = [s for s in SURFACES if not given.surface or s.name in given.surface]
    each = shares([s for s in chosen if s in MESSAGES], given.messages)
    each, whole = {**each, **shares([s for s in chosen if s in FILES], given.files)}, Tally()
    print(f"{COLUMNS[0]:22}" + "".join(f"{h:>{max(9, len(h) + 1)}}" for h in COLUMNS[1:]), flush=True)
    for surface in chosen:
        tally = run(surface, range(each[surface.name]), given.seed)
        again = run_given(surface, [(-n - 1, i) for n, i in enumerate(kept_inputs(surface).values())], given.seed)
        tally.findings += again.findings
        print(line(surface.name, tally), flush=True)
        for key in ("inputs", "refused", "accepted", "seconds", "findings"):
            setattr(whole, key, getattr(whole, key) + getattr(tally, key))
        whole.growth, whole.longest = max(whole.growth, tally.growth), max(whole.longest, tally.longest)
    print(line("all", whole), flush=True)
    seen: dict[tuple[str, str, str], Finding] = {}
    for finding in whole.findings:
        if finding.key not in seen:
            seen[finding.key] = finding
            place = f" kept in {keep(finding)}" if given.keep else ""
            print(f"{finding.surface} {finding.number}: {finding.kind}: {finding.detail}{place}")
    return 1 if whole.findings else 0


if __name__ == "__main__":
    sys.exit(main())
