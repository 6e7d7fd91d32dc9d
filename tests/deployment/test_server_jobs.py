"""A job on the server host, from its file to the run's folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from server_configs import config, joint_config

from fedloom.config import Config
from fedloom.config.silo import SiloSettings
from fedloom.deployment.events import follow, run_log, run_status
from fedloom.deployment.job import Job, event_file
from fedloom.deployment.server_app import _log_to, carry_out
from fedloom.deployment.silo import worker_settings
from fedloom.errors import BadInput, FedloomError
from fedloom.federation.engines.flower.client_app import make_client_app
from fedloom.federation.engines.silo.host import SiloHost
from fedloom.federation.engines.silo.resident import host_from
from fedloom.progress import Observer
from fedloom.results import load_run
from in_process_grid import InProcessGrid
from small_silos import MODELS, STEPS, pictures, texts


class ClientHosts:
    """Silos with data of their own, in this process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.hosts: dict[str, SiloHost] = {}
        self.grid = InProcessGrid({})

    def add(self, name: str, modality: str, data: Path | dict[str, Any], **more: Any) -> None:
        where = data if isinstance(data, dict) else {"root": str(data)}
        given = {"name": name, "modality": modality, "model": MODELS[modality], "data": where, **more}
        settings = worker_settings(SiloSettings.model_validate({**given, "folder": str(self.root / name)}))
        host = self.hosts[name] = host_from(settings, self.root / name / "state")
        node = 100 + len(self.hosts)
        self.grid = InProcessGrid({**self.grid.nodes, node: (make_client_app(answers(host)), {})})


def answers(host: SiloHost) -> Callable[[Any, Any], Any]:
    return lambda letter, node: host.answer(letter)


@pytest.fixture
def sites(tmp_path: Path) -> ClientHosts:
    made = ClientHosts(tmp_path / "sites")
    made.add("clinic", "image", pictures(tmp_path / "scans", train=4))
    made.add("archive", "text", texts(tmp_path / "letters"))
    return made


def test_a_run_on_silos_with_data_of_their_own(sites: ClientHosts, fedloom_cache: Path, tmp_path: Path) -> None:
    """From the job to the run's folder; one of three silos has data that do not fit, and nobody is told which."""
    sites.add("odd", "image", pictures(tmp_path / "odd scans", {"Secretflower": (200, 40, 40)}))
    job = Job(config("rounds=1", silos=2).model_dump(mode="json"))
    server = tmp_path / "server"
    carry_out(sites.grid, Job(**json.loads(json.dumps(job.to_json()))), server)
    folder = follow(event_file(server, job.id), Observer(), lambda: None)
    assert folder.parent == server / "runs"
    assert run_status(event_file(server, job.id))["state"] == "done"
    run = load_run(folder)
    assert [row["per_client"].keys() for row in run.rounds] == [{"clinic", "archive"}] * 2
    written = yaml.safe_load((folder / "config.yaml").read_text())
    assert {g["name"] for m in ("image", "text") for g in written["clients"][m]} == {
        "clinic",
        "archive",
        "odd",
    }
    assert not (folder / "split.json").exists()  # whose samples are of which class is the silos' own affair
    exports = {p.parent.parent.parent.parent.parent.name for p in sites.root.glob("*/state/runs/*/export/*")}
    assert exports == {"clinic", "archive"}
    assert not list(folder.glob("export/*"))
    missing = run.rounds[0]["missing"]
    assert [(m["verb"], m["client"], m["error"]) for m in missing] == [
        ("join", "odd", "refused"),
        ("evaluate", "odd", "lost"),
    ]
    assert missing[0]["detail"].endswith("silo 'odd': BadInput; the silo's log says more")
    told = [p.read_bytes() for p in (*folder.rglob("*"), event_file(server, job.id)) if p.is_file()]
    assert not any(word in text for text in told for word in (b"Secretflower", b"scans", b"letters"))


def test_fedafd_on_silos_of_three_kinds(sites: ClientHosts, fedloom_cache: Path, tmp_path: Path) -> None:
    """Pictures, texts and pairs; the server's encoders go down, and each silo runs them beside its own model."""
    few = dict.fromkeys(("images", "texts", "test", "generic", "reference"), 10)
    options = {"size": 12, **few, "pairs": 12, "test_pairs": 10}
    sites.add("album", "pair", {"name": "flora", "options": options})
    short = [f"settings.{key}={value}" for key, value in STEPS.items()]
    job = Job(
        config("rounds=1", "data.options.text_labels=species", *short, method="fedafd", silos=3).model_dump(mode="json")
    )
    carry_out(sites.grid, job, tmp_path / "server")
    run = load_run(follow(event_file(tmp_path / "server", job.id), Observer(), lambda: None))
    assert [row["per_client"].keys() for row in run.rounds] == [{"clinic", "archive", "album"}] * 2
    assert [row["missing"] for row in run.rounds] == [[], []]
    assert run.rounds[1]["pair_recall"] is not None
    assert list(sites.root.glob("album/state/runs/*/export/album/matching.json"))


