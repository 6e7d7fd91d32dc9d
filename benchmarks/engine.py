"""What carrying a message costs: a reply time for each size, where it is carried, and who carries it.

    python benchmarks/engine.py bare,fedloom --where deployment --sizes 0,1e6,5e7 --repeats 5 --out FILE
    python benchmarks/engine.py summary FILE [FILE ...]

`bare` is a Flower app with no fedloom in it, as a good user of Flower writes one; it has no local places. `fedloom` is
our own federation, with a client that holds nothing, so that what is measured is the engine. `down`: a payload out, one
byte back; `echo`: the payload both ways. Size 0 is the empty round. Every payload is new to the byte, because Flower
does not send again what the other end has. In `workers`, two clients in two processes are asked the same at once.

Several carriers, with commas, are up at once and take turns, a message each; in a deployment they share one network. So
their ratio, taken from neighbours, holds on a machine that is not quiet. With `--network own` each has a network of its
own: bare Flower as Flower ships it, fedloom with the SuperNode that `fedloom silo up` starts. FILE gets a JSON line for
each repetition:
seconds; CPU seconds of all processes together, until shortly after the reply, as processes that end cost too; peak
resident memory of the process that answers, of the resident worker behind it where there is one (it stays: its peak
only grows, so sizes go from small to large), and of the server's; the load of the machine.
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
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bare_flower.network import ENVIRONMENT, Network
from bare_flower.watch import Watch

# The SuperNode of `fedloom silo up`, told that these benchmarks' app is fedloom's own: it runs no other.
OWN = (
    "python",
    "-P",
    "-c",
    "import fedloom.deployment.supernode_process as p; p.is_ours = lambda app: True; p.main()",
)
AFTER = 0.4  # seconds after a reply that still count as its CPU
PAUSE = 0.6  # seconds between a reply and the next turn: what the last client process still does counts for nobody
HERE = Path(__file__).parent
IMPORTS = {"PYTHONPATH": os.pathsep.join(map(str, [HERE, HERE / "bare_flower" / "app"]))}  # for fedloom's carriers
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


def bare(plan: Plan, where: str, out: Path, network: Network | None) -> list[Row]:
    """The bare Flower app in a simulation or on `network`; a row a repetition."""
    if network is not None:
        return deployed(network, HERE / "bare_flower" / "app", plan, out, "flwr-clientapp")
    if where != "simulation":
        raise SystemExit(f"bare Flower has no place called {where!r}")
    return simulated("bare", plan, out)


def fedloom(plan: Plan, where: str, out: Path, network: Network | None) -> list[Row]:
    """fedloom's federations in any place; a row a repetition."""
    if network is not None:
        client = "flwr-clientapp" if network.supernode[0] == "flower-supernode" else "superexec_process"
        return deployed(network, HERE / "fedloom_carrier" / "app", plan, out, client)
    if where == "simulation":
        return simulated("fedloom", plan, out)
    watch = child(["-m", "fedloom_carrier.rounds", where, json.dumps(plan.config(out))], out)
    client = "federation.worker" if where == "workers" else "fedloom_carrier.rounds"
    return measured(wait_for_rows(out, limit=1.0), watch, client)


def deployed(network: Network, app: Path, plan: Plan, out: Path, client: str) -> list[Row]:
    """The rows of an app on the network; `client` names its ClientApp's process."""
    with Watch(network.roots) as watch:
        run = network.submit(app, plan.config(out))
        try:
            rows = wait_for_rows(out, limit=900.0)
        except TimeoutError as error:
            raise RuntimeError(f"run {run}: {error}; {network.status(run)}; see {network.folder}") from None
    return measured(rows, watch, client)


def simulated(carrier: str, plan: Plan, out: Path) -> list[Row]:
    """The rows of a carrier on Flower's simulation."""
    config = json.dumps(plan.config(out) | {"pull": 0.01})
    watch = child([str(HERE / "bare_flower" / "simulate.py"), carrier, config], out)
    return measured(wait_for_rows(out, limit=1.0), watch, "ClientAppActor")


