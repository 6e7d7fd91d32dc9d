"""Who gets what from the live page: the token, the Host header, and nothing outside the folder."""

from __future__ import annotations

import http.client
import json
import re
from pathlib import Path

import pytest
from long_run import LongRun  # type: ignore[import-not-found]
from starlette.testclient import TestClient

from fedloom.errors import BadInput
from fedloom.watch.app import make_app
from fedloom.watch.serve import page

TOKEN = "secret"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("watched")
    (place / "secret.txt").write_text("private")
    (place / "runs").mkdir()
    (place / "elsewhere").mkdir()
    LongRun(place / "runs" / "a", rounds=3, done=2, pictures=True)
    LongRun(place / "elsewhere" / "b", rounds=3, done=0, pictures=True)
    (place / "runs" / "link").symlink_to(place / "elsewhere" / "b")
    (place / "runs" / "a" / "samples" / "round_0007.png").symlink_to(place / "secret.txt")
    return place / "runs"


@pytest.fixture(scope="module")
def client(root: Path) -> TestClient:
    return TestClient(make_app(root, TOKEN), base_url="http://127.0.0.1:9999")


@pytest.mark.parametrize("path", ["", "watch.js", "watch.css", "icon.svg", "state", "state?at=a"])
def test_all_that_the_page_needs_is_here_and_only_by_the_token(client, path):
    found = client.get(f"/{TOKEN}/{path}")
    assert found.status_code == 200
    assert "default-src 'none'" in found.headers["content-security-policy"]
    assert (found.headers["x-content-type-options"], found.headers["referrer-policy"]) == ("nosniff", "no-referrer")
    for other in (f"/{path}", f"/wrong/{path}", f"/{TOKEN}x/{path}", f"/{TOKEN[:-1]}/{path}"):
        assert client.get(other).status_code == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9999", "127.0.0.1.evil.example", "192.168.1.5", ""])
def test_another_host_name_is_refused(client, host):
    assert client.get(f"/{TOKEN}/state", headers={"Host": host}).status_code == 400


def test_localhost_is_this_machine_too(client):
    assert client.get(f"/{TOKEN}/state", headers={"Host": "localhost:9999"}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_changed(client, method):
    assert client.request(method, f"/{TOKEN}/state").status_code == 405


@pytest.mark.parametrize(
    "at", ["..", "../elsewhere/b", "a/../../elsewhere/b", "link", "/../elsewhere", "a\\..", "a/./..", "a\0"]
)
def test_folders_elsewhere_are_not_shown(client, at):
    assert client.get(f"/{TOKEN}/state", params={"at": at}).status_code == 404
    assert client.get(f"/{TOKEN}/picture", params={"at": at, "name": "round_0000.png"}).status_code == 404


def test_an_absolute_path_is_one_below_the_folder(client, root):
    found = client.get(f"/{TOKEN}/state", params={"at": str(root.parent / "elsewhere" / "b")})
    assert found.json()["state"] == "gone"


@pytest.mark.parametrize(
    "name", ["../config.yaml", "config.yaml", "round_0009.png", "round_.png", "round_0000.png/..", "round_0007.png", ""]
)
def test_of_a_run_only_its_pictures_are_given_out(client, name):
    assert client.get(f"/{TOKEN}/picture", params={"at": "a", "name": name}).status_code == 404


def test_pictures(client, root):
    for name in ("round_0000.png", "labels_0002.png"):
        found = client.get(f"/{TOKEN}/picture", params={"at": "a", "name": name})
        assert (found.status_code, found.headers["content-type"]) == (200, "image/png")
        assert found.content == (root / "a" / "samples" / name).read_bytes()


def test_what_has_not_changed_is_not_sent_again(client):
    first = client.get(f"/{TOKEN}/state", params={"at": "a"})
    again = client.get(f"/{TOKEN}/state", params={"at": "a"}, headers={"If-None-Match": first.headers["etag"]})
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")


def test_the_page_names_no_other_place_and_makes_no_html_of_texts():
    for file in (Path(__file__).parents[2] / "src" / "fedloom" / "watch" / "assets").iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert re.findall(r"\w+:\s*//|url\(|@import|src=\"//", text) == [], file
        assert re.findall(r"(?:inner|outer)HTML|insertAdjacent|document\.write|\beval\b|new Function", text) == [], file


def test_the_page_is_on_loopback_until_its_context_ends(root):
    with page(root) as url:
        assert url.startswith("http://127.0.0.1:")
        port = int(url.split(":")[2].split("/")[0])
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        link.request("GET", f"/{url.split('/')[3]}/state")
        assert json.loads(link.getresponse().read())["facts"] == ["1 run"]
        with pytest.raises(BadInput, match=f"--port {port}: it cannot be listened on"), page(root, port):
            pass
    with pytest.raises(OSError, match="refused"):
        http.client.HTTPConnection("127.0.0.1", port, timeout=5).request("GET", "/")
