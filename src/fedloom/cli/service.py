"""What commands that stay up share: lines with the time, and an orderly end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import typer


@contextmanager
def until_asked_to_end() -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal end the block, and that is what a service ends by: exit code 0."""
    try:
        yield
    except KeyboardInterrupt:
        return


def say(line: str) -> None:
    """A line on stdout with the time; also the ends of a pipe see it at once."""
    typer.echo(f"{datetime.now():%H:%M:%S} {line}")
