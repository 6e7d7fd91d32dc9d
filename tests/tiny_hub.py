"""A server on this machine that answers as the hub does, as far as fetching needs it, and can be made to fail."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from fedloom.weights.catalogue import Source, source_of
from fedloom.weights.fetch import FetchTarget, fetch, target_of
from fedloom.weights.order import order_of

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b'{"model_type": "bert"}',
    "vocab.txt": b"one\ntwo\n",
    "model.safetensors": bytes(range(256)) * 5000,
    "pytorch_model.bin": b"the same in another form",
    "README.md": b"# words",
    "onnx/model.onnx": b"not asked for",
}


NAME = "tiny/bert"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class TinyHub:
    """repos: name to path to content; plain: path to content of files outside a hub.

    cut: path to how many bytes of the next answer are sent before the connection is closed; dead: paths whose other
    connections are closed without an answer; stall: as `cut`, but the connection is held; swapped: path to what is sent
    in place of the content, once for each entry; busy: paths that answer 503 once for each entry; refused: paths and
    repositories with the status and error code that they answer. asked: each request's path, Range and Authorization.
    """

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    plain: dict[str, bytes] = field(default_factory=dict)
    large: frozenset[str] = frozenset({"model.safetensors", "pytorch_model.bin"})
    cut: dict[str, int] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    stall: dict[str, int] = field(default_factory=dict)
    swapped: list[tuple[str, bytes]] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)
    ranges: bool = True
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    url: str = ""
    server: Any = None

    def start(self) -> None:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def contents(self) -> list[str]:
        """The files whose content was asked for, in order."""
        return [path for path, *_ in self.asked if not path.startswith("/api/")]

    def answer(self, to: BaseHTTPRequestHandler) -> None:
        where = urlsplit(to.path)
        self.asked.append((where.path, to.headers.get("Range"), to.headers.get("Authorization")))
        parts = where.path.strip("/").split("/")
        if where.path.startswith("/api/models/"):
            name, revision = "/".join(parts[2:4]), parts[5]
            if name in self.refused:
                return self._refuse(to, name)
            if name not in self.repos or revision not in ("main", COMMIT):
                return self._send(to, 404, b"{}")
            assert parse_qs(where.query) == {"blobs": ["true"]}
            return self._send(to, 200, json.dumps(self.listing(name)).encode())
        if len(parts) > 4 and parts[2] == "resolve":
            path = "/".join(parts[4:])
            if path.split("/")[-1] in self.large:  # large files lie on another host
                host = self.url.replace("127.0.0.1", "localhost")
                return self._send(to, 302, b"", {"Location": f"{host}/cdn/{parts[0]}/{parts[1]}/{path}"})
            return self._content(to, self.repos["/".join(parts[:2])].get(path), path)
        if parts[0] == "cdn":
            return self._content(to, self.repos["/".join(parts[1:3])]["/".join(parts[3:])], "/".join(parts[3:]))
        return self._content(to, self.plain.get(where.path), where.path)

    def listing(self, name: str) -> Mapping[str, Any]:
        """What the hub's API says of a repository, with sizes and digests."""
        rows = []
        for path, data in self.repos[name].items():
            blob = hashlib.sha1(f"blob {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()
            row: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": blob}
            if path.split("/")[-1] in self.large:
                row |= {"lfs": {"sha256": sha256(data), "size": len(data), "pointerSize": 134}}
            rows.append(row)
        return {"id": name, "sha": COMMIT, "gated": False, "siblings": rows}

    def _content(self, to: BaseHTTPRequestHandler, data: bytes | None, path: str) -> None:
        if path in self.refused:
            return self._refuse(to, path)
        if path in self.busy:
            self.busy.remove(path)
            return self._send(to, 503, b"")
        if data is None:
            return self._send(to, 404, b"")
        for entry in self.swapped:
            if entry[0] == path:
                self.swapped.remove(entry)
                data = entry[1]
                break
        if path in self.dead and path not in self.cut:
            to.close_connection = True
            return None
        start = 0
        if self.ranges and (asked := to.headers.get("Range")):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                return self._send(to, 416, b"", {"Content-Range": f"bytes */{len(data)}"})
        body = data[start:]
        to.send_response(206 if start else 200)
        to.send_header("Content-Length", str(len(body)))
        if start:
            to.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        to.end_headers()
        stalled = self.stall.pop(path, None)
        most = self.cut.pop(path, stalled)
        to.wfile.write(body if most is None else body[:most])
        to.wfile.flush()
        if stalled is not None:
            time.sleep(60)
        to.close_connection = most is not None

    def _refuse(self, to: BaseHTTPRequestHandler, what: str) -> None:
        code, reason = self.refused[what]
        self._send(to, code, b"", {"X-Error-Code": reason})

    def _send(self, to: BaseHTTPRequestHandler, code: int, body: bytes, more: Mapping[str, str] | None = None) -> None:
        to.send_response(code)
        for key, value in {"Content-Length": str(len(body)), **(more or {})}.items():
            to.send_header(key, value)
        to.end_headers()
        to.wfile.write(body)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[TinyHub]:
    """A hub that holds tiny/bert, and an empty folder of weights; broken downloads are retried at once."""
    served = TinyHub({"tiny/bert": dict(FILES)})
    served.start()
    for switch in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(switch, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", served.url)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("FEDLOOM_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr("fedloom.weights.hub.RETRY_WAITS", (0.0, 0.0))
    monkeypatch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=lambda seconds: None))
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100_000)
    yield served
    served.stop()


def bring(root: Path, source: Source | None = None) -> FetchTarget:
    """Fetch a source, NAME by default, unless it is there."""
    target = target_of(source or source_of(NAME), root)
    if not target.here:
        fetch(target, order_of(target.source, target.folder))
    return target
