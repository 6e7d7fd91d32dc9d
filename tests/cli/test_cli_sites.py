"""pki, server up, silo up, submit, status, logs: what they say; bad input in one line that leaves nothing behind."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedloom.deployment import pki
from fedloom.deployment.events import EventLog
from fedloom.deployment.job import event_file
from fedloom.deployment.superlink import Host
from fedloom.errors import BadInput
from fedloom.runs.disk import locked

TEXTS = "text,label\na rose,rose\na lily,lily\n"
SILO = ("silo", "up", "--name", "clinic", "--modality", "text", "--model", "bert")


def left() -> set[str]:
    """What lies in the folder that the command was called in."""
    return {str(path) for path in Path().rglob("*")}


def one_line(shown: Any, code: int, *told: str) -> None:
    assert (shown.code, shown.out) == (code, "")
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1, shown.err
    for text in told:
        assert text in shown.err


@pytest.fixture
def refused(cli: Callable[..., Any]) -> Callable[..., None]:
    """Calls a command that is to be refused: one line with these words, exit code 2, nothing left behind."""

    def call(*args: object, told: tuple[str, ...]) -> None:
        before = left()
        one_line(cli(*args), 2, *told)
        assert left() == before

    return call


@pytest.fixture
def site(tmp_path: Path, cli: Callable[..., Any]) -> Path:
    """A folder with keys, a kit and texts."""
    pki.init(tmp_path / "pki", [])
    pki.issue(tmp_path / "pki", "clinic").rename(tmp_path / "kit")
    (tmp_path / "texts").mkdir()
    for part in ("train", "test"):
        (tmp_path / "texts" / f"texts_{part}.csv").write_text(TEXTS)
    return tmp_path


# ------------------------------------------------------------------------------------------------------- keys


def test_keys_from_the_first_to_the_last(cli):
    assert cli("pki", "init", "--host", "fed.example.org", "--days", 30).out == (
        "pki/ca.crt, server.crt and their keys, good for fed.example.org, localhost, 127.0.0.1 and 30 days\n"
    )
    assert cli("pki", "list").out.endswith("\nno kit has been issued\n")
    shown = cli("pki", "issue", "clinic")
    assert shown.code == 0
    assert shown.out.startswith("pki/silos/clinic: hand this folder to clinic, by a way that nobody else can read; ")
    listed = cli("pki", "list", "--json").json
    assert [(row["name"], len(row["until"])) for row in listed["silos"]] == [("clinic", 10)]
    assert listed["authority"]["until"] == listed["server"]["until"] == listed["silos"][0]["until"]
    assert "clinic" in cli("pki", "list").out
    assert cli("pki", "revoke", "clinic").out == "clinic's key is no longer accepted\n"
    assert cli("pki", "list", "--json").json["silos"] == []


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["init", "--host", "fed:9092"], ["host 'fed:9092'", "allowed: an address, or a name", "no port"]),
        (["init", "--days", "0"], ["--days", "1<=x<=36500"]),
        (["init", "--days", "99999"], ["--days", "1<=x<=36500"]),
        (["issue", "clinic"], ["pki has no ca.crt", "`fedloom pki init` makes it"]),
        (["issue", "clinic", "--folder", "nowhere"], ["nowhere has no ca.crt"]),
        (["revoke", "clinic"], ["pki has no ca.crt"]),
        (["list"], ["pki has no ca.crt"]),
        (["issue"], ["NAME"]),
    ],
)
def test_keys_that_cannot_be_made(refused, args, told):
    refused("pki", *args, told=tuple(told))


def test_keys_that_are_there(refused, site):
    pki.issue(site / "pki", "one")
    refused("pki", "init", told=("pki already has an authority",))
    refused("pki", "issue", "one", told=("pki/silos/one is there already", "revoke 'one' first"))
    refused("pki", "issue", "a/b", told=("silo name 'a/b'", "letters, digits"))
    refused("pki", "revoke", "won", told=("unknown silo 'won'", "Did you mean 'one'?"))
    (site / "pki" / "silos" / "one" / "local.crt").write_text("rubbish")
    refused("pki", "list", told=("silos/one/local.crt is no certificate",))


# ----------------------------------------------------------------------------------------------------- server


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--pki", "nowhere"], ["nowhere has no ca.crt", "`fedloom pki init` makes it"]),
        (["--port", "70000"], ["--port", "70000"]),
        (["--host", "10.9.9.9"], ["host '10.9.9.9'", "server.crt", "allowed: localhost, 127.0.0.1"]),
        (["--config", "nowhere.yaml"], ["nowhere.yaml"]),
        (["--config", "server.yaml"], ["unknown key 'prot'", "Did you mean 'port'?"]),
        (["--prot", "3"], ["--prot"]),
    ],
)
def test_a_server_that_cannot_be(refused, site, args, told):
    (site / "server.yaml").write_text("prot: 9092\n")
    refused("server", "up", *args, told=tuple(told))


def test_a_server_with_an_old_certificate(refused, site):
    pki.init(site / "old", [], days=0)
    refused("server", "up", "--pki", "old", told=("old/ca.crt was good until 2", "it is 2"))


def test_a_port_that_is_taken(cli, site):
    before = left()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        shown = cli("server", "up", "--port", port)
    one_line(shown, 1, f"cannot listen at port {port} of 127.0.0.1", "Address already in use")
    assert left() == before


# ------------------------------------------------------------------------------------------------------- silo


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--model", "gpt"], ["model.arch = 'gpt'"]),
        (["--model", "vit"], ["'vit' is no text model", "bert, distilbert, roberta"]),
        (["--modality", "pair"], ["'bert' is no pair model", "resnet+gru"]),
        (["--modality", "smell"], ["modality = 'smell'", "'image'"]),
        (["--name", "a b"], ["name = 'a b'", "letters, digits"]),
        (["--server", "fed.example.org"], ["server = 'fed.example.org'", "expected HOST:PORT"]),
        (["--server", "https://fed.example.org:9092"], ["server = ", "expected HOST:PORT"]),
        (["--server", "fed.example.org:9092"], ["bounds.methods: needed where the server is another machine"]),
        (["--method", "fedmkt"], ["unknown method 'fedmkt'", "Did you mean 'fedmmkt'?"]),
        (["--set", "bounds.round.steps=-1"], ["bounds.round.steps = -1"]),
        (["--set", "bounds.fields=labels"], ["bounds.fields = 'labels'"]),
        (["--server", "fed:99999"], ["server = 'fed:99999'", "expected HOST:PORT"]),
        (["--data", "nowhere"], ["--data nowhere", "no such file or folder", "Data sets: flora"]),
        (["--data", "flra"], ["--data flra", "Did you mean 'flora'?"]),
        (["--kit", "nokit"], ["nokit has no ca.crt", "`fedloom pki issue NAME` makes it"]),
        (["--set", "model.width=1"], ["model.width = 1", "allowed: 2 or more"]),
        (["--set", "model.widht=16"], ["'model.widht'", "Did you mean 'model.width'?"]),
        (["--set", "data.share=3/3"], ["data.share = '3/3'", "INDEX below OF"]),
        (["--set", "data.share=half"], ["data.share = 'half'", "expected INDEX/OF"]),
        (["--set", "data.options.texts_tran=x"], ["'texts_tran'", "Did you mean 'texts_train'?"]),
        (["--set", "data.root=gone"], ["data.root = 'gone'", "there is no such folder"]),
        (["--set", "keep=1"], ["keep = 1"]),
        (["--config", "silo.yaml"], ["unknown key 'modle'", "Did you mean 'model'?"]),
        (["--config", "nowhere.yaml"], ["nowhere.yaml"]),
    ],
)
def test_a_silo_that_cannot_be(refused, site, args, told):
    (site / "silo.yaml").write_text("modle: {arch: bert}\n")
    given = dict(zip(SILO[2::2], SILO[3::2]))
    given |= {"--data": "texts", "--kit": "kit"}
    given |= {args[0]: args[1]}
    refused("silo", "up", *(word for pair in given.items() for word in pair), told=tuple(told))


def test_where_a_silo_finds_pairs(site):
    from fedloom.cli.silo import _data

    assert _data("texts", "pair") == {"name": "caption_parquet", "root": str(site / "texts")}
    assert _data("flickr30k", "pair") == {"name": "flickr30k"}
    with pytest.raises(BadInput, match=r"pairs are read from a folder that holds \{train,val,test\}.parquet"):
        _data("texts/texts_train.csv", "pair")
    with pytest.raises(BadInput, match=r"Did you mean 'flickr8k'\?"):
        _data("flickr8", "pair")


def test_a_silo_without_what_it_needs(refused, site):
    refused(*SILO[:4], told=("modality", "required"))
    refused(*SILO, told=("data: nothing to read; give --data",))
    os.rename("kit", "elsewhere")
    refused(*SILO, "--data", "texts", told=("kit has no ca.crt",))


# ------------------------------------------------------------------------------------- submit, status and logs


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """The folder of a server that has been up, with two runs."""
    folder = tmp_path / "fedloom-server"
    for part in ("jobs", "logs"):
        (folder / part).mkdir(parents=True)
    (folder / ".lock").touch()
    for job in ("3f2a00000001", "3f2b00000001"):
        record = {"id": job, "flower": "7", "out": None, "resume": None}
        (folder / "jobs" / f"{job}.json").write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize("command", [["submit", "--preset", "smoke"], ["status"]])
def test_a_server_that_is_not_up(refused, cli, server, command):
    refused(
        *command,
        told=("the server of fedloom-server is not up: `fedloom server up --folder fedloom-server`",),
    )
    refused(*command, "--server", "nowhere", told=("nowhere is no server's folder: it has no host.json",))


def test_the_silos_of_a_run(refused, cli, tmp_path, monkeypatch):
    """`fedloom status RUN` shows those that a run on this machine has started."""
    refused("status", "nowhere", told=("nowhere: expected a run folder",))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("seed: 0\n")
    refused("status", "run", told=("run has no silos of its own: allowed: runs of --engine flower",))
    server = tmp_path / "run" / "federation" / "server"
    (server / "jobs").mkdir(parents=True)
    (server / ".lock").touch()
    refused("status", "run", told=("run: its silos are not up, as no process is at this run",))
    (server / "host.json").write_text('{"address": "127.0.0.1:9092", "pki": null}')
    monkeypatch.setattr(Host, "silos", lambda self: [{"name": "silo-0", "node": "1", "state": "online"}])
    with locked(server / ".lock"):
        shown = cli("status", "run").out
    for told in ("silo-0", "online", "127.0.0.1:9092"):
        assert told in shown


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--method", "fedmkt"], ["'fedmkt'", "Did you mean 'fedmmkt'?"]),
        (["--set", "settings.gama=1"], ["'settings.gama'", "Did you mean 'settings.gamma'?"]),
        (["--silos", "0"], ["--silos"]),
        (["--resume", "nowhere"], ["nowhere is no run folder"]),
        (["--resume", "x", "--out", "y"], ["--resume goes on in the run's own folder"]),
        (["--config", "nowhere.yaml"], ["nowhere.yaml"]),
    ],
)
def test_a_run_that_cannot_be_handed_over(refused, cli, args, told):
    refused("submit", *args, told=tuple(told))


def test_logs_of_a_job_that_nobody_knows(refused, cli, server):
    refused("logs", "4", told=("unknown job '4'", "Allowed: 3f2a00000001, 3f2b00000001"))
    refused("logs", "3f2", told=("job '3f2' may be any of 3f2a00000001, 3f2b00000001", "a longer prefix"))
    refused("logs", "*", told=("unknown job '*'",))
    refused("logs", "/3f2a", told=("unknown job '/3f2a'",))
    refused("logs", "../jobs/3f2a", told=("unknown job",))
    refused("logs", "3f", "--server", "nowhere", told=("nowhere is no server's folder",))
    refused("logs", told=("fedloom-server: there are no logs",))
    refused(
        "logs",
        "--silo",
        "nowhere",
        told=("nowhere: there are no logs; is it the folder of a server or a silo?",),
    )


def test_a_job_that_has_not_begun(cli, server):
    shown = cli("logs", "3f2a")
    assert (shown.code, shown.out) == (0, "waiting\n")


def test_a_run_read_later(cli, server, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("fedloom.deployment.events.time.time", lambda: now[0])
    events = EventLog(event_file(server, "3f2a00000001"))
    facts = {
        "method": "fedmmkt",
        "data": "flora",
        "rounds": 1,
        "folder": "runs/x",
        "clients": {},
        "resumed_at": 0,
    }
    events.begin(facts)
    for t in range(2):
        events.round({"round": t})
        now[0] += 75
    events.over(Path("runs/x"))
    lines = cli("logs", "3f2a").out.splitlines()
    assert lines[0] == "fedmmkt on flora, no clients, folder runs/x"
    assert lines[2].startswith("round 1/1  1 min 15 s")
    assert lines[-1] == "done, folder runs/x"
    events.over(None, ValueError("shapes differ"))
    failed = EventLog(event_file(server, "3f2b00000001"))
    failed.over(None, ValueError("shapes differ"))
    assert cli("logs", "3f2b").out == "failed: ValueError: shapes differ\n"


def test_the_last_lines_of_each_log(cli, server):
    for name in ("superlink", "3f2a"):
        text = "".join(f"{name} line {i} \N{BULLET}\n" for i in range(100)) + "half a li"
        (server / "logs" / f"{name}.log").write_bytes(text.encode() + b"\xff")
    assert cli("logs", "-n", 2).out.splitlines() == [
        *("3f2a: 3f2a line 98 \N{BULLET}", "3f2a: 3f2a line 99 \N{BULLET}"),
        *("superlink: superlink line 98 \N{BULLET}", "superlink: superlink line 99 \N{BULLET}"),
    ]


def test_how_a_silo_stands(cli, refused, tmp_path):
    refused("status", "--silo", "nowhere", told=("nowhere is no silo's folder: it has no silo.json",))
    folder = tmp_path / "silo"
    folder.mkdir()
    facts = {
        "name": "clinic",
        "server": "fed:9092",
        "state": "connected",
        "pid": 1,
        "worker_pid": 2,
        "supernode_pid": 3,
    }
    (folder / "silo.json").write_text(json.dumps(facts))
    with locked(folder / ".lock"):
        assert cli("status", "--silo", "silo", "--json").json == facts
    assert cli("status", "--silo", "silo", "--json").json == {**facts, "state": "died"}
    shown = cli("status", "--silo", "silo").out
    assert "clinic" in shown
    assert "None" not in shown
