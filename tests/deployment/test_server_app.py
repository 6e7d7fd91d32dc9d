"""A run on the server host: who is let take part, whatever silos say; the job from its file to the run's folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from fedloom.config import Config, load_config
from fedloom.config.silo import SiloSettings
from fedloom.deployment.events import follow, run_log, run_status
from fedloom.deployment.job import Job, event_file
from fedloom.deployment.server_app import _log_to, carry_out, with_roster
from fedloom.deployment.silo import worker_settings
from fedloom.errors import BadInput, FedloomError
from fedloom.experiment.resolve import completed
from fedloom.federation.engines.flower.client_app import make_client_app
from fedloom.federation.engines.silo.host import SiloHost
from fedloom.federation.engines.silo.resident import host_from
from fedloom.progress import Observer
from fedloom.results import load_run
from in_process_grid import InProcessGrid
from test_silos import MODELS, STEPS, pictures, texts

OWN_DATA = ("engine.name=flower", "engine.mode=deployment")


def config(*more: str, method: str = "standalone", silos: int = 1) -> Config:
    given = (*OWN_DATA, f"engine.silos={silos}", "engine.patience=30", *more)
    return load_config(preset="smoke", overrides=given, values={"method": method})


def says(name: Any = "clinic", modality: Any = "text", **model: Any) -> dict[str, Any]:
    """What a silo says of itself."""
    about = {
        "name": name,
        "modality": modality,
        "model": {**MODELS.get(str(modality), MODELS["text"]), **model},
    }
    return {"silo": name, "about": about, "protocol": 1, "version": "0.2.0"}


def names(config: Config) -> list[str]:
    return [*config.clients.names("image"), *config.clients.names("text")]


# ------------------------------------------------------------------------------------------- who takes part


def test_a_group_of_one_for_each_silo_under_its_own_name() -> None:
    made = with_roster(config(), [says("a"), says("b", "image"), says("c", hidden=32)])
    assert (made.clients.names("image"), made.clients.names("text")) == (["b"], ["a", "c"])
    assert [learner.hidden for learner in made.clients.models("text")] == [16, 32]
    assert made.clients.batch == config().clients.batch  # how they train is the run's affair
    assert made.engine == config().engine


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        ({"silo": "x"}, "its description is None"),
        ({"silo": "x", "about": None}, "its description is None"),
        ({"silo": "x", "about": "image"}, "its description is image"),
        ({"silo": "x", "about": []}, "its description is"),
        (
            {"silo": "x", "about": {"name": "x", "modality": "smell", "model": {}}},
            "a modality and a model are needed",
        ),
        ({"silo": "x", "about": {"name": "x", "modality": ["text"], "model": {}}}, "a modality and a model"),
        (
            {"silo": "x", "about": {"name": "x", "modality": "text"}},
            "model = None, allowed: `arch` and sizes",
        ),
        ({"silo": "x", "about": {"name": "x", "modality": "text", "model": {}}}, "model.arch"),
        (says(None), "name = None, allowed: at most 128 letters"),
        (says("../../up"), "name = ../../up, allowed: at most 128 letters"),
        (says("x" * 129), "allowed: at most 128 letters"),
        (says("x", arch="gpt"), "model.arch = 'gpt'"),
        (says("x", "text", arch="vit"), "'vit' is no text model, allowed: bert, distilbert, roberta"),
        (says("x", colour="red"), r"unknown key 'model.colour'"),
        (says("x", count=10_000), "10000 clients cannot all be called"),
        (says("x", count=1_000_000), "allowed: at most 10000"),
        (says("x", hidden="many"), "model.hidden = 'many'"),
        (says("x", hidden=7), "model.hidden = 7"),
        (
            says("x", hidden=8192, layers=100),
            "model.hidden = 8192, model.layers = 100: about 8.1e+10 weights",
        ),
        (says("clinic"), "another silo is named 'clinic'"),
        (says("x", width=32), "model.width = 32, allowed: 16, as the others'"),
        ({"about": {}}, "silo 'None' is left out"),
        ({"silo": {"a": ["b"]}, "about": 3}, "silo"),
    ],
)
def test_a_silo_that_says_what_no_client_can_be_is_left_out(
    odd: dict[str, Any], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    made = with_roster(config(silos=2), [says("clinic"), says("other"), odd])
    assert names(made) == ["clinic", "other"]
    assert len(caplog.messages) == 1
    assert told in caplog.messages[0]
    with pytest.raises(FedloomError, match=r"2 of 3 silos can take part: silo .* is left out: ") as error:
        with_roster(config(silos=3), [says("clinic"), says("other"), odd])
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["silo", "name", "modality", "arch", "about"])
def test_a_flood_of_words_stays_a_line(key: str, caplog: pytest.LogCaptureFixture) -> None:
    flood = "wide\n" * 1_000_000
    said = says("x", arch=flood) if key == "arch" else says("x")
    if key in ("silo", "about"):
        said = {**said, key: flood}
    elif key != "arch":
        said["about"][key] = flood
    made = with_roster(config(), [says("clinic"), said])
    assert "clinic" in names(made)
    assert all(len(line) < 800 and "\n" not in line for line in caplog.messages)
    assert len(made.model_dump_json()) < 10_000


def test_silos_of_pairs_beside_the_others() -> None:
    said = [says("a", "image"), says("b", "pair"), says("c", "pair", pretrained="(at the silo)+")]
    made = with_roster(config(method="fedafd"), said, side=12)
    assert (made.clients.names("image"), made.clients.names("pair")) == (["a"], ["b", "c"])
    assert [learner.pretrained for learner in made.clients.models("pair")] == [None, "(at the silo)+"]
    assert made.clients.text == ()
    assert made.clients.models("image")[0].unit  # the method demands it, whatever the silo says
    assert completed(made)[0].clients == made.clients


@pytest.mark.parametrize(
    ("odd", "method", "told"),
    [
        (says("x", "pair"), "fedmmkt", "modality = 'pair': fedmmkt has no part for image-text clients"),
        (says("x", "pair", arch="vit"), "fedafd", "'vit' is no pair model, allowed: vit+bert"),
        (says("x", "image", arch="vit+bert"), "fedafd", "'vit+bert' is no image model"),
        (says("x", "pair", patch=5), "fedafd", "model.patch = 5 does not divide the side of the run's"),
        (says("x", "pair", arch="resnet+bert", hidden=8192, layers=100), "fedafd", "about 8.1e+10 weights"),
        (says("x", "pair", pretrained="one"), "fedafd", "'(at the silo)', expected 'IMAGE+TEXT'"),
        (says("x", "pair", pretrained="+" * 1_000_000), "fedafd", "expected 'IMAGE+TEXT'"),
        (says("x", "text", arch="pair", patch=6), "fedafd", "pair: unit = True"),
    ],
)
def test_a_silo_of_pairs_that_cannot_be(
    odd: dict[str, Any], method: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    made = with_roster(config(method=method), [says("clinic"), odd], side=12)
    assert (names(made), made.clients.pair) == (["clinic"], ())
    assert len(caplog.messages) == 1
    assert told in caplog.messages[0]
    assert len(caplog.messages[0]) < 800


SILENT = {
    **says("x", "joint"),
    "about": {"name": "x", "modality": "joint", "model": None},
}  # takes the run's model


def joint_config(*more: str, method: str = "fedcmi", silos: int = 1, **model: Any) -> Config:
    """A run of the preset fedcmi over small things that are heard and seen."""
    options = {"classes": 3, "per_class": 8, "test_per_class": 4, "size": 12, "bands": 8, "steps": 12}
    values = {"data": {"options": options}, "clients": {"joint": [{**MODELS["joint"], **model}]}}
    short = ("rounds=1", "settings.private_steps=2", "clients.batch=4", "engine.patience=30")
    given = (*OWN_DATA, f"engine.silos={silos}", *short, *more)
    return load_config(preset="fedcmi", overrides=given, values={**values, "method": method})


def test_joint_silos_take_the_runs_model() -> None:
    said = [says("a", "joint"), SILENT, says("c", "joint")]
    made = with_roster(joint_config(), said, side=12)
    assert made.clients.names("joint") == ["a", "x", "c"]
    assert (made.clients.image, made.clients.text) == ((), ())
    assert made.clients.models("joint") == joint_config().clients.models("joint") * 3
    # Weights to start from: the server's own path stays here, each silo has its own copy.
    heavy = joint_config(pretrained="/server/ears+")
    made = with_roster(heavy, [says("a", "joint", pretrained="/elsewhere+")], side=12)
    assert made.clients.models("joint")[0].pretrained == "/server/ears+"


@pytest.mark.parametrize(
    ("odd", "run", "told"),
    [
        (
            says("x", "joint", hidden=32),
            {},
            "model.hidden = 32, allowed: 16, as of all the run's multimodal clients",
        ),
        (says("x", "joint", arch="vit"), {}, "model.arch = 'vit', allowed: 'audio-resnet+resnet'"),
        (says("x", "joint", arch=["vit"]), {}, "model.arch = "),
        (says("x", "joint", pretrained="a+"), {}, "model.pretrained = '(at the silo)+', allowed: None"),
        (SILENT, {"pretrained": "/server/ears+"}, "start from weights: name them in model.pretrained"),
        (
            {**SILENT, "about": {**SILENT["about"], "model": "vit"}},
            {},
            "model = vit, allowed: `arch` and sizes",
        ),
        (says("x", "image"), {}, "modality = 'image': fedcmi is for multimodal clients only"),
        (says("x", "pair"), {}, "modality = 'pair': fedcmi is for multimodal clients only"),
    ],
)
def test_a_silo_that_does_not_fit_joint_ones(
    odd: dict[str, Any], run: dict[str, Any], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    fits = says("ward", "joint", **run)
    made = with_roster(joint_config(**run), [fits, odd], side=12)
    assert made.clients.names("joint") == ["ward"]
    assert len(caplog.messages) == 1
    assert told in caplog.messages[0]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (config(method="fedavg"), "the run names no model for multimodal clients; set clients.joint"),
        (
            config("clients.joint=[{arch: audio-resnet+resnet, width: 16}]", method="fedmmkt"),
            "modality = 'joint': fedmmkt has no part for multimodal clients",
        ),
    ],
)
def test_a_run_without_a_part_for_joint_silos(given: Config, told: str) -> None:
    with pytest.raises(FedloomError) as error:
        with_roster(given, [SILENT], side=12)
    assert str(error.value).endswith(told)


def test_where_a_silos_weights_lie_means_nothing_here() -> None:
    """A path, or a name on a hub, of a silo's choice is never looked up on the server."""
    for word in ("/etc", "evil/model", "x" * 1_000_000, 7):
        made = with_roster(config(), [says(pretrained=word, hidden=8192, layers=100)])
        assert made.clients.models("text")[0].pretrained == "(at the silo)"
    for nothing in (None, "", False):
        assert with_roster(config(), [says(pretrained=nothing)]).clients.models("text")[0].pretrained is None


def test_most_silos_decide_on_the_width_and_the_run_when_it_is_even() -> None:
    wide = [says(name, width=32) for name in "abc"]
    assert names(with_roster(config(), [says("x"), *wide])) == ["a", "b", "c"]
    assert names(with_roster(config(), [*wide[:1], says("x")])) == ["x"]  # the preset's clients have width 16


def test_nobody_there_can_take_part() -> None:
    with pytest.raises(FedloomError, match="0 of 1 silos can take part: silo 'x' is left out: its description is None"):
        with_roster(config(), [{"silo": "x"}])
    with pytest.raises(FedloomError, match="0 of 1 silos can take part: no more joined"):
        with_roster(config(), [])


# ------------------------------------------------------------------------------------------ a job carried out


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
