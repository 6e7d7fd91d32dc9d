"""Downloads: what breaks continues, the token stays with the hub, a full disk is one line."""

from __future__ import annotations

import resource

import pytest

from fedloom.errors import FedloomError
from fedloom.weights.catalogue import source_of
from fedloom.weights.hub import download, refuse_plain_http
from fedloom.weights.lock import faults
from tiny_hub import NAME, bring


def test_a_broken_download_continues(hub, root):
    hub.cut["model.safetensors"] = 700_000
    target = bring(root)
    assert [r for p, r, _ in hub.asked if p.startswith("/cdn")] == [None, "bytes=700000-"]
    assert faults(target.source, target.folder) == []


def test_a_server_without_ranges_starts_again(hub, root):
    hub.ranges = False
    hub.cut["model.safetensors"] = 700_000
    assert faults(source_of(NAME), bring(root).folder) == []


def test_a_busy_server_is_retried(hub, root):
    hub.busy = ["vocab.txt", "model.safetensors"]
    assert faults(source_of(NAME), bring(root).folder) == []


def test_the_token_is_shown_to_the_hub_alone(hub, root, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    bring(root)
    shown = {path.startswith("/cdn"): token for path, _, token in hub.asked}
    assert shown == {False: "Bearer hf_secret", True: None}


@pytest.mark.parametrize(
    ("url", "location", "refused"),
    [
        ("https://hub.example/file", "http://other.example/file", True),
        ("https://hub.example/file", "https://other.example/file", False),
        ("https://hub.example/file", "/other", False),
        ("http://mirror.example/file", "http://other.example/file", False),
    ],
)
def test_it_stays_with_https(url, location, refused):
    from huggingface_hub.utils import httpx

    answer = httpx.Response(302, headers={"Location": location}, request=httpx.Request("GET", url))
    if not refused:
        return refuse_plain_http(answer)
    with pytest.raises(FedloomError, match="not encrypted"):
        refuse_plain_http(answer)


def test_every_answer_is_looked_at(hub, tmp_path, monkeypatch):
    def refuse(answer):
        raise FedloomError(str(answer.status_code))

    monkeypatch.setattr("fedloom.weights.hub.refuse_plain_http", refuse)
    with pytest.raises(FedloomError, match="302"):
        download(f"{hub.url}/{NAME}/resolve/main/model.safetensors", tmp_path / "part")


def test_a_disk_that_fills_up_keeps_what_is_there(hub, tmp_path):
    """A limit on the size of files ends a write in its middle, as a full disk does."""
    hub.plain["/file"] = bytes(range(250)) * 12_000
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_234_567, before[1]))
        with pytest.raises(FedloomError, match=r"^cannot write .*part: .*Make room, or choose another folder"):
            download(f"{hub.url}/file", tmp_path / "part")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "part").stat().st_size == 1_234_567
    download(f"{hub.url}/file", tmp_path / "part")
    assert hub.asked[-1][1] == "bytes=1234567-"
    assert (tmp_path / "part").read_bytes() == hub.plain["/file"]


def test_a_full_disk_is_one_line(hub, tmp_path):
    hub.plain["/file"] = b"x"
    (tmp_path / "file").write_text("")
    with pytest.raises(FedloomError, match=r"cannot write .*: .*Make room, or choose another folder"):
        download(f"{hub.url}/file", tmp_path / "file" / "part")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_is_drawn_on_terminals_only(hub, tmp_path, monkeypatch, terminal):
    from io import StringIO

    stderr = StringIO()
    stderr.isatty = lambda: terminal  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stderr", stderr)
    hub.plain["/file"] = bytes(1000)
    download(f"{hub.url}/file", tmp_path / "part", label="tiny/file")
    assert ("tiny/file: 100%" in stderr.getvalue()) == terminal
    assert bool(stderr.getvalue()) == terminal
