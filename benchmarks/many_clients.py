"""What a run costs by the number of its clients, of which 20 take part in a round: seconds, bytes, memory, files.

    OMP_NUM_THREADS=1 python benchmarks/many_clients.py run --clients 8,32,128,1000 --rounds 20 --out FILE
    python benchmarks/many_clients.py summary FILE [FILE ...]

Half of the clients are ViTs and half BERTs, as small as they come, with eight samples each on average; everything else
is the preset `smoke`. All clients are scored before the first round and after the last one. Each number of clients, and
each number held in memory (`--resident`, `all` for all of them), is a process of its own, so that its peak of memory is
its own; what is computed once for all runs, warm starts among it, it computes anew. FILE gets a JSON line a run: CPU
and wall seconds until the first round, of each round (scores apart), of the last scores and the export; bytes up and
down; peak memory; bytes and files of the checkpoints as they lie on disk.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PART = 20  # clients that take part in a round, or all where there are fewer
# A small server, and few steps: what is measured is what clients cost by their number. Nobody catches up, which is work
# by rounds missed: it would grow with the share of clients that are away.
STEPS = {"samples": 40, "retrain_steps": 4, "private_steps": 4, "tune_steps": 4, "tune_batch": 8, "catch_up": "false"}
Row = dict[str, Any]


def settings(clients: int, rounds: int, method: str, resident: int | None, workers: int) -> list[str]:
    """The configuration over the preset `smoke`."""
    from fedloom.methods.base import load_method

    half, samples = clients // 2, 8 * clients
    known = load_method(method)[0].settings.model_fields
    share = PART / clients
    return [
        f"method={method}",
        f"rounds={rounds}",
        f"clients.image=[{{arch: vit, count: {half}, hidden: 16, layers: 1, heads: 2, patch: 6, width: 16}}]",
        f"clients.text=[{{arch: bert, count: {clients - half}, hidden: 16, layers: 1, heads: 2, width: 16}}]",
        f"data.options={{size: 12, images: {samples}, texts: {samples}, test: 100, generic: 60, reference: 60}}",
        *([f"participation.share={share}"] if share < 1 else []),
        *(f"settings.{key}={value}" for key, value in STEPS.items() if key in known),
        f"evaluation.every={rounds}",
        f"engine.workers={workers}",
        f"engine.resident={'null' if resident is None else resident}",
    ]


def measure(clients: int, rounds: int, method: str, resident: int | None, workers: int) -> Row:
    """One run, in this process and its workers: its row."""
    import fedloom
    from fedloom.progress import Observer

    class Clock(Observer):
        """CPU and wall seconds at the end of each round."""

        def __init__(self) -> None:
            self.times = [(time.process_time(), time.perf_counter())]

        def round(self, row: Mapping[str, Any]) -> None:
            self.times.append((time.process_time(), time.perf_counter()))

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        run = fedloom.run(
            preset="smoke", overrides=settings(clients, rounds, method, resident, workers), out=out, observer=clock
        )
        clock.times.append((time.process_time(), time.perf_counter()))
        crossed = [[row["bytes_up"], row["bytes_down"]] for row in run.rounds[1:]]
        files = [path.stat() for path in (out / "checkpoints").rglob("*") if path.is_file()]
    spent = [[b - a for a, b in itertools.pairwise(at)] for at in zip(*clock.times)]
    between = slice(1, -2) if rounds > 1 else slice(1, -1)  # the last round is scored
    row: Row = {"method": method, "clients": clients, "part": min(PART, clients), "rounds": rounds}
    row |= {"resident": resident, "workers": workers, "load": os.getloadavg()[0]}
    for name, seconds in zip(("cpu_seconds", "seconds"), spent):
        row[name] = {"start": seconds[0], "rounds": seconds[between], "end": seconds[-1]}
        if rounds > 1:
            row[name]["last"] = seconds[-2]
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    row["peak_memory"] = [1024 * peak for peak in peaks]  # of this process, and of the largest of its workers
    row["bytes"] = crossed
    row["checkpoints"] = {"files": len(files), "bytes": sum({f.st_ino: f.st_size for f in files}.values())}
    return row


def summary(files: Sequence[Path]) -> str:
    """A Markdown table, a row a run: medians over its rounds."""
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    lines = [
        "| method | clients | take part | in memory | CPU s to begin | CPU s a round | wall s a round | kB up a round "
        "| kB down a round | peak memory, MB | checkpoints, MB | files | load |",
        "|" + "---|" * 13,
    ]
    for row in sorted(rows, key=lambda row: (row["method"], row["clients"], row["resident"] or row["clients"])):
        up, down = (statistics.median(each[i] for each in row["bytes"]) / 1e3 for i in (0, 1))
        cpu, wall = (statistics.median(row[key]["rounds"]) for key in ("cpu_seconds", "seconds"))
        held = "all" if row["resident"] is None else row["resident"]
        lines.append(
            f"| {row['method']} | {row['clients']:,} | {row['part']} | {held} | {row['cpu_seconds']['start']:.0f} | "
            f"{cpu:.2f} | {wall:.2f} | {up:.0f} | {down:.0f} | {row['peak_memory'][0] / 1e6:.0f} | "
            f"{row['checkpoints']['bytes'] / 1e6:.1f} | {row['checkpoints']['files']:,} | {row['load']:.1f} |"
        )
    return "\n".join(lines)


def run(given: argparse.Namespace) -> None:
    """Each run in a process of its own, with a cache of its own."""
    for clients in given.clients:
        for resident in given.resident:
            with tempfile.TemporaryDirectory() as cache:
                words = ["one", "--clients", str(clients), "--resident", str(resident or "all")]
                words += ["--rounds", str(given.rounds), "--method", given.method, "--workers", str(given.workers)]
                words += ["--out", str(given.out)]
                environment = {**os.environ, "FEDLOOM_CACHE": cache}
                subprocess.run([sys.executable, __file__, *words], check=True, env=environment)
    print(summary([given.out]))


def main() -> None:
    """The command line."""
    if sys.argv[1:2] == ["summary"]:
        print(summary([Path(name) for name in sys.argv[2:]]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "one"), help="one: a run of the first number, in this process")
    parser.add_argument("--clients", type=lambda s: [int(n) for n in s.split(",")], default=[8, 32, 128, 1000])
    parser.add_argument(
        "--resident", type=lambda s: [None if n == "all" else int(n) for n in s.split(",")], default=[16]
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--method", default="fedmmkt")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; appended to")
    given = parser.parse_args()
    if given.what == "run":
        run(given)
        return
    row = measure(given.clients[0], given.rounds, given.method, given.resident[0], given.workers)
    with given.out.open("a") as file:
        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
