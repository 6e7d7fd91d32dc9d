"""The server: sends arrays of new bytes to one client, waits for the reply."""

import time
from collections.abc import Mapping
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp

from bare.loop import Bytes, repeat


def ask(grid: Grid, node: int, payload: Bytes, mode: str, pull: float, timeout: float) -> Any:
    """The array in the client's reply. Looks for it every `pull` seconds; Flower's own waiting looks every 3."""
    content = RecordDict({"arrays": ArrayRecord({"x": Array(payload)}), "config": ConfigRecord({"mode": mode})})
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
    """All that `config` says, with the first node."""
    pull, timeout = float(config["pull"]), float(config["timeout"])
    while not (nodes := sorted(grid.get_node_ids())):
        time.sleep(pull)
    repeat(lambda payload, mode: ask(grid, nodes[0], payload, mode, pull, timeout), config)


app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """In a deployment the run's configuration says what to do."""
    serve(grid, context.run_config)
