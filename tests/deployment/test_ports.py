"""Ports that are free or taken, and servers that speak TLS or not."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest

from fedloom.deployment import pki
from fedloom.deployment.ports import check_port, free_port, speaks_tls
from fedloom.errors import FedloomError


def test_ports() -> None:
    port = free_port()
    check_port("127.0.0.1", port)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        for host in ("127.0.0.1", "0.0.0.0"):
            with pytest.raises(FedloomError, match=f"cannot listen at port {port} of {host}: Address already in use"):
                check_port(host, port)
    with pytest.raises(FedloomError, match=r"cannot listen at port 80 of 203.0.113.7: Cannot assign requested address"):
        check_port("203.0.113.7", 80)


def test_whether_a_server_speaks_tls(tmp_path: Path) -> None:
    pki.init(tmp_path / "pki", [])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pki" / "server.crt", tmp_path / "pki" / "server.key")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"

        def serve() -> None:
            with listener.accept()[0] as plain, context.wrap_socket(plain, server_side=True) as line:
                line.recv(1)
            with listener.accept()[0] as line:
                line.recv(1000)
                line.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        assert speaks_tls(address)
        assert not speaks_tls(address)
        thread.join(5)
    assert not speaks_tls(address)
    assert not speaks_tls("nonsense")
