"""`fedloom init`: a configuration that fits what lies at a path, written for people to read and change."""

from __future__ import annotations

from pathlib import Path

from fedloom.config import Config
from fedloom.errors import BadInput
from fedloom.runs.disk import explained
from fedloom.scaffolding.page import page

BASICS: tuple[str, ...] = ("method", "seed", "rounds")


def start(data: Path | None, out: Path) -> list[str]:
    """Write a commented configuration to `out`.

    Args:
        data: a folder, a CSV file of texts or a parquet file of pictures, which the configuration then fits; None: the
            defaults.

    Returns:
        What was found, a line each.

    Raises:
        BadInput: `out` is there already; there is nothing at `data` that can be read, or not enough.
    """
    if out.exists() or out.is_symlink():
        raise BadInput(f"{out} is there already; name another file with --out, or remove it")
    if data is None:
        found, shown, config = ["the defaults: FedMMKT on the embedded flowers"], BASICS, Config()
    else:
        from fedloom.scaffolding.choice import CHOSEN, chosen

        (config, found), shown = chosen(data), (*BASICS, *CHOSEN)
    text = page(config, [f"Written by `fedloom init`. `fedloom run --config {out.name}` runs it.", "", *found], shown)
    with explained("write", out):
        try:
            with out.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            raise BadInput(f"{out} is there already; name another file with --out, or remove it") from None
    return found
