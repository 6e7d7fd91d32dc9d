"""The server: sends arrays of new bytes to one client, waits for the reply, writes how long that took."""

import itertools
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp
from numpy.typing import NDArray


def ask(grid: Grid, node: int, payload: NDArray[np.uint8], mode: str, pull: float, timeout: float) -> Any:
    """The array in the client's reply. Looks for it every `pull` seconds; Flower's own waiting looks every 3."""
    content = RecordDict(
        {"arrays": ArrayRecord({"x": Array(payload)}), "config": ConfigRecord({"mode": mode})}
    )
    ids = list(grid.push_messages([Message(content, node, MessageType.QUERY, ttl=timeout)]))
    end = time.monotonic() + timeout
    while not (replies := list(grid.pull_messages(ids))):
        if time.monotonic() > end:
            raise TimeoutError(f"no reply within {timeout} s")
        time.sleep(pull)
    if replies[0].has_error():
        raise RuntimeError(f"the client failed: {replies[0].error.reason}")
    return replies[0].content["arrays"]["x"].numpy()


def serve(grid: Grid, config: Mapping[str, Any]) -> None:
    """All sizes, modes and repetitions of `config`; a JSON line each into its `out`, `{"done": true}` at the end."""
    out = Path(str(config["out"]))
    pull, timeout = float(config["pull"]), float(config["timeout"])
    while not (nodes := sorted(grid.get_node_ids())):
        time.sleep(pull)
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
        payload = rng.integers(
            0, 256, size, dtype=np.uint8
        )  # every object is new: Flower sends known ones not again
        start, clock = time.time(), time.perf_counter()
        back = ask(grid, nodes[0], payload, mode, pull, timeout)
        seconds = time.perf_counter() - clock
        if mode == "echo" and not np.array_equal(back, ~payload):
            raise RuntimeError(f"{size} bytes came back changed")
        row = {"size": size, "mode": mode, "repeat": repeat, "start": start, "seconds": seconds}
        with out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        time.sleep(0.5)  # what the last client process still does does not count for the next one
    with out.open("a") as file:
        file.write('{"done": true}\n')


app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """In a deployment the run's configuration says what to do."""
    serve(grid, context.run_config)
