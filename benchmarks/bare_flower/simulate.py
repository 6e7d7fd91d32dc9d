"""A carrier on Flower's simulation, in this process: `python simulate.py bare|fedloom '{"sizes": "0", ...}'`."""

import json
import sys
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

here = Path(__file__).parent
sys.path[:0] = [str(here / "app"), str(here.parent)]
carrier, config = sys.argv[1], json.loads(sys.argv[2])
if carrier == "bare":
    from bare.client_app import app as client
    from bare.server_app import serve
else:
    from fedloom_carrier.rounds import over_grid as serve
    from fedloom_carrier.rounds import simulated_client

    client = simulated_client(Path(config["out"]).with_suffix(".silos"))
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
