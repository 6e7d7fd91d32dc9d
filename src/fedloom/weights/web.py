"""Reading from the web: small answers, and large files that go on where an earlier attempt stopped.

Plain HTTPS with the standard library, for the hub as for other addresses: the hub's own library begins a file anew
after its process was killed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from fedloom.errors import FedloomError
from fedloom.runs.disk import explained

HUB = "https://huggingface.co"
WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds before a broken transfer is taken up again
TIMEOUT = 30.0  # seconds without a byte
BLOCK = 1 << 20
ROOM = "Make room, or choose another folder with --to."
_BUSY = (408, 429, 500, 502, 503, 504)
Progress = Callable[[int], None]


class NoConnection(FedloomError):
    """The other side cannot be reached, or may not be asked."""


class _Broken(Exception):
    """A transfer stopped before its end."""


class _Redirects(HTTPRedirectHandler):
    """Stays with HTTPS, and shows the token to no other host."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if before.scheme == "https" != after.scheme:
            raise FedloomError(f"{req.full_url} leads to {newurl}, which is not encrypted")
        token = req.unredirected_hdrs.get("Authorization")
        if new is not None and token and before.netloc == after.netloc:
            new.add_unredirected_header("Authorization", token)
        return new


def hub() -> str:
    """The hub's address: `$HF_ENDPOINT`, or the official one."""
    return (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")


def _opened(url: str, start: int = 0) -> Any:
    """The answer to GET, from byte `start` on where the server can."""
    request = Request(url, headers={"User-Agent": "fedloom", "Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    if url.startswith(f"{hub()}/"):
        from huggingface_hub import get_token

        if token := get_token():
            request.add_unredirected_header("Authorization", f"Bearer {token}")
    return build_opener(_Redirects).open(request, timeout=TIMEOUT)


def _refused(url: str, error: HTTPError) -> FedloomError:
    if error.code in (401, 403):
        return FedloomError(
            f"{url}: access is refused ({error.code}). There may be no such repository, or its terms must be accepted "
            "on its page first; then: hf auth login"
        )
    return FedloomError(f"{url}: the server answers {error.code} {error.reason}")


def _unreachable(url: str, error: Exception) -> NoConnection:
    reason = getattr(error, "reason", None) or error
    return NoConnection(f"no connection to {urlsplit(url).netloc}: {reason}")


def read_json(url: str) -> Any:
    """What a small JSON answer holds.

    Raises:
        NoConnection: the server cannot be reached.
        FedloomError: it refuses, or its answer is no JSON.
    """
    try:
        with closing(_opened(url)) as response:
            return json.loads(response.read())
    except HTTPError as error:
        raise _refused(url, error) from None
    except (URLError, HTTPException, OSError) as error:
        raise _unreachable(url, error) from None
    except ValueError:
        raise FedloomError(f"{url}: the answer is no JSON") from None


def load(url: str, part: Path, size: int | None = None, progress: Progress = lambda count: None) -> None:
    """Fill the file `part` from `url`, going on after the bytes that it has; a broken transfer is taken up again.

    Args:
        size: bytes of the whole file, where known.
        progress: takes the bytes that are there, after each block.

    Raises:
        NoConnection: the server cannot be reached, or the transfer keeps breaking. What is there is kept.
        FedloomError: the server refuses, or the disk is full.
    """
    left = list(WAITS)
    while True:
        before = _have(part)
        try:
            return _go_on(url, part, size, progress)
        except _Broken as error:
            if _have(part) > before:
                left = list(WAITS)
            if not left:
                raise NoConnection(f"{error}. What is there is kept: give the same command again") from None
            time.sleep(left.pop(0))


def _have(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _go_on(url: str, part: Path, size: int | None, progress: Progress) -> None:
    """One attempt. Raises _Broken where another may help."""
    start = _have(part)
    if size is not None and start > size:
        part.unlink()
        start = 0
    if size is not None and start == size:
        progress(start)
        return
    try:
        response = _opened(url, start)
    except HTTPError as error:
        if error.code == 416 and start:  # nothing is left to send: whole, or not the same file any more
            if error.headers.get("Content-Range") == f"bytes */{start}":
                return
            part.unlink()
            raise _Broken(f"{url}: has changed") from None
        if error.code in _BUSY:
            raise _Broken(f"{url}: the server answers {error.code}") from None
        raise _refused(url, error) from None
    except (URLError, HTTPException, OSError) as error:
        if start:
            raise _Broken(str(_unreachable(url, error))) from None
        raise _unreachable(url, error) from None
    with closing(response), explained("write", part, ROOM):
        part.parent.mkdir(parents=True, exist_ok=True)
        _pour(response, url, part, start if response.status == 206 else 0, progress)


def _pour(response: Any, url: str, part: Path, start: int, progress: Progress) -> None:
    """Write an answer's bytes after the first `start` of the file. OSError is the disk's."""
    length = response.headers.get("Content-Length")
    whole = start + int(length) if length else None
    with part.open("ab" if start else "wb") as handle:
        while True:
            try:
                block = response.read1(BLOCK)  # what has come, so that little is lost when this is stopped
            except (HTTPException, OSError) as error:
                raise _Broken(f"{url}: the transfer broke ({error})") from None
            if not block:
                break
            handle.write(block)
            handle.flush()
            start += len(block)
            progress(start)
        os.fsync(handle.fileno())
    if whole is not None and start < whole:
        raise _Broken(f"{url}: the transfer broke after {start} of {whole} bytes")
