"""A server host without its SuperLink: who may give it orders, how it is found, whom it admits; Flower's commands."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest

from fedloom.config.silo import HostSettings
from fedloom.deployment import pki
from fedloom.deployment.flower_cli import FlowerCli
from fedloom.deployment.offline import engine_environment
from fedloom.deployment.superlink import Host, SuperLink
from fedloom.deployment.superlink_process import LocalOrders, guarded
from fedloom.errors import BadInput, FedloomError
from fedloom.runs.disk import locked

# ---------------------------------------------------------------------------------------- who may give orders


def asked(path: str, client: str | None, server: str = "10.0.0.5", kind: str = "http") -> Any:
    """What becomes of a request: "in" when it is let in, else the status it is refused with."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        sent.append("in")

    async def send(message: dict[str, Any]) -> None:
        sent.append(message.get("status", message["type"]))

    scope = {"type": kind, "path": path, "client": client and (client, 1234), "server": (server, 9092)}
    asyncio.run(LocalOrders(app)(scope, None, send))
    return sent[0]


@pytest.mark.parametrize("client", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "127.9.9.9", "10.0.0.5"])
def test_this_machine_may_give_every_order(client: str) -> None:
    assert asked("/v1/control/start-run", client) == "in"


@pytest.mark.parametrize("client", ["10.0.0.6", "8.8.8.8", "fe80::1", "::ffff:10.0.0.6", "", "localhost", None])
@pytest.mark.parametrize(
    "path",
    ["/v1/control/start-run", "/v1/runtime/acquire-task", "/docs", "/health", "/v1/fleet", "/v1/fleetx", ""],
)
def test_others_may_not(client: str | None, path: str) -> None:
    assert asked(path, client) == 403
    assert asked(path, client, kind="websocket") == "websocket.close"


def test_others_may_speak_as_silos() -> None:
    assert asked("/v1/fleet/pull-messages", "10.0.0.6") == "in"


def test_a_servers_own_start_is_no_order() -> None:
    assert asked("", None, kind="lifespan") == "in"


def test_who_asks_again_and_again_keeps_no_server_up() -> None:
    """Flower's SuperExec never closes its connection; a server that was told to end waited for it for ever."""
    import uvicorn

    given: list[Any] = []
    guarded(lambda app, **named: given.append((type(app), named)))("app", port=1, forwarded_allow_ips="*")
    ours = {"forwarded_allow_ips": "127.0.0.1", "timeout_graceful_shutdown": 3}
    assert given == [(LocalOrders, {"port": 1, **ours})]
    assert ours.keys() <= inspect.signature(uvicorn.run).parameters.keys()


# -------------------------------------------------------------------------------------- finding one that is up


def host_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / ".lock").touch()
    (folder / "host.json").write_text(json.dumps({"address": "127.0.0.1:9", "pid": os.getpid()}))
    return folder


def test_a_server_that_is_up_is_found(tmp_path: Path) -> None:
    folder = host_folder(tmp_path)
    with locked(folder / ".lock"), Host.attach(folder) as host:
        assert (host.folder, host.address) == (folder, "127.0.0.1:9")
        assert host.environment["FEDLOOM_SERVER"] == str(folder)


def test_one_that_was_killed_is_not_up_though_its_number_is_anothers(tmp_path: Path) -> None:
    folder = host_folder(tmp_path)  # it names this very process
    with pytest.raises(BadInput, match=f"the server of {folder} is not up: `fedloom server up --folder {folder}`"):
        Host.attach(folder)


def test_one_that_was_ended_is_not_up(tmp_path: Path) -> None:
    folder = host_folder(tmp_path)
    (folder / "host.json").unlink()
    with pytest.raises(BadInput, match="is not up"):
        Host.attach(folder)


