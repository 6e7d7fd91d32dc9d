"""Ports of this machine, and whether a server speaks TLS."""

from __future__ import annotations

import socket
import ssl

from fedloom.errors import FedloomError


def speaks_tls(address: str, patience: float = 2.0) -> bool:
    """Whether a TLS server answers at host:port within `patience` seconds, whoever it is."""
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context()
    context.check_hostname = False  # asked is only whether it is TLS at all
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((host.strip("[]"), int(port)), patience) as plain:
            context.wrap_socket(plain).close()
    except (OSError, ValueError):  # ssl's own errors are of the first kind
        return False
    return True


def free_port(host: str = "127.0.0.1") -> int:
    """A port of this machine that nobody listens on just now. Raises FedloomError for an address that is not ours."""
    return _bound(host, 0)


def check_port(host: str, port: int) -> None:
    """Raises FedloomError when nobody can listen at that port, as when somebody does already."""
    _bound(host, port)


def _bound(host: str, port: int) -> int:
    """The port that could be listened at."""
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            # As servers do: a port whose last server has just ended is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
            return int(probe.getsockname()[1])
    except OSError as error:
        raise FedloomError(f"cannot listen at port {port} of {host}: {error.strerror or error}") from None
