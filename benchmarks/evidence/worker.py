"""A process of a study: does one run after another, so that libraries are imported once and data are drawn once."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedloom import api
from fedloom.comparison.meter import cpu_seconds
from fedloom.errors import FedloomError
from fedloom.federation.host import one_line
from fedloom.processes.parent import Parent


def main() -> None:
    """Serve until the parent closes the pipe. An order: folder, preset, overrides, keep."""
    parent = Parent()
    while True:
        order, _ = parent.receive()
        begun = cpu_seconds()
        reason = _failed(order)
        gc.collect()  # models of the last run hold one another in cycles
        parent.send({"reason": reason, "cpu_seconds": cpu_seconds() - begun})


def _failed(order: Mapping[str, Any]) -> str:
    """Why the run that is ordered failed; "" where it is done."""
    try:
        place = {"out": Path(order["folder"]), "overwrite": True, "keep": order["keep"]}
        api.run(preset=order["preset"], overrides=order["overrides"], **place)
    except FedloomError as error:
        return " ".join(str(error).split())
    except Exception as error:  # noqa: BLE001 - a bug fails its run, not the study
        traceback.print_exc()
        return one_line(error)
    return ""


if __name__ == "__main__":
    main()