def test_a_folder_that_is_no_servers(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"is no server's folder: it has no host.json. `fedloom server up` makes it"):
        Host.attach(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


# --------------------------------------------------------------------------------- what it says to Flower, alone


class Pretended(SuperLink):
    """A server whose Flower is a list of nodes."""

    def __init__(self, root: Path) -> None:
        self.nodes: dict[str, str] = {}
        self.told: list[str] = []
        settings = HostSettings(folder=str(root / "server"), pki=str(root / "pki"), port=1)
        super().__init__(settings, self.told.append)
        self.folder.mkdir(exist_ok=True)

    def flwr(self, *words: str) -> dict[str, Any]:
        if words[1] == "list":
            return {
                "nodes": [
                    {"node-id": n, "status": "registered" if k else "unregistered"} for n, k in self.nodes.items()
                ]
            }
        if words[1] == "unregister":
            self.nodes[words[2]] = ""
            return {}
        key = Path(words[2]).read_text().strip()
        if not key.startswith("ecdsa"):
            raise FedloomError("flwr supernode register: [code: 24] Invalid public key.")
        self.nodes[str(800 + len(self.nodes))] = key
        return {"node-id": list(self.nodes)[-1]}


@pytest.fixture
def link(tmp_path: Path) -> Pretended:
    pki.init(tmp_path / "pki", [])
    pki.issue(tmp_path / "pki", "one")
    return Pretended(tmp_path)


def test_kits_are_admitted_also_later_and_revoked_ones_taken_out(link: Pretended) -> None:
    assert link.pki is not None
    link.admit()
    pki.issue(link.pki, "two")
    link.admit()
    link.admit()
    assert link.told == ["silo one is admitted", "silo two is admitted"]
    assert link.names() == {"800": "one", "801": "two"}
    pki.revoke(link.pki, "one")
    link.told.clear()
    link.admit()
    assert link.told == ["silo one is no longer admitted: its key was revoked"]
    assert [row["name"] for row in link.silos()] == ["two"]  # and not a nameless row for the one that is out


def test_a_kit_that_was_away_for_a_while_counts_as_revoked(tmp_path: Path) -> None:
    """Flower takes a key once."""

    class Strict(Pretended):
        spent: ClassVar[set[str]] = set()

        def flwr(self, *words: str) -> dict[str, Any]:
            if words[1] == "register":
                if (key := Path(words[2]).read_text()) in self.spent:
                    raise FedloomError("flwr supernode register: [code: 23] Public key already in use.")
                self.spent.add(key)
            return super().flwr(*words)

    pki.init(tmp_path / "pki", [])
    kit, link = pki.issue(tmp_path / "pki", "one"), Strict(tmp_path)
    link.admit()
    kit.rename(tmp_path / "away")
    link.admit()
    (tmp_path / "away").rename(kit)
    link.admit()
    assert link.told[-1] == (
        "silo one is not admitted: its key was admitted and taken back before; "
        "`fedloom pki revoke` it, and issue it anew"
    )


def test_a_kit_that_was_issued_anew_has_another_key(link: Pretended) -> None:
    assert link.pki is not None
    link.admit()
    pki.revoke(link.pki, "one")
    pki.issue(link.pki, "one")
    link.told.clear()
    link.admit()
    assert link.told == ["silo one is no longer admitted: its key was revoked", "silo one is admitted"]
    assert link.nodes["800"] == ""


def test_a_bad_kit_is_told_once_and_ends_nothing(link: Pretended) -> None:
    assert link.pki is not None
    bad = link.pki / "silos" / "bad"
    bad.mkdir()
    (bad / "node.pub").write_text("rubbish")
    link.admit()
    link.admit()
    assert [line for line in link.told if "bad" in line] == [
        "silo bad is not admitted: flwr supernode register: [code: 24] Invalid public key."
    ]
    assert link.names() == {"800": "one"}
    (bad / "node.pub").write_text("ecdsa mended")
    link.admit()
    assert link.told[-1] == "silo bad is admitted"


def test_a_server_on_a_folder_in_use_is_refused(link: Pretended, tmp_path: Path) -> None:
    with (
        locked(link.folder / ".lock"),
        pytest.raises(BadInput, match="is the folder of a server that is up already"),
    ):
        SuperLink(HostSettings(folder=str(link.folder), pki=str(tmp_path / "pki"), port=0)).__enter__()


def test_flowers_own_command_line_answers_in_a_child_that_is_closed(tmp_path: Path) -> None:
    """It says in one line why a server cannot be reached, and a second call uses the same process."""
    (tmp_path / "config.toml").write_text(
        '[superlink]\ndefault = "x"\n[superlink.x]\naddress = "127.0.0.1:1"\ninsecure = true\n'
    )
    cli = FlowerCli(engine_environment(tmp_path), tmp_path / "log")
    children = []
    for _ in range(2):
        with pytest.raises(FedloomError, match=r"^flwr supernode list: .*unavailable") as error:
            cli.call("supernode", "list")
        assert "\n" not in str(error.value)
        assert cli._child is not None
        children.append(cli._child)
    assert children[0] is children[1]
    cli.close()
    cli.close()
    assert not children[0].alive()


def test_a_child_that_dies_is_told_and_another_one_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = subprocess.Popen
    code = "import sys; sys.stdin.read(1); sys.stderr.write('boom'); sys.exit(1)"
    monkeypatch.setattr(subprocess, "Popen", lambda argv, **named: real([sys.executable, "-c", code], **named))
    cli = FlowerCli(dict(os.environ), tmp_path / "log")
    for _ in range(2):
        with pytest.raises(FedloomError, match="flwr run: boom"):
            cli.call("run")
        assert cli._child is not None
        cli._child.process.wait(10)
    cli.close()
