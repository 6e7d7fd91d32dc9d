"""What a SuperNode's log says of its connection, in our own words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

CONNECTED = "SuperNode ID:"
FAILING, AGAIN = "Connection attempt failed", "Connection successful"  # Flower goes on trying by itself


class Refusal(NamedTuple):
    """Why a SuperNode gave up. may_pass: not for good, if the silo was let in before."""

    line: str
    may_pass: bool


def refusal(log: str, server: str, kit: Path | None) -> Refusal | None:
    """Why the SuperNode with that log gave up; None when it names no reason that we know."""
    if "CERTIFICATE_VERIFY_FAILED" in log:
        found = re.search(r"certificate verify failed: ([^(\n]*)", log)
        why = f" ({found[1].strip()})" if found else ""
        if "expired" in why:
            why += ": its certificate or the authority's has ended, and who runs the server renews it"
        elif "not yet valid" in why:
            why += ": is this machine's clock right?"
        return Refusal(f"this silo does not trust the server at {server}, by {kit}/ca.crt{why}", False)
    if "SSL/TLS handshake error" in log or "WRONG_VERSION_NUMBER" in log:
        return Refusal(f"the server at {server} does not speak TLS", False)
    if "Failed to activate SuperNode" in log or "code: 2004" in log:
        line = f"the server at {server} refused this silo: its key is not registered there, or another process uses it"
        return Refusal(line, True)
    return None
