"""The tiled contrast against the plain N x N form: CPU seconds of one thread, and memory.

    python benchmarks/contrast.py --sizes 1000,10000,50000 --width 256 --repeats 5

Each measurement is a process of its own, so that its peak of resident memory is its own; forms take turns. `extra` is
the peak above what the process held before the call, inputs included there. The plain form is left out where its
matrix does not fit (`--plain-up-to`).
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import torch

MB = 1e6


def plain(z: torch.Tensor, anchors: torch.Tensor, temperature: float) -> torch.Tensor:
    """Scores by the whole matrix of cosines."""
    unit = torch.nn.functional.normalize
    scores = unit(z) @ unit(anchors).T / temperature
    own = scores.diagonal().clone()
    scores.fill_diagonal_(-torch.inf)
    return own - scores.logsumexp(1)


def tiled(z: torch.Tensor, anchors: torch.Tensor, temperature: float) -> torch.Tensor:
    """Scores by fedloom's kernel."""
    from fedloom.functional.contrast import contrast_scores

    return contrast_scores(z, anchors, temperature)


FORMS = {"plain": plain, "tiled": tiled}


def resident() -> float:
    """Bytes of resident memory, highest so far."""
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(form: str, n: int, width: int) -> dict[str, float]:
    """One call of a form on random inputs, after one on small ones."""
    torch.set_num_threads(1)
    draws = torch.Generator().manual_seed(0)
    z, anchors = torch.randn((n, width), generator=draws), torch.randn((n, width), generator=draws)
    FORMS[form](z[:64], anchors[:64], 0.5)
    before, begun, clock = resident(), time.process_time(), time.perf_counter()
    scores = FORMS[form](z, anchors, 0.5)
    spent, wall = time.process_time() - begun, time.perf_counter() - clock
    return {
        "cpu_seconds": spent,
        "seconds": wall,
        "extra_bytes": resident() - before,
        "process_bytes": resident(),
        "gflops": 2 * n * n * width / spent / 1e9,
        "sum": scores.double().sum().item(),
    }


def product(n: int, width: int) -> float:
    """CPU seconds of the matrix product alone, in blocks that stay in the cache: what bounds either form."""
    torch.set_num_threads(1)
    rows, columns, out = torch.randn(512, width), torch.randn(width, 4096), torch.empty(512, 4096)
    torch.mm(rows, columns, out=out)
    times = max(1, round(n * n / out.numel()))
    begun = time.process_time()
    for _ in range(min(times, 50)):
        torch.mm(rows, columns, out=out)
    return (time.process_time() - begun) * times / min(times, 50)


def main() -> None:
    """Measure and print a table; with --one do one measurement and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", default="1000,10000,50000", help="N")
    parser.add_argument("--width", type=int, default=256, help="D")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--plain-up-to", type=int, default=20_000, help="largest N of the plain form")
    parser.add_argument("--one", nargs=2, metavar=("FORM", "N"))
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one[0], int(given.one[1]), given.width)))
        return
    print(
        "| N | form | CPU s (lowest to highest) | of the product's | extra MB | process MB |\n|---|---|---|---|---|---|"
    )
    for n in map(int, given.sizes.split(",")):
        forms = [f for f in FORMS if f != "plain" or n <= given.plain_up_to]
        rows: dict[str, list[dict[str, float]]] = {f: [] for f in forms}
        for _ in range(given.repeats):
            for form in forms:
                command = [sys.executable, __file__, "--width", str(given.width), "--one", form, str(n)]
                rows[form].append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
        bound = product(n, given.width)
        for form, found in rows.items():
            cpu = [r["cpu_seconds"] for r in found]
            extra, whole = (max(r[k] for r in found) / MB for k in ("extra_bytes", "process_bytes"))
            middle = statistics.median(cpu)
            spread = f"{middle:.3g} ({min(cpu):.3g} to {max(cpu):.3g})"
            print(f"| {n} | {form} | {spread} | {middle / bound:.2f} | {extra:.0f} | {whole:.0f} |", flush=True)
        if len(forms) == 2:
            ratio = statistics.median(t["cpu_seconds"] / p["cpu_seconds"] for t, p in zip(rows["tiled"], rows["plain"]))
            apart = abs(rows["tiled"][0]["sum"] - rows["plain"][0]["sum"]) / n
            print(f"| {n} | tiled over plain | {ratio:.2f} | | mean difference of scores {apart:.1e} | |")


if __name__ == "__main__":
    main()