def child(words: list[str], out: Path) -> Watch:
    """Runs Python with these words until it ends, looked at; its log lies beside `out`."""
    log = out.with_suffix(".log")
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, *words],
            env={**os.environ, **ENVIRONMENT, **IMPORTS, "FLWR_HOME": str(out.parent / "flwr")},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        with Watch({"child": process.pid}) as watch:
            process.wait()
    if process.returncode:
        raise RuntimeError(f"{words[0]} failed: {log.read_text()[-2000:]}")
    return watch


# A carrier is called with the plan, where, the file that its loop writes, and the network of a deployment (else None).
# Its rows hold size, mode, repeat (-1: does not count), start (seconds since 1970), seconds, the server's peak;
# `measured` adds the rest.
CARRIERS: dict[str, Callable[[Plan, str, Path, Network | None], list[Row]]] = {
    "bare": bare,
    "fedloom": fedloom,
}
WHERE = ("local", "workers", "simulation", "deployment")


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


def measured(rows: list[Row], watch: Watch, client: str) -> list[Row]:
    """The rows that count, with CPU seconds and peaks (bytes) of the resident worker and of what `client` names."""
    for row in rows:
        start, end = row["start"], row["start"] + row["seconds"]
        row["cpu_seconds"] = watch.cpu_between(start, end + AFTER)
        row["worker_peak"] = watch.peak_between(start, end, "silo.resident")
        row["client_peak"] = watch.peak_between(start, end, client)
    return [row for row in rows if row["repeat"] >= 0]


# ------------------------------------------------------------------------------------------------------ the run


