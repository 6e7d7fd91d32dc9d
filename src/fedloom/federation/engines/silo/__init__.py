"""A silo on its own machine: the resident worker that holds its clients, and what it keeps on disk."""
