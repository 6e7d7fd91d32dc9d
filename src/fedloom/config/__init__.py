"""Validated settings, one file a subject; loading them from YAML, presets and `--set`."""