@contextlib.contextmanager
def carried(where: str, folder: Path, own: bool) -> Iterator[dict[str, Network]]:
    """The networks of the carriers in a deployment, and a resident worker at fedloom's silo; else none."""
    if where != "deployment":
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="engine-") as room:  # a socket's path must be short
        given = {"socket": f"{room}/socket", "token": f"{room}/token"}
        with contextlib.ExitStack() as stack:
            network = Network(
                folder / "network",
                node_config=given,
                environment=IMPORTS,
                supernode=OWN if own else ("flower-supernode",),
            )
            stack.enter_context(network)
            shipped = stack.enter_context(Network(folder / "shipped")) if own else network
            Path(given["token"]).write_bytes(os.urandom(32))
            Path(room, "settings").write_text(json.dumps({"name": "silo-0", "threads": 1}))
            words = [f"--{name}={value}" for name, value in given.items()]
            words += [f"--folder={room}/state", f"--settings={room}/settings"]
            with (network.folder / "worker.log").open("ab") as log:
                network.children["worker"] = subprocess.Popen(
                    [sys.executable, "-m", "fedloom.federation.engines.silo.resident", *words],
                    env=network.environment,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            yield {"bare": shipped, "fedloom": network}
            network.children["worker"].communicate()  # it ends when its input does


def in_turns(
    names: tuple[str, ...], plan: Plan, where: str, folder: Path, networks: dict[str, Network]
) -> dict[str, list[Row]]:
    """The rows of each carrier, which take turns; with the load of the machine at each."""
    outs = {name: folder / f"{name}-{time.time_ns()}.jsonl" for name in names}
    done: dict[str, list[Row]] = {}
    loads: dict[str, list[float]] = {name: [] for name in names}

    def carry(name: str) -> None:
        done[name] = CARRIERS[name](plan, where, outs[name], networks.get(name))

    threads = {name: threading.Thread(target=carry, args=(name,), daemon=True) for name in names}
    for thread in threads.values():
        thread.start()
    while any(thread.is_alive() for thread in threads.values()):
        for name, out in outs.items():
            before = size(out)
            out.with_suffix(".turn").touch()
            while size(out) == before and threads[name].is_alive():
                time.sleep(0.05)
            loads[name].append(os.getloadavg()[0])
            time.sleep(PAUSE)
    for name, rows in done.items():
        for row, load in zip(rows, loads[name][1:]):  # the first row does not count
            row["load"] = round(load, 1)
    if missing := set(names) - set(done):
        raise SystemExit(f"{', '.join(missing)} failed")
    return done


def size(file: Path) -> int:
    """Bytes."""
    return file.stat().st_size if file.exists() else 0


def run(args: argparse.Namespace) -> None:
    """Let the carriers take turns; append their rows to the file as they come."""
    plan = Plan(tuple(sorted(int(float(s)) for s in args.sizes.split(","))), args.modes, args.repeats)
    with tempfile.TemporaryDirectory(prefix="engine-", ignore_cleanup_errors=True) as place:
        folder = Path(args.keep or place)
        folder.mkdir(parents=True, exist_ok=True)
        with carried(args.where, folder, args.network == "own") as networks:
            for name, rows in in_turns(args.carriers, plan, args.where, folder, networks).items():
                about = {"carrier": name, "where": args.where, "run": args.out.stem}
                with args.out.open("a") as file:
                    file.writelines(json.dumps(about | row) + "\n" for row in rows)
    print(summary([args.out]))


def summary(files: list[Path]) -> str:
    """Two Markdown tables: for each carrier, place, size and mode the median (lowest to highest) over all repetitions;
    and fedloom over bare Flower: the ratio of medians, and the median and range of the ratios of neighbours."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for file in files:
        for line in file.read_text().splitlines():
            row = json.loads(line)
            key = (row["where"], row["size"], row["mode"], row["carrier"])
            groups.setdefault(key, []).append(row)
    lines = [
        "| where | bytes | mode | carrier | n | seconds | CPU seconds | client, MB | worker, MB | server, MB | load |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (where, size, mode, carrier), rows in sorted(groups.items()):
        cpu = statistics.median(row["cpu_seconds"] for row in rows)
        names = ("client_peak", "worker_peak", "server_peak")
        peaks = [max(row.get(name, 0) for row in rows) / 1e6 for name in names]
        load = statistics.median(row["load"] for row in rows)
        took = spread([row["seconds"] for row in rows])
        lines.append(
            f"| {where} | {size:,} | {mode} | {carrier} | {len(rows)} | {took} | {cpu:.1f} | "
            f"{peaks[0]:.0f} | {peaks[1]:.0f} | {peaks[2]:.0f} | {load:.1f} |"
        )
    lines += ["", "| where | bytes | mode | seconds | neighbours | CPU seconds | neighbours | n |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for (where, size, mode, carrier), rows in sorted(groups.items()):
        other = {(row["run"], row["repeat"]): row for row in groups.get((where, size, mode, "bare"), [])}
        pairs = [(row, other[at]) for row in rows if (at := (row["run"], row["repeat"])) in other]
        if carrier == "bare" or not pairs:
            continue
        cells = []
        for key in ("seconds", "cpu_seconds"):
            ours, theirs = ([pair[i][key] for pair in pairs] for i in (0, 1))
            ratios = [a / b for a, b in zip(ours, theirs) if b] or [0.0]
            cells += [f"{statistics.median(ours) / (statistics.median(theirs) or 1):.2f}"]
            cells += [f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"]
        lines.append(f"| {where} | {size:,} | {mode} | {' | '.join(cells)} | {len(pairs)} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """The median and the range, with as many digits as small values need."""
    digits = 2 if statistics.median(values) >= 0.1 else 4
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("carriers", type=names(tuple(CARRIERS)), help=", ".join(CARRIERS))
    parser.add_argument("--where", choices=WHERE, required=True)
    parser.add_argument("--network", choices=("shared", "own"), default="shared", help="of a deployment")
    parser.add_argument("--sizes", default="0,1e6", help="bytes")
    parser.add_argument("--modes", type=names(("down", "echo")), default=("down", "echo"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; appended to")
    parser.add_argument("--keep", help="folder for the engines' own files and logs, kept")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
