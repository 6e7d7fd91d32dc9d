"""The server: a federation over the grid, put through the same loop as the bare app."""

import importlib

from fedloom_carrier.rounds import over_grid
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedloom.federation.engines.flower.patches import look_often

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """The run's configuration says what to do."""
    look_often(importlib.import_module("flwr.superlink.grid.http_grid"))  # as fedloom's own ServerApp does
    over_grid(grid, {**context.run_config, "resident": True})
