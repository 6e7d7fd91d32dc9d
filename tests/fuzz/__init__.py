"""Fuzzing: damaged and hostile inputs for everything that the package reads. Run by `make fuzz`."""
