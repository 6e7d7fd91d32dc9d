"""What it takes until the command line answers: CPU seconds and time of `fedloom --help`, in a process of its own.

    python benchmarks/start.py --times 5

Wanted: half a second of a core. What it may import is a test (`tests/test_imports.py`).
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time


def start() -> tuple[float, float]:
    """CPU seconds and seconds of one start."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "fedloom.cli", "--help"], capture_output=True, check=True)
    took, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    cpu, wall = zip(*(start() for _ in range(parser.parse_args().times)))
    print(
        f"fedloom --help: median {statistics.median(cpu):.2f} CPU s, {statistics.median(wall):.2f} s; ",
        end="",
    )
    print(f"least {min(cpu):.2f} CPU s, {min(wall):.2f} s")


if __name__ == "__main__":
    main()
