"""Flower's SuperLink, with one thing added: it says when a client turns away because it does not trust our certificate.

    python -m fedloom.deployment.superlink_process ARGUMENTS OF flower-superlink

Flower's server says nothing of a failed TLS handshake. The alert that the client sends is seen here, by the hook that
Python's ssl module has for such messages.
"""

from __future__ import annotations

import ssl
import sys
from typing import Any

ALERT = "fedloom: TLS alert "  # what `superlink` looks for in the log
_OURS = (
    "UNKNOWN_CA",
    "BAD_CERTIFICATE",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_UNKNOWN",
    "UNSUPPORTED_CERTIFICATE",
)


def _heard(connection: Any, direction: str, version: Any, content: Any, kind: Any, data: bytes) -> None:
    if direction == "read" and getattr(content, "name", "") == "ALERT" and getattr(kind, "name", "") in _OURS:
        sys.stdout.write(f"{ALERT}{kind.name.lower()}\n")
        sys.stdout.flush()


def main() -> None:
    """Is `flower-superlink`."""
    import uvicorn.config
    from flwr.superlink.cli.flower_superlink import flower_superlink

    made = uvicorn.config.create_ssl_context

    def context(*arguments: Any, **named: Any) -> ssl.SSLContext:
        found = made(*arguments, **named)
        if hasattr(found, "_msg_callback"):
            found._msg_callback = _heard
        return found

    uvicorn.config.create_ssl_context = context
    sys.argv[0] = "flower-superlink"
    flower_superlink()


if __name__ == "__main__":
    main()
