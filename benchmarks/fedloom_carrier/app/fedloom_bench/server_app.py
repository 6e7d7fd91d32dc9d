"""The server: a federation over the grid, put through the same loop as the bare app."""

from fedloom_carrier.rounds import over_grid
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """The run's configuration says what to do."""
    over_grid(grid, {**context.run_config, "resident": True})
