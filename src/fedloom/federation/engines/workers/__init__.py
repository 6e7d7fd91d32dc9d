"""Clients in worker processes they are pinned to."""
