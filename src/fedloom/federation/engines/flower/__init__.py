"""Flower as the carrier of our messages: a Grid on the server, a ClientApp that relays at the silo."""

from __future__ import annotations

import json
from collections.abc import Sequence

from fedloom.errors import FedloomError
from fedloom.federation.base import Federation
from fedloom.federation.contract import WireContract
from fedloom.federation.engines.base import Engine, EngineContext
from fedloom.federation.host import ClientSpec
from fedloom.federation.ledger import Ledger


def _build(specs: Sequence[ClientSpec], contract: WireContract, ledger: Ledger, context: EngineContext) -> Federation:
    """Clients at the silos that the Grid `context.link` reaches: their own, or of recipes dealt out to them."""
    from fedloom.federation.engines.flower.grid import GridFederation
    from fedloom.federation.engines.silo.envelopes import Join

    if context.link is None:
        raise FedloomError("the engine flower needs a Grid to its silos")
    e, names = context.settings, json.dumps(contract.to_names())
    if context.offer is not None:
        silos, (offer, files) = e.silos or 1, context.offer
        join = Join(names, "", offer, dict(files))
    else:
        silos = min(e.silos or len(context.expected), len(context.expected))
        recipes = [spec.to_json() for spec in specs]
        join = Join(names, json.dumps({f"silo-{i}": recipes[i::silos] for i in range(silos)}), "", {})
    return GridFederation(
        context.link,
        context.expected,
        contract,
        ledger,
        run=context.run,
        join=join,
        silos=silos,
        least=e.quorum or 1,
        patience=e.patience,
    )


ENGINE = Engine("flower", _build, "Flower's network, on one machine or many", "fedloom.deployment.launch:launch")
