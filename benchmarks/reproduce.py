"""Runs a part of a study on this machine, and says of each score whether the kept rows predict it.

    python benchmarks/reproduce.py --seeds 0                                # all arms of flora that have kept rows
    python benchmarks/reproduce.py --seeds 0,1 --arms fedmmkt,standalone --jobs 2 --keep-rows

A score is inside where it lies in the 95 % prediction interval for one more of the n kept runs of that arm:
mean +- t_{n-1} s sqrt(1 + 1/n). A kept run with the same seed is not among the n, as it is no other draw; it is shown
beside. Exit code 1: more are outside than chance explains, or a run failed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from evidence import rows, tables
from evidence.agreement import checks, judged
from evidence.running import RunFailed, Runner, end_by_signals, in_order
from evidence.studies import chosen_arms, load
from study import positive

from fedloom.cli.compare import seed_list
from fedloom.errors import BadInput, FedloomError


def reproduce(given: argparse.Namespace) -> int:
    """Runs, compares, and keeps the rows where that is asked for."""
    study = load(given.study)
    kept = tables.kept(study, given.results)
    there = [arm for arm in kept.arms if arm in study.arms]
    if not there:
        raise BadInput(f"study {study.name} has no kept rows to compare with; `study.py run {study.name}` makes them")
    arms = chosen_arms(study, given.arms) if given.arms else there
    if missing := [arm for arm in arms if arm not in there]:
        raise BadInput(f"arm {missing[0]} has no kept rows; those that have: {', '.join(there)}")
    print(f"kept: {kept.note}", flush=True)
    jobs = in_order(arms, seed_list(given.seeds) or [], given.jobs)
    found, failed = [], 0
    for job, row in Runner(study, keep=given.keep).rows(jobs, given.jobs):
        if isinstance(row, RunFailed):
            failed += 1
            print(f"{job.arm} seed {job.seed} failed: {row}", flush=True)
            continue
        new = checks(kept, row)
        found += new
        print("\n".join(check.text for check in new), flush=True)
        if given.keep_rows:
            rows.append(rows.file_of(study.name, given.results), row)
    lines, explained = judged(found)
    print("\n".join(["", *lines]))
    return int(bool(failed) or not explained)


def main() -> int:
    """Exit code 2: bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="flora", help="a name of benchmarks/studies, or a YAML file")
    parser.add_argument("--seeds", default="0", help="such as 0,1,2 or 0-9")
    parser.add_argument("--arms", default="", help="names, comma between; default: all that have kept rows")
    parser.add_argument("--jobs", type=positive, default=1, help="runs side by side")
    parser.add_argument("--keep", type=Path, help="a folder to leave run folders in")
    parser.add_argument("--keep-rows", action="store_true", help="add the new rows to the kept ones")
    parser.add_argument("--results", type=Path, help="folder of the rows; default: benchmarks/results")
    end_by_signals()
    try:
        return reproduce(parser.parse_args())
    except FedloomError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