def test_fedcmi_on_silos_that_hear_and_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them only hears. Nobody reads: no tokenizer is made, and no backbone is trained."""
    monkeypatch.setenv("FEDLOOM_CACHE", str(tmp_path / "cache"))
    made = ClientHosts(tmp_path / "sites")
    options = {"classes": 3, "per_class": 8, "test_per_class": 4}
    made.add("both", "joint", {"name": "duet", "options": options}, model=None)
    made.add("ears", "joint", {"name": "duet", "options": {**options, "seed": 1}}, holds="audio")
    job = Job(joint_config(silos=2).model_dump(mode="json"))
    carry_out(made.grid, job, tmp_path / "server")
    run = load_run(follow(event_file(tmp_path / "server", job.id), Observer(), lambda: None))
    assert [row["per_client"].keys() for row in run.rounds] == [{"both", "ears"}] * 2
    assert [row["missing"] for row in run.rounds] == [[], []]
    assert [p.name for p in (tmp_path / "cache").iterdir() if p.is_dir()] == ["scene"]
    for name in ("both", "ears"):
        assert list(made.root.glob(f"{name}/state/runs/*/export/{name}/fusion.json"))


def test_the_servers_model_must_be_one_that_silos_can_rebuild(sites: ClientHosts, tmp_path: Path) -> None:
    given = config(method="fedafd", silos=2).model_dump(mode="json")
    given["server"]["text"] = {"arch": "gru", "width": 16, "pretrained": "vectors.txt"}
    with pytest.raises(BadInput, match=r"fedafd sends the server's text model to the silos"):
        carry_out(sites.grid, Job(given), tmp_path / "server")
    assert not (tmp_path / "server" / "runs").exists()


def test_a_job_that_fails_says_why_in_its_events(sites: ClientHosts, tmp_path: Path) -> None:
    def failed(job: Job) -> str:
        with pytest.raises(FedloomError):
            carry_out(sites.grid, job, tmp_path / "server")
        found = run_status(event_file(tmp_path / "server", job.id))
        assert found["state"] == "failed"
        return str(found["error"])

    late = config("engine.patience=0.1", silos=3).model_dump(mode="json")
    assert failed(Job(late)) == "2 of 3 silos are connected after 0.1 s"
    wrong = Job({"nonsense": 1})
    assert failed(wrong).startswith("unknown key 'nonsense'")
    with pytest.raises(BadInput):
        follow(event_file(tmp_path / "server", wrong.id), Observer(), lambda: None)
    nowhere = str(tmp_path / "nowhere")
    assert failed(Job(late, resume=nowhere)).startswith(f"{nowhere} is no run folder")
    assert not (tmp_path / "server" / "runs").exists()


def test_a_bug_is_told_with_its_kind_and_its_traceback_is_logged(
    sites: ClientHosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedloom.experiment import loop as experiment

    def broken(*arguments: Any, **named: Any) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(experiment, "run", broken)
    job = Job(config(silos=2).model_dump(mode="json"))
    log = run_log(event_file(tmp_path / "server", job.id))
    before = logging.getLogger().handlers[:]
    _log_to(log)
    try:
        with pytest.raises(RuntimeError):
            carry_out(sites.grid, job, tmp_path / "server")
    finally:
        logging.getLogger().handlers[:] = before
    assert run_status(event_file(tmp_path / "server", job.id))["error"] == "RuntimeError: shapes differ"
    assert "in broken" in log.read_text()
    assert list((tmp_path / "server" / "runs").iterdir()) == []  # no empty folder is left


def test_a_silo_of_another_version_is_left_out_with_a_line(
    sites: ClientHosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedloom.federation.engines.silo.host.PROTOCOL", 99)
    job = Job(config(silos=2).model_dump(mode="json"))
    with pytest.raises(FedloomError, match="0 of 2 silos can take part; see `fedloom logs` for the others"):
        carry_out(sites.grid, job, tmp_path / "server")


def test_a_method_without_clients_waits_for_no_silo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fedloom.experiment import loop as experiment

    def run(config: Config, **named: Any) -> SimpleNamespace:
        assert config.method == "self-finetune"
        return SimpleNamespace(path=tmp_path / "run")

    monkeypatch.setattr(experiment, "run", run)
    job = Job(config(method="self-finetune").model_dump(mode="json"))
    carry_out(InProcessGrid({}), job, tmp_path / "server")
    assert run_status(event_file(tmp_path / "server", job.id))["folder"] == str(tmp_path / "run")
