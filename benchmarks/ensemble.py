"""Memory and time of FedAFD's ensemble on the server: grows with K P D, not with P x P.

    python benchmarks/ensemble.py --sizes 5000,10000,20000,40000 --clients 4 --width 256

Each size is a process of its own, one thread, so that its peak of resident memory is its own. `extra` is the peak above
what the process held with its inputs; `P x P` what one client's similarities would take.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import torch


def measure(samples: int, clients: int, width: int) -> dict[str, float]:
    """One ensemble of random unit rows."""
    from fedloom.functional.norms import unit
    from fedloom.functional.similarity import similarity_ensemble

    torch.set_num_threads(1)
    draws = torch.Generator().manual_seed(0)
    z = unit(torch.randn((clients, samples, width), generator=draws))
    bank = unit(torch.randn((samples, width), generator=draws))
    similarity_ensemble(z[:, :64], bank[:64])
    before, begun = peak(), time.process_time()
    similarity_ensemble(z, bank)
    return {"cpu_seconds": time.process_time() - begun, "extra": peak() - before}


def peak() -> float:
    """Bytes of resident memory, highest so far."""
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """A line a size."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", default="5000,10000,20000,40000")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--one", type=int)
    given = parser.parse_args()
    if given.one is not None:
        print(json.dumps(measure(given.one, given.clients, given.width)))
        return
    print("| P | CPU s | extra MB | inputs MB | P x P MB |\n|---|---|---|---|---|")
    for samples in map(int, given.sizes.split(",")):
        words = ["--one", str(samples), "--clients", str(given.clients), "--width", str(given.width)]
        done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        inputs = 4 * samples * given.width * (given.clients + 1)
        sizes = (found["extra"], inputs, 4 * samples**2)
        print(f"| {samples} | {found['cpu_seconds']:.1f} | " + " | ".join(f"{s / 1e6:.0f}" for s in sizes) + " |")


if __name__ == "__main__":
    main()
