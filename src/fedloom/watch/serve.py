"""Serves the page on 127.0.0.1, from a thread, until its context ends."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from fedloom.errors import BadInput, FedloomError

if TYPE_CHECKING:
    import uvicorn

HOST = "127.0.0.1"
_START = 30.0  # seconds that uvicorn has to start


def require_web() -> None:
    """Raises BadInput where what serves the page is not installed."""
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise BadInput(f"the live page needs {' and '.join(missing)}: pip install 'fedloom[web]'")


@contextmanager
def page(root: Path, port: int = 0) -> Iterator[str]:
    """The address of the page that shows `root`, for as long as this context lasts. port: 0 for any that is free.

    Raises BadInput where the port is taken or what serves is not installed.
    """
    require_web()
    with _listening(port) as bound:
        token = secrets.token_urlsafe(24)
        server, thread = _started(root, token, bound)
        try:
            yield f"http://{HOST}:{bound.getsockname()[1]}/{token}/"
        finally:
            server.should_exit = True
            thread.join(5.0)


def _listening(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((HOST, port))
        bound.listen(64)
    except OSError as error:
        bound.close()
        raise BadInput(
            f"--port {port}: it cannot be listened on ({error.strerror}); name another, or 0 for any"
        ) from None
    return bound


def _started(root: Path, token: str, bound: socket.socket) -> tuple[uvicorn.Server, threading.Thread]:
    import uvicorn

    from fedloom.watch.app import make_app

    config = uvicorn.Config(
        make_app(root, token),
        log_level="critical",
        access_log=False,
        lifespan="off",
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    end = time.monotonic() + _START
    while not server.started:
        if not thread.is_alive() or time.monotonic() > end:
            raise FedloomError("the live page does not start")
        time.sleep(0.01)
    return server, thread
