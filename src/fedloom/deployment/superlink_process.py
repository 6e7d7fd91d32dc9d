"""Flower's SuperLink, with three things added.

    python -m fedloom.deployment.superlink_process ARGUMENTS OF flower-superlink

It says why a TLS handshake with a client failed: Flower's server is silent about that, as asyncio drops such
connections without a word. The reason is seen by an SSLObject of our own, for which Python's ssl module has a place.

And it takes orders from its own machine only. Silos and whoever hands over runs reach Flower at one port, and who hands
over a run is asked for no key: without this, everybody who reaches the port could have the server run their code.

And it ends when it is told to: Flower's server waits for connections to close, and its own SuperExec never closes one.
"""

from __future__ import annotations

import importlib
import ipaddress
import ssl
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fedloom.federation.engines.flower.patches import patch

HANDSHAKE = "fedloom: TLS handshake failed: "  # what `superlink_log` looks for; then OpenSSL's name of the reason
FOR_ALL = "/v1/fleet/"  # what silos ask for, with their keys; everything else is for this machine
# Only a proxy on this machine may say who it speaks for, whatever the environment says. And who asks again and again
# for work keeps no server up that was told to end (seconds).
SERVED: Mapping[str, Any] = {"forwarded_allow_ips": "127.0.0.1", "timeout_graceful_shutdown": 3}
_Send = Callable[[dict[str, Any]], Awaitable[None]]


class LocalOrders:
    """An ASGI app that hands `app` what silos ask, and from this machine everything."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: _Send) -> None:
        if scope["type"] == "lifespan" or str(scope.get("path")).startswith(FOR_ALL) or _from_here(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})
        else:
            await send({"type": "websocket.close"})


def _from_here(scope: Mapping[str, Any]) -> bool:
    """Whether the client is on this machine: over loopback, or from the very address that it has reached."""
    client, server = scope.get("client"), scope.get("server")
    if not client:
        return False
    try:
        address = ipaddress.ip_address(client[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback or (server and client[0] == server[0]))


def guarded(run: Callable[..., None]) -> Callable[..., None]:
    """`uvicorn.run` of an app that others cannot give orders to."""
    return lambda app, **named: run(LocalOrders(app), **{**named, **SERVED})


class _Telling(ssl.SSLObject):
    """Tells why a handshake fails. Clients that merely hang up, as scanners of ports do, are no news."""

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            raise
        except ssl.SSLError as error:
            sys.stdout.write(f"{HANDSHAKE}{error.reason}\n")
            sys.stdout.flush()
            raise


def main() -> None:
    """Is `flower-superlink`."""
    import uvicorn
    import uvicorn.config

    flower = importlib.import_module("flwr.superlink.cli.flower_superlink")  # a function has the same name

    def telling(make: Callable[..., ssl.SSLContext]) -> Callable[..., ssl.SSLContext]:
        def context(*arguments: Any, **named: Any) -> ssl.SSLContext:
            found = make(*arguments, **named)
            found.sslobject_class = _Telling
            return found

        return context

    patch(uvicorn.config, "create_ssl_context", telling)
    patch(uvicorn, "run", guarded, parameters=SERVED, for_safety=True)
    # Its SuperExec stays in our process group, so that whoever ends the group leaves none behind.
    patch(flower, "get_popen_detach_kwargs", lambda old: dict)
    sys.argv[0] = "flower-superlink"
    flower.flower_superlink()


if __name__ == "__main__":
    main()
