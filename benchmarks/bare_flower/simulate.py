"""The bare app on Flower's simulation, in this process: `python simulate.py '{"sizes": "0", ...}'`."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "app"))

from bare.client_app import app as client
from bare.server_app import serve
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

config = json.loads(sys.argv[1])
server = ServerApp()


@server.main()
def main(grid: Grid, context: Context) -> None:
    """A simulation has no run configuration: it is given here."""
    serve(grid, config)


biggest = max(int(float(size)) for size in config["sizes"].split(","))
# Room for a message each way, as it lies in the store and as it is read.
store = 200_000_000 + 6 * biggest
run_simulation(
    server,
    client,
    1,
    backend_config={
        "init_args": {"num_cpus": 2, "object_store_memory": store, "include_dashboard": False},
        "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
    },
)
