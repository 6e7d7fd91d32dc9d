"""Transfers: what breaks goes on, the token stays with the hub, a full disk is one line."""

from __future__ import annotations

import resource
from urllib.request import Request

import pytest

from fedloom.errors import FedloomError
from fedloom.weights.catalogue import source_of
from fedloom.weights.lock import faults
from fedloom.weights.web import _Redirects, load
from tiny_hub import NAME, bring


def test_a_broken_transfer_goes_on(hub, root):
    hub.cut["model.safetensors"] = 700_000
    target = bring(root)
    assert [r for p, r, _ in hub.asked if p.startswith("/cdn")] == [None, "bytes=700000-"]
    assert faults(target.source, target.folder) == []


def test_a_server_without_ranges_begins_anew(hub, root):
    hub.ranges = False
    hub.cut["model.safetensors"] = 700_000
    assert faults(source_of(NAME), bring(root).folder) == []


def test_a_busy_server_is_asked_again(hub, root):
    hub.busy = ["vocab.txt", "model.safetensors"]
    assert faults(source_of(NAME), bring(root).folder) == []


def test_the_token_is_shown_to_the_hub_alone(hub, root, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    bring(root)
    shown = {path.startswith("/cdn"): token for path, _, token in hub.asked}
    assert shown == {False: "Bearer hf_secret", True: None}


def test_it_stays_with_https():
    request = Request("https://hub.example/file")
    with pytest.raises(FedloomError, match="not encrypted"):
        _Redirects().redirect_request(request, None, 302, "", {}, "http://other.example/file")


def test_a_disk_that_fills_up_keeps_what_is_there(hub, tmp_path):
    """A limit on the size of files ends a write in its middle, as a full disk does."""
    hub.plain["/file"] = bytes(range(250)) * 12_000
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_234_567, before[1]))
        with pytest.raises(FedloomError, match=r"^cannot write .*part: .*Make room, or choose another folder"):
            load(f"{hub.url}/file", tmp_path / "part")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "part").stat().st_size == 1_234_567
    load(f"{hub.url}/file", tmp_path / "part")
    assert hub.asked[-1][1] == "bytes=1234567-"
    assert (tmp_path / "part").read_bytes() == hub.plain["/file"]


def test_a_full_disk_is_one_line(hub, tmp_path):
    hub.plain["/file"] = b"x"
    (tmp_path / "file").write_text("")
    with pytest.raises(FedloomError, match=r"cannot write .*: .*Make room, or choose another folder"):
        load(f"{hub.url}/file", tmp_path / "file" / "part")
