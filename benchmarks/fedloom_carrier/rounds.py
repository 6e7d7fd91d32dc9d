"""fedloom's federations, put through the bare app's loop.

    python -m fedloom_carrier.rounds local|workers '{"sizes": "0", ...}'

`local`: a client in this process. `workers`: two clients in two processes, each asked the same at once.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bare.loop import Bytes, repeat

from fedloom.federation import Federation, Ledger, LocalFederation
from fedloom_carrier.toys import CONTRACT, Blob, specs


def exchange(federation: Federation, payload: Bytes, mode: str) -> Bytes:
    """What the clients send back; one of them, if they are several."""
    replies = list(federation.ask(mode, Blob(payload)))
    if federation.missing:
        raise RuntimeError(f"no reply: {federation.missing}")
    return replies[0].message.data  # type: ignore[no-any-return]


def over_grid(grid: Any, config: Mapping[str, Any]) -> None:
    """All that `config` says, with one silo. In a deployment, it must have built its client exactly once."""
    from fedloom.federation.engines.flower.grid import GridFederation
    from fedloom.federation.engines.flower.transport import Transport, wait_for_nodes
    from fedloom.federation.engines.silo.envelopes import Envelope, Join

    def loads() -> int:
        (answer,) = mail.exchange({node: Envelope({"op": "ping"})}, 120.0)
        return int(answer[1].header["loads"])

    def check() -> None:
        if config.get("resident") and loads() != before + 1:
            raise RuntimeError(f"the silo built its client {loads() - before} times")

    mail = Transport(grid)
    (node,) = wait_for_nodes(mail, 1, 120.0)
    before = loads()
    join = Join(json.dumps(CONTRACT.to_names()), json.dumps({"silo-0": [spec.to_json() for spec in specs(1)]}), "", {})
    options = {"run": f"bench-{time.time_ns()}", "join": join, "silos": 1, "patience": 120.0}
    with GridFederation(grid, {"toy-0": "image"}, CONTRACT, Ledger(), **options) as federation:
        repeat(lambda payload, mode: exchange(federation, payload, mode), config, check)


def simulated_client(folder: Path) -> Any:
    """The ClientApp of a simulation; silos keep their states in `folder`."""
    from fedloom.deployment.simulation import Played
    from fedloom.federation.engines.flower.client_app import make_client_app

    return make_client_app(Played(str(folder), 1))


def main() -> None:
    """The local places."""
    where, config = sys.argv[1], json.loads(sys.argv[2])
    count = 1 if where == "local" else 2
    workers = 0 if where == "local" else 2
    with LocalFederation(specs(count), CONTRACT, Ledger(), workers=workers) as federation:
        repeat(lambda payload, mode: exchange(federation, payload, mode), config)


if __name__ == "__main__":
    main()
