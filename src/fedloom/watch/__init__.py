"""A live page of a run, a comparison, a federation or a folder of runs, on this machine alone. Reads folders only."""
