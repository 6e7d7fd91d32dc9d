"""What every carrier is put through: new bytes of each size, each way, again and again; a line for each."""

import itertools
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


def repeat(
    ask: Callable[[Bytes, str], Bytes], config: Mapping[str, Any], check: Callable[[], None] = lambda: None
) -> None:
    """All sizes, modes and repetitions of `config`; a JSON line each into its `out`, `{"done": true}` at the end.

    ask(payload, mode) gives what the client sent back; check() raises when all of it is worth nothing.
    """
    out = Path(str(config["out"]))
    rng = np.random.default_rng()
    sizes = [int(float(s)) for s in str(config["sizes"]).split(",")]
    # The first, empty one brings the app to the client; it is marked and does not count.
    plan = [(0, "down", -1)]
    plan += [
        (size, mode, repeat)
        for size, repeat, mode in itertools.product(
            sizes, range(int(config["repeats"])), str(config["modes"]).split(",")
        )
        if size or mode == "down"
    ]
    for size, mode, repeat in plan:
        wait_for_turn(out)
        # Every object is new: Flower does not send known ones again.
        payload = rng.integers(0, 256, size, dtype=np.uint8)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        start, clock = time.time(), time.perf_counter()
        back = ask(payload, mode)
        row = {"size": size, "mode": mode, "repeat": repeat, "start": start}
        row |= {"seconds": time.perf_counter() - clock, "server_peak": peak()}
        if mode == "echo" and not np.array_equal(back, ~payload):
            raise RuntimeError(f"{size} bytes came back changed")
        del payload, back
        with out.open("a") as file:
            file.write(json.dumps(row) + "\n")
    check()
    with out.open("a") as file:
        file.write('{"done": true}\n')


def wait_for_turn(out: Path) -> None:
    """Until the file beside `out` is there that says that this carrier is next."""
    turn = out.with_suffix(".turn")
    while not turn.exists():
        time.sleep(0.05)
    turn.unlink()


def peak() -> int:
    """Bytes: this process's highest resident memory."""
    (line,) = (s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])
