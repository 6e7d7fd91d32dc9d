"""The figures of a smoke run of every method, to compare two versions of the code on one machine.

python benchmarks/smoke_figures.py run --out before.json               # in the checkout of the old version
python benchmarks/smoke_figures.py run --out after.json                # in that of the new one
python benchmarks/smoke_figures.py compare before.json after.json      # exit code 1 where any figure differs

`--engine` takes inprocess, workers (two of them) or simulation (Flower's, on Ray). Compared to the last bit: each
round's scores, losses and label counts, and of every message in the ledger who sent what to whom: fields, shapes,
payload. Bytes with headers are left out, as a header holds the name of the message's class.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ENGINES = {
    "inprocess": ["engine.workers=0"],
    "workers": ["engine.workers=2"],
    "simulation": ["engine.name=flower", "engine.mode=simulation", "engine.silos=2"],
}
LEFT_OUT = ("seconds", "bytes_up", "bytes_down")


def figures(method: str, engine: str) -> dict[str, Any]:
    """The rounds and the ledger of one smoke run."""
    import fedloom
    from fedloom.cli.main import main

    with tempfile.TemporaryDirectory() as tmp:
        out = Path(tmp) / "run"
        overrides = [word for value in ENGINES[engine] for word in ("--set", value)]
        arguments = ["run", "--method", method, "--preset", "smoke", "--out", str(out), *overrides]
        code = main(arguments)
        if code:
            return {"error": f"exit code {code}"}
        run = fedloom.load_run(out)
        rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
        ledger = run.path / "ledger.jsonl"
        sent = [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []
    rows = [{k: v for k, v in row.items() if k not in LEFT_OUT} for row in rows]
    keys = ("round", "verb", "direction", "client", "fields", "payload_bytes", "counted")
    lines = sorted(json.dumps({k: row.get(k) for k in keys}) for row in sent if row["verb"] != "join")
    return {"rounds": rows, "ledger": lines}


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two trees of figures differ, one line each."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted({*one, *other})
        return [d for k in keys for d in differences(one.get(k), other.get(k), f"{where}/{k}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [d for i, (a, b) in enumerate(zip(one, other)) for d in differences(a, b, f"{where}/{i}")]
    return [] if one == other else [f"{where}: {str(one)[:60]} and {str(other)[:60]}"]


def run(out: Path, engine: str, methods: Sequence[str]) -> int:
    """Runs the methods and writes their figures."""
    found = {}
    for method in methods:
        start = time.perf_counter()
        found[method] = figures(method, engine)
        print(f"{method}: {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
        out.write_text(json.dumps({"engine": engine, "methods": found}, indent=1))
    return 0


def compare(before: Path, after: Path) -> int:
    """Prints where two files of figures differ."""
    one, other = (json.loads(path.read_text())["methods"] for path in (before, after))
    found = differences(one, other)
    for line in found[:40]:
        print(line)
    print(f"{len(one)} methods, {len(found)} differences")
    return int(bool(found))


def main() -> int:
    """The command line of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("--out", type=Path, required=True)
    running.add_argument("--engine", choices=ENGINES, default="inprocess")
    running.add_argument("--methods", default="")
    comparing = commands.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    given = parser.parse_args()
    if given.command == "compare":
        return compare(given.before, given.after)
    if given.methods:
        methods = given.methods.split(",")
    else:
        import subprocess

        listed = subprocess.run(
            [sys.executable, "-m", "fedloom.cli", "methods", "--json"],
            capture_output=True,
            text=True,
            check=True,
        )
        methods = [e["method"] for e in json.loads(listed.stdout)]
    return run(given.out, given.engine, methods)


if __name__ == "__main__":
    sys.exit(main())
