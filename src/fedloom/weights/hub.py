"""What huggingface_hub does here: the files that a repository lists, and downloads that continue where one stopped.

Downloads use `http_get`, on which `hf_hub_download` is built: it continues a partial file, while `hf_hub_download`
deletes the one of a killed process. It also downloads files that lie on no hub.
"""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fedloom.errors import FedloomError
from fedloom.runs.disk import explained

RETRY_WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds before a broken download is retried
TIMEOUT = 30.0  # seconds, of a listing
NO_ROOM = "Make room, or choose another folder with --to."
_BUSY = (408, 429, 500, 502, 503, 504)


class NoConnection(FedloomError):
    """The server cannot be reached, or may not be asked."""


class _Interrupted(Exception):
    """A download stopped before its end, and may be retried."""


def endpoint() -> str:
    """The hub's address: `$HF_ENDPOINT`, or the official one."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def file_url(name: str, revision: str, path: str) -> str:
    """The address of a file of a repository."""
    from huggingface_hub import hf_hub_url

    return hf_hub_url(name, path, revision=revision, endpoint=endpoint())


def list_files(name: str, revision: str) -> tuple[str, dict[str, Any]]:
    """The commit that a revision is now, and its files by path, each with `size`, `blob_id` and `lfs`.

    Raises:
        NoConnection: the hub cannot be reached.
        FedloomError: it refuses, has no such repository, or answers with something else.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    client = _client_module()
    url = f"{endpoint()}/{name}"
    try:
        api = HfApi(endpoint=endpoint(), library_name="fedloom")
        info = api.model_info(name, revision=revision, files_metadata=True, timeout=TIMEOUT)
        return str(info.sha), {file.rfilename: file for file in info.siblings or []}
    except HfHubHTTPError as error:
        raise _refused(url, error.response) from None
    except client.TransportError as error:
        raise _unreachable(url, error) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise FedloomError(f"{name}: {endpoint()} did not answer with a list of files") from None


def download(url: str, part: Path, size: int | None = None, label: str = "") -> None:
    """Complete the file `part` from `url`, after the bytes that it has. A download that breaks is retried.

    Args:
        size: bytes of the whole file, where known.
        label: of the progress bar, which is drawn on terminals only.

    Raises:
        NoConnection: the server cannot be reached, or the download keeps breaking. The part is kept.
        FedloomError: the server refuses, or the disk is full.
    """
    waits = list(RETRY_WAITS)
    while True:
        before = _size(part)
        try:
            return _download_rest(url, part, size, label)
        except _Interrupted as error:
            if _size(part) > before:
                waits = list(RETRY_WAITS)
            if not waits:
                raise NoConnection(f"{error}. What is there is kept: give the same command again") from None
            time.sleep(waits.pop(0))


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _download_rest(url: str, part: Path, size: int | None, label: str) -> None:
    """One attempt. Raises _Interrupted where another may succeed."""
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]
    from tqdm import tqdm

    client = _client_module()
    start = _size(part)
    if size is not None and start > size:
        part.unlink()
        start = 0
    if size is not None and start == size:
        return
    token = None if url.startswith(f"{endpoint()}/") else False  # None: the user's, where there is one
    headers = build_hf_headers(token=token, library_name="fedloom") | {"Accept-Encoding": "identity"}
    bar: Any = partial(tqdm, disable=None)  # on terminals only; huggingface_hub's own is off where a run is computed
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as handle:
            http_get(url, handle, resume_size=start, headers=headers, displayed_filename=label, tqdm_class=bar)
            os.fsync(handle.fileno())
    except HfHubHTTPError as error:
        _after_answer(url, part, start, error.response)
    except client.ConnectError as error:
        raise _unreachable(url, error) from None
    except client.TransportError as error:
        raise _Interrupted(f"{url}: the download broke ({error})") from None
    except OSError as error:
        if error.errno is None:  # http_get counted other bytes than the server had announced
            raise _Interrupted(f"{url}: the download broke ({error})") from None
        with explained("write", part, NO_ROOM):
            raise


def _after_answer(url: str, part: Path, start: int, answer: Any) -> None:
    """What an error status means for a part of `start` bytes; returns where that is the whole file already."""
    if answer.status_code == 416 and start:  # nothing left to send: whole, or no longer the same file
        if answer.headers.get("Content-Range") == f"bytes */{start}":
            return
        part.unlink()
        raise _Interrupted(f"{url}: has changed") from None
    if answer.status_code in _BUSY:
        raise _Interrupted(f"{url}: the server answers {answer.status_code}") from None
    raise _refused(url, answer) from None


def _refused(url: str, answer: Any) -> FedloomError:
    if answer.status_code in (401, 403):
        return FedloomError(
            f"{url}: access is refused ({answer.status_code}). There may be no such repository, or its terms must be "
            "accepted on its page first; then: hf auth login"
        )
    return FedloomError(f"{url}: the server answers {answer.status_code} {answer.reason_phrase}")


def _unreachable(url: str, error: Exception) -> NoConnection:
    return NoConnection(f"no connection to {urlsplit(url).netloc}: {error}")


def _client_module() -> Any:
    """huggingface_hub's HTTP client library, after its sessions were told to refuse what is not encrypted."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # httpx or httpx2, by its version

    hooks = {"response": [refuse_plain_http]}
    set_client_factory(lambda: httpx.Client(event_hooks=hooks, follow_redirects=True, timeout=TIMEOUT))
    return httpx


def refuse_plain_http(answer: Any) -> None:
    """Raises FedloomError where an encrypted address redirects to one that is not."""
    if answer.has_redirect_location and answer.url.scheme == "https":
        target = answer.url.join(answer.headers["Location"])
        if target.scheme != "https":
            raise FedloomError(f"{answer.url} leads to {target}, which is not encrypted")
