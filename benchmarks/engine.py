"""What carrying a message costs: a reply time for each size, where it is carried, and who carries it.

    python benchmarks/engine.py bare --where deployment --sizes 0,1e6,5e7 --modes down,echo --repeats 5 --out FILE
    python benchmarks/engine.py summary FILE [FILE ...]

`bare` is a Flower app with no fedloom in it, as a good user of Flower writes one. `down`: a payload out, one byte back;
`echo`: the payload both ways. Size 0 is the empty round. Every payload is new to the byte, because Flower does not send
again what the other end has.

Several carriers, with commas, take turns in blocks of `--repeats` (`--blocks`); in a deployment they share one network,
so that their ratio holds on a machine that is not quiet. FILE gets a JSON line for each repetition: seconds; CPU
seconds of all processes together, until shortly after the reply, as processes that end cost too; peak resident memory
of the process that answers and of the server's. The latter only grows from size to size: sizes go from small to large.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bare_flower.network import ENVIRONMENT, Network
from bare_flower.watch import Watch

AFTER = 0.4  # seconds after a reply that still count as its CPU; carriers pause longer than this between repetitions
HERE = Path(__file__).parent / "bare_flower"
Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What a carrier is to carry: sizes in bytes, small to large; modes `down` and `echo`; repetitions of each."""

    sizes: tuple[int, ...]
    modes: tuple[str, ...]
    repeats: int

    def config(self, out: Path) -> dict[str, Any]:
        """As the bare app takes it."""
        return {
            "sizes": ",".join(map(str, self.sizes)),
            "modes": ",".join(self.modes),
            "repeats": self.repeats,
            "pull": 0.1,
            "timeout": 600.0,
            "out": str(out),
        }


# ------------------------------------------------------------------------------------------------- the carriers


def bare(plan: Plan, where: str, folder: Path, network: Network | None) -> list[Row]:
    """The bare Flower app in a simulation or on `network`; a row a repetition."""
    out = folder / f"bare-{time.time_ns()}.jsonl"
    if network is not None:
        with Watch(network.roots) as watch:
            run = network.submit(HERE / "app", plan.config(out))
            try:
                rows = wait_for_rows(out, limit=900.0)
            except TimeoutError as error:
                raise RuntimeError(f"run {run}: {error}; {network.status(run)}; see {folder}") from None
        return measured(rows, watch, client=("flwr-clientapp",), server=("flwr-serverapp",))
    with (folder / "simulation.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, str(HERE / "simulate.py"), json.dumps(plan.config(out) | {"pull": 0.01})],
            env={**os.environ, **ENVIRONMENT, "FLWR_HOME": str(folder / "flwr")},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        with Watch({"simulation": process.pid}) as watch:
            process.wait()
    if process.returncode:
        raise RuntimeError(f"the simulation failed: see {folder / 'simulation.log'}")
    return measured(wait_for_rows(out, limit=1.0), watch, client=("ClientAppActor",), server=("simulate.py",))


# A carrier is called with the plan, where, a folder for its files, and the network of a deployment (else None). Its
# rows hold size, mode, repeat (-1: does not count), start (seconds since 1970), seconds; `measured` adds the rest.
CARRIERS: dict[str, Callable[[Plan, str, Path, Network | None], list[Row]]] = {"bare": bare}
WHERE = ("simulation", "deployment")


def wait_for_rows(out: Path, limit: float) -> list[Row]:
    """The rows that an app on this machine writes into `out`, once it says that it is done.

    Raises:
        TimeoutError: no new row for `limit` seconds.
    """
    seen, last = 0, time.monotonic()
    while True:
        text = out.read_text() if out.exists() else ""
        rows: list[Row] = [json.loads(line) for line in text.splitlines() if text.endswith("\n")]
        if rows and rows[-1].get("done"):
            return rows[:-1]
        if len(rows) > seen:
            seen, last = len(rows), time.monotonic()
        if time.monotonic() - last > limit:
            raise TimeoutError(f"{seen} rows, then nothing for {limit:.0f} s")
        time.sleep(0.2)


def measured(rows: list[Row], watch: Watch, client: tuple[str, ...], server: tuple[str, ...]) -> list[Row]:
    """The rows that count, with CPU seconds and peaks (bytes) of the processes that those words name."""
    for row in rows:
        start, end = row["start"], row["start"] + row["seconds"]
        row["cpu_seconds"] = watch.cpu_between(start, end + AFTER)
        row["client_peak"] = watch.peak_between(start, end, *client)
        row["server_peak"] = watch.peak_between(start, end, *server)
    return [row for row in rows if row["repeat"] >= 0]


# ------------------------------------------------------------------------------------------------------ the run


@contextlib.contextmanager
def carried(where: str, folder: Path) -> Iterator[Network | None]:
    """What all carriers share while they take turns: a network, in a deployment."""
    if where != "deployment":
        yield None
        return
    with Network(folder / "network") as network:
        yield network


def run(args: argparse.Namespace) -> None:
    """Let the carriers take turns; append their rows to the file as they come."""
    plan = Plan(tuple(sorted(int(float(s)) for s in args.sizes.split(","))), args.modes, args.repeats)
    with tempfile.TemporaryDirectory(prefix="engine-", ignore_cleanup_errors=True) as place:
        folder = Path(args.keep or place)
        folder.mkdir(parents=True, exist_ok=True)
        with carried(args.where, folder) as network:
            for block in range(args.blocks):
                for name in args.carriers:
                    rows = CARRIERS[name](plan, args.where, folder, network)
                    about = {"carrier": name, "where": args.where, "block": block, "load": os.getloadavg()[0]}
                    with args.out.open("a") as file:
                        file.writelines(json.dumps(about | row) + "\n" for row in rows)
    print(summary([args.out]))


def summary(files: list[Path]) -> str:
    """A Markdown table: for each carrier, place, size and mode the median (lowest to highest) over all repetitions."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for file in files:
        for line in file.read_text().splitlines():
            row = json.loads(line)
            key = (row["where"], row["size"], row["mode"], row["carrier"])
            groups.setdefault(key, []).append(row)
    lines = [
        "| where | carrier | bytes | mode | n | seconds | CPU seconds | client peak, MB | server peak, MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (where, size, mode, carrier), rows in sorted(groups.items()):
        seconds = [row["seconds"] for row in rows]
        spread = f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"
        cpu = statistics.median(row["cpu_seconds"] for row in rows)
        peaks = [max(row[key] for row in rows) / 1e6 for key in ("client_peak", "server_peak")]
        lines.append(
            f"| {where} | {carrier} | {size:,} | {mode} | {len(rows)} | {spread} | {cpu:.1f} | "
            f"{peaks[0]:.0f} | {peaks[1]:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """The command line."""

    def names(allowed: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
        def read(text: str) -> tuple[str, ...]:
            chosen = tuple(text.split(","))
            if wrong := [name for name in chosen if name not in allowed]:
                raise argparse.ArgumentTypeError(f"{wrong[0]!r}, allowed: {', '.join(allowed)}")
            return chosen

        return read

    if sys.argv[1:2] == ["summary"]:
        print(summary([Path(name) for name in sys.argv[2:]]))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("carriers", type=names(tuple(CARRIERS)), help=", ".join(CARRIERS))
    parser.add_argument("--where", choices=WHERE, required=True)
    parser.add_argument("--sizes", default="0,1e6", help="bytes")
    parser.add_argument("--modes", type=names(("down", "echo")), default=("down", "echo"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--blocks", type=int, default=1, help="turns of each carrier")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; appended to")
    parser.add_argument("--keep", help="folder for the engines' own files and logs, kept")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
