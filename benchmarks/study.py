"""Studies whose evidence is kept: runs, tables, and the parts of README and docs that are made of them.

    python benchmarks/study.py run flora --seeds 0-9 --jobs 2      # rows go to benchmarks/results/flora.csv
    python benchmarks/study.py table flora [claims]                # Markdown
    python benchmarks/study.py figure map                          # docs/images/map.png, of a study with a grid
    python benchmarks/study.py docs                                # README and docs/results; --check: exit code 1

A study is a file of benchmarks/studies. Rows that are there are not made again; `--again`
makes those of another commit anew. docs/guide/evidence.md has the rest.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from evidence import blocks, rows, tables
from evidence.machine import commit
from evidence.running import Runner, do, end_by_signals, in_order, missing
from evidence.studies import chosen_arms, load, overrides

from fedloom.cli.compare import seed_list
from fedloom.errors import FedloomError


def run(given: argparse.Namespace) -> int:
    """The runs that have no row yet."""
    study, extra = load(given.study), overrides(given.set)
    arms = chosen_arms(study, given.arms)
    path = rows.file_of(study.name, given.results)
    jobs = in_order(arms, seed_list(given.seeds) or [], given.jobs)
    todo = missing(study, path, jobs, extra, commit() if given.again else None, given.anywhere)
    if len(todo) < len(jobs):
        print(f"{len(jobs) - len(todo)} of {len(jobs)} rows are there already", flush=True)
    failed = do(Runner(study, extra, given.keep), todo, path, given.jobs, lambda line: print(line, flush=True))
    return int(failed > 0)


def table(given: argparse.Namespace) -> int:
    """One table, or all of them."""
    study = load(given.study)
    found = tables.kept(study, given.results, overrides(given.set)).only(seed_list(given.seeds) or None)
    for name in [given.table] if given.table else tables.tables(study):
        print(f"{'' if given.table else f'## {name}{chr(10) * 2}'}{tables.text(found, name)}\n")
    return 0


def docs(given: argparse.Namespace) -> int:
    """README and docs/results, made anew from the rows."""
    found = blocks.outdated(blocks.pages(), given.results, write=not given.check)
    for path in found:
        print(f"{path.relative_to(blocks.ROOT)}: {'differs from the rows' if given.check else 'written'}")
    return int(bool(found) and given.check)


def figure(given: argparse.Namespace) -> int:
    """The map of a study with a grid, or its scores along an axis."""
    from evidence.figures import draw_lines, draw_map

    study = load(given.study)
    draw = draw_map if study.map else draw_lines
    path = given.out or blocks.ROOT / "docs" / "images" / f"{study.name}.png"
    print(draw(tables.kept(study, given.results, overrides(given.set)), path))
    return 0


def positive(text: str) -> int:
    """A number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of at least 1")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = made.add_subparsers(dest="command", required=True)
    running, printing, drawing, writing = (commands.add_parser(name) for name in ("run", "table", "figure", "docs"))
    for command in (running, printing, drawing):
        command.add_argument("study", help="a name of benchmarks/studies, or a YAML file")
        command.add_argument(
            "--set", action="append", default=[], metavar="KEY=VALUE", help="over every arm's settings"
        )
    for command in (running, printing, drawing, writing):
        command.add_argument("--results", type=Path, help="folder of the rows; default: benchmarks/results")
    running.add_argument("--seeds", default="0", help="such as 0,1,2 or 0-9")
    running.add_argument("--arms", default="", help="names, comma between; default: all")
    running.add_argument("--jobs", type=positive, default=1, help="runs side by side")
    running.add_argument("--keep", type=Path, help="a folder to leave run folders in")
    running.add_argument("--again", action="store_true", help="also what has rows of other commits only")
    running.add_argument(
        "--anywhere", action="store_true", help="only seeds that no machine has all these arms of (see the guide)"
    )
    printing.add_argument("table", nargs="?", help="default: all")
    printing.add_argument("--seeds", default="", help="of these alone, such as 2-9; default: all")
    drawing.add_argument("--out", type=Path, help="default: docs/images/STUDY.png")
    writing.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a page is out of date")
    return made


def main() -> int:
    """Exit code 1: a run failed, or a page is out of date; 2: bad input."""
    given = parser().parse_args()
    end_by_signals()
    try:
        return {"run": run, "table": table, "figure": figure, "docs": docs}[given.command](given)
    except FedloomError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
