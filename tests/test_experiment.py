"""Whole runs at their smallest: the same bits however they are carried out, and whenever they are killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

import fedloom
from fedloom.config import Config, presets
from fedloom.errors import BadInput, FedloomError
from fedloom.progress import Observer
from fedloom.runs.load import Run

ROUNDS = 3
CLIENTS = ("image-0", "image-1", "text-0", "text-1")


def rows_of(run: Run) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl without what a clock says."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in run.rounds]


def weights_of(run: Run, *parts: str) -> dict[str, np.ndarray[Any, Any]]:
    """Every array in the safetensors files below those parts of the run folder, by file and name."""
    found = {}
    for part in parts:
        for file in sorted((run.path / part).rglob("*.safetensors")):
            for name, array in load_file(file).items():
                found[f"{file.relative_to(run.path)}:{name}"] = array
    assert found
    return found


def last(run: Run) -> str:
    return f"checkpoints/round_{run.config['rounds']:04d}"


def assert_equal(one: Run, two: Run) -> None:
    """The same rows, the same last checkpoint and the same exports, to the bit."""
    assert rows_of(one) == rows_of(two)
    a, b = (weights_of(run, last(run), "export") for run in (one, two))
    assert a.keys() == b.keys()
    assert [k for k in a if not np.array_equal(a[k], b[k])] == []
    pictures = [{p.name: p.read_bytes() for p in (run.path / "samples").iterdir()} for run in (one, two)]
    assert pictures[0] == pictures[1]


# ------------------------------------------------------------------------------------------- the same bits


@pytest.fixture(scope="module")
def unbroken(
    smoke_run: Run, smoke_overrides: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """Three rounds without a break, in this process."""
    out = tmp_path_factory.mktemp("unbroken") / "run"
    run: Run = fedloom.run(preset="smoke", overrides=(*smoke_overrides, f"rounds={ROUNDS}"), out=out)
    return run


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_same_seed_same_bits(workers, smoke_run, smoke_overrides, tmp_path):
    engine = (*smoke_overrides, f"engine.workers={workers}")
    assert_equal(smoke_run, fedloom.run(preset="smoke", overrides=engine, out=tmp_path / "run"))


def test_another_seed(smoke_run, smoke_overrides, tmp_path):
    other = fedloom.run(
        preset="smoke", overrides=(*smoke_overrides, "seed=1", "rounds=1"), out=tmp_path / "run"
    )
    assert rows_of(other)[:2] != rows_of(smoke_run)[:2]


def test_no_rounds_are_standalone(smoke_run, tmp_path):
    """T = 0: the clients of FedMMKT are those of Standalone, bit for bit."""
    runs = [
        fedloom.run(preset="smoke", overrides=(f"method={m}", "rounds=0"), out=tmp_path / m)
        for m in ("fedmmkt", "standalone")
    ]
    one, two = (weights_of(run, f"{last(run)}/clients") for run in runs)
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[k], two[k]) for k in one)
    assert rows_of(runs[0])[0]["per_client"] == rows_of(runs[1])[0]["per_client"]


# ------------------------------------------------------------------------------------------------- kill -9

# Imports once, then forks a child a case (before torch has any thread); the child does the run and kills itself.
DRIVER = """
import json, os, signal, sys
import fedloom
from fedloom.federation import site
from fedloom.methods import base, fedmmkt
from fedloom.models import captioner, clip, generator, learner
from fedloom.runs import checkpoint
import diffusers, transformers, matplotlib.pyplot
from transformers import BeitForImageClassification, BertForSequenceClassification, ViTForImageClassification

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def before(owner, name, when):
    plain = getattr(owner, name)
    def hooked(*args, **kwargs):
        if when(*args, **kwargs):
            die()
        return plain(*args, **kwargs)
    setattr(owner, name, hooked)

def arrange(point, at):
    now = [0, 0]  # the round that the server is in; which client is saved for the how-manieth time
    server_round = fedmmkt.Server.round
    def watched(self, federation):
        now[0] = federation.round
        try:
            return server_round(self, federation)
        finally:
            now[0] = 0
    fedmmkt.Server.round = watched
    if point == "synthesis":
        before(generator.Generator, "synthesize", lambda *a, **k: now[0] == at)
    elif point == "training":  # of the third client, between its synthetic and its private steps
        before(base.Site, "train_private", lambda self, steps, *names: self.name == "text-0" and names == (at,))
    elif point == "saving":  # half of the clients are in the new checkpoint
        before(site.Site, "save", lambda self, folder, tag: self.spec.name == "text-0" and tag["round"] == at)
    elif point == "sealing":  # all files are there, but the checkpoint is not
        before(checkpoint, "seal", lambda folder, facts: facts["round"] == at)
    elif point == "pruning":  # the checkpoint is there, and the old ones still are
        before(checkpoint.CheckpointStore, "_prune", lambda self, newest: newest == at)

root, overrides, cases = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
for point, at in cases:
    child = os.fork()
    if not child:
        try:
            arrange(point, at)
            fedloom.run(preset="smoke", overrides=overrides, out=f"{root}/{point}-{at}")
        finally:
            os._exit(3)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (point, at, status)
"""
CASES = [
    *(("synthesis", t) for t in (1, 2, 3)),
    *(("training", t) for t in (1, 2, 3)),
    *(("saving", 1), ("sealing", 2), ("pruning", 3), ("sealing", 0)),
]


@pytest.fixture(scope="module")
def killed(unbroken: Run, smoke_overrides: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of runs that were killed, one a case, called POINT-ROUND."""
    root = tmp_path_factory.mktemp("killed")
    overrides = json.dumps([*smoke_overrides, f"rounds={ROUNDS}"])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-P", "-c", DRIVER, str(root), overrides, json.dumps(CASES)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return root


@pytest.mark.parametrize(("point", "at"), CASES)
def test_killed_and_resumed(point, at, killed, unbroken):
    folder = killed / f"{point}-{at}"
    assert not fedloom.load_run(folder).finished
    resumed = fedloom.run(resume=folder)
    assert resumed.finished
    assert_equal(unbroken, resumed)
    sums = [
        sorted((r["round"], r["client"], r["verb"], r["encoded_bytes"]) for r in x.ledger)
        for x in (unbroken, resumed)
    ]
    assert sums[0] == sums[1]
    timed = {"seconds", "peak_memory_bytes"}
    one, two = ({k: v for k, v in x.summary.items() if k not in timed} for x in (unbroken, resumed))
    assert one == two
    assert not list((folder / "checkpoints").glob(".*"))  # what the killed writer left is swept away


def test_resuming_a_finished_run_changes_nothing(unbroken):
    before = {p: p.stat().st_mtime_ns for p in unbroken.path.rglob("*") if p.is_file() and p.name != ".lock"}
    again = fedloom.run(resume=unbroken.path)
    assert again.summary == unbroken.summary
    assert before == {p: p.stat().st_mtime_ns for p in before}


@pytest.mark.parametrize("other", ["seed=1", "settings.gamma=0.3", "rounds=4", "clients.batch=9"])
def test_resuming_with_another_configuration(other, unbroken, smoke_overrides):
    same = (*smoke_overrides, f"rounds={ROUNDS}")
    key = other.partition("=")[0]
    with pytest.raises(BadInput, match=f"another configuration: {key}: the run has"):
        fedloom.run(resume=unbroken.path, preset="smoke", overrides=(*same, other))
    fedloom.run(
        resume=unbroken.path, preset="smoke", overrides=(*same, "engine.workers=2")
    )  # no result depends on it


def test_resuming_what_is_no_run(tmp_path):
    with pytest.raises(BadInput, match="no run folder"):
        fedloom.run(resume=tmp_path)


# ---------------------------------------------------------------------------------------- what a run leaves


def test_summary(smoke_run):
    summary = smoke_run.summary
    assert {"method", "data", "seed", "rounds", "clients", "version"} <= summary.keys()
    assert summary["clients"] == {"image": ["image-0", "image-1"], "text": ["text-0", "text-1"]}
    for score in ("image_accuracy", "text_accuracy", "t2i_accuracy", "clip_score", "fid", "inception_score"):
        assert summary[score]["before"] == smoke_run.rounds[0][score]
        assert summary[score]["after"] == smoke_run.rounds[-1][score]
        assert isinstance(summary[score]["after"], float)
    for modality in ("image", "text"):
        each = summary[f"{modality}_accuracy"]["per_client"]
        assert list(each) == summary["clients"][modality]
        assert summary[f"{modality}_accuracy"]["after"] == pytest.approx(np.mean(list(each.values())))
    assert {"prompt_accuracy", "voted_accuracy", "kept_share"} <= summary["labels"].keys()
    for way in ("bytes_up", "bytes_down"):
        assert summary[way] == sum(row[way] for row in smoke_run.rounds) > 0
    assert {"setup", "synthesis", "generator", "retraining", "evaluation", "total"} <= summary[
        "seconds"
    ].keys()
    assert summary["peak_memory_bytes"] > 10**8
    assert 0 <= summary["judge"]["real_test_accuracy"] <= 1


def test_folder(smoke_run):
    for name in (
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "ledger.jsonl",
        "summary.json",
        "log.txt",
    ):
        assert (smoke_run.path / name).stat().st_size > 0, name
    assert [row["round"] for row in smoke_run.rounds] == [0, 1, 2]
    assert len(smoke_run.samples) == 3  # before, and a grid a round
    assert len(smoke_run.label_panels) == 2
    assert {p.name for p in (smoke_run.path / "export").iterdir()} == {"generator", *CLIENTS}
    assert sorted(p.name for p in (smoke_run.path / "checkpoints").iterdir()) == ["round_0001", "round_0002"]


def test_formula_beside_what_was_sent(smoke_run):
    for row in smoke_run.rounds[1:]:
        up = [r for r in smoke_run.ledger if r["round"] == row["round"] and r["direction"] == "up"]
        answers = [r for r in up if r["verb"] == "infer"]
        assert sum(r["payload_bytes"] for r in answers) == row["formula_up"]
        assert row["bytes_up"] == sum(r["encoded_bytes"] for r in up if r["counted"])
        assert row["formula_down"] > 0


def test_exports_are_the_clients(smoke_run):
    """The exported models, with their own processors and tokenizers, score what the run says its clients score."""
    import torch
    from transformers import (
        AutoImageProcessor,
        AutoModelForImageClassification,
        AutoModelForSequenceClassification,
        AutoTokenizer,
    )

    from fedloom.config import validate
    from fedloom.scenes import cached_scene

    scene = cached_scene(validate(Config, smoke_run.config).data)
    for name in CLIENTS:
        folder, modality = smoke_run.path / "export" / name, name.split("-")[0]
        test = scene.test[modality]
        if modality == "image":
            processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
            inputs = processor(images=list(test.images), return_tensors="pt")
            model = AutoModelForImageClassification.from_pretrained(folder, local_files_only=True)
        else:
            words = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            batch = words(list(test.texts), padding="max_length", truncation=True, return_tensors="pt")
            inputs = {k: batch[k] for k in ("input_ids", "attention_mask")}
            model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True)
        with torch.no_grad():
            guess = model.eval()(**inputs).logits.argmax(1).numpy()
        accuracy = smoke_run.summary[f"{modality}_accuracy"]["per_client"][name]
        assert (guess == test.labels).mean() == pytest.approx(accuracy, abs=1e-6), name
        assert tuple(model.config.id2label.values()) == scene.class_names


def test_watching_changes_nothing(smoke_run, smoke_overrides, tmp_path):
    told: list[tuple[str, Any]] = []

    class Watch(Observer):
        def begin(self, facts):
            told.append(("begin", facts["clients"]))

        def round(self, row):
            told.append(("round", row["round"]))

        def end(self, summary):
            told.append(("end", summary["rounds"]))

    out = tmp_path / "run"
    run = fedloom.run(preset="smoke", overrides=smoke_overrides, out=out, observer=Watch())
    assert rows_of(run) == rows_of(smoke_run)
    assert [kind for kind, _ in told] == ["begin", "round", "round", "round", "end"]


# --------------------------------------------------------------------------------------- other runs than that


def pretrain_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build what is missing in this process: starting two others takes longer than four steps."""
    monkeypatch.setattr("fedloom.pretraining.assets.build_side_by_side", lambda config, chains, watch: None)


def smallest(**changes: Any) -> dict[str, Any]:
    """The tree of the preset `smoke`, with whole parts replaced."""
    tree = yaml.safe_load(presets()["smoke"].read_text())
    tree["clients"] |= changes.pop("clients", {})
    return {**tree, **changes}


def test_digits(smoke_run, monkeypatch, tmp_path):
    """Pictures only: FedMMKT becomes u-FedMMKT, and nothing is said of texts."""
    pretrain_here(monkeypatch)
    data = {"name": "digits", "options": {"size": 12, "test": 40, "generic": 60}}
    settings = {"samples": 20, "retrain_steps": 2, "private_steps": 2, "tune_steps": 2, "gamma": 0.2}
    tree = smallest(data=data, clients={"text": []}, settings=settings, rounds=1)
    run = fedloom.run(Config(**tree), out=tmp_path / "run")
    assert run.config["settings"]["variant"] == "u"
    assert run.summary["text_accuracy"] == {"before": None, "after": None, "per_client": {}}
    assert run.summary["image_accuracy"]["after"] is not None
    assert run.summary["t2i_accuracy"]["after"] is not None
    assert run.rounds[1]["labels"]["kept"] > 0
    sent = {
        f["name"] for r in run.ledger if r["verb"] == "infer" and r["direction"] == "up" for f in r["fields"]
    }
    assert sent == {"representations", "augmented", "labels", "entropies"}
    assert rows_of(fedloom.run(Config(**tree), out=tmp_path / "again")) == rows_of(run)


def test_texts_without_texts(smoke_run, tmp_path):
    data = {"name": "digits", "options": {"size": 12, "test": 40, "generic": 60}}
    with pytest.raises(
        BadInput, match=r"digits has no text samples for 2 text clients; set clients\.text=\[\]"
    ):
        fedloom.run(Config(**smallest(data=data)), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_l_fedmmkt_and_one_modality(smoke_run, smoke_overrides, tmp_path):
    more = (*smoke_overrides, "rounds=1")
    light = fedloom.run(preset="smoke", overrides=(*more, "method=l-fedmmkt"), out=tmp_path / "l")
    assert light.rounds[1]["bytes_up"] < smoke_run.rounds[1]["bytes_up"]
    texts = fedloom.run(
        preset="smoke", overrides=(*more, "method=u-fedmmkt", "clients.image=[]"), out=tmp_path / "u"
    )
    assert texts.summary["image_accuracy"]["after"] is None
    assert texts.summary["text_accuracy"]["after"] is not None


def test_standalone(smoke_run, tmp_path):
    steps = ("settings.private_steps=2", "settings.extra_steps=2")
    run = fedloom.run(preset="smoke", overrides=("method=standalone", *steps), out=tmp_path / "run")
    assert run.summary["t2i_accuracy"] == {"before": None, "after": None}
    assert run.summary["bytes_up"] == run.summary["bytes_down"] == 0
    assert run.summary["labels"] is None
    first = smoke_run.rounds[0]
    assert run.rounds[0]["per_client"] == first["per_client"]  # one warm start for all methods
    assert {p.name for p in (run.path / "export").iterdir()} == set(CLIENTS)


@pytest.mark.parametrize(
    "method", ["self-finetune prompt", "self-finetune caption", "self-finetune representation", "centralised"]
)
def test_generators_alone(method, smoke_run, tmp_path):
    name, _, data = method.partition(" ")
    few = ("settings.samples=20", "settings.tune_steps=2", "settings.tune_batch=8", f"method={name}")
    kind = (f"settings.data={data}",) if data else ()
    run = fedloom.run(preset="smoke", overrides=(*few, *kind), out=tmp_path / "run")
    first, end = run.rounds[0], run.rounds[-1]
    assert first["t2i_accuracy"] == smoke_run.rounds[0]["t2i_accuracy"]  # one pretrained generator for all
    assert first["fid"] == smoke_run.rounds[0]["fid"] != end["fid"]
    assert end["losses"]["generator"] > 0
    assert run.summary["image_accuracy"]["after"] is None
    assert run.ledger == []
    assert [p.name for p in (run.path / "export").iterdir()] == ["generator"]
    again = fedloom.run(preset="smoke", overrides=(*few, *kind), out=tmp_path / "again")
    assert_equal(run, again)


def test_a_client_that_fails(smoke_run, smoke_overrides, monkeypatch, tmp_path):
    from fedloom.methods.fedmmkt import Client

    infer = Client.infer

    def moody(self, message, *, round):
        if self.site.name == "text-1" and round == 1:
            raise RuntimeError("the disk\nis full")
        return infer(self, message, round=round)

    monkeypatch.setattr(Client, "infer", moody)
    run = fedloom.run(preset="smoke", overrides=smoke_overrides, out=tmp_path / "run")
    assert run.finished
    assert [row["missing"] for row in run.rounds] == [
        [],
        [
            {
                "verb": "infer",
                "client": "text-1",
                "error": "raised",
                "detail": "RuntimeError: the disk is full",
            }
        ],
        [],
    ]
    assert set(run.rounds[1]["per_client"]) == set(CLIENTS)  # it is there again to be scored
    assert run.rounds[1]["losses"]["generator"] > 0


def test_nobody_answers(smoke_run, smoke_overrides, monkeypatch, tmp_path):
    from fedloom.methods.fedmmkt import Client

    def never(self, message, *, round):
        raise RuntimeError("no")

    monkeypatch.setattr(Client, "infer", never)
    run = fedloom.run(preset="smoke", overrides=(*smoke_overrides, "rounds=1"), out=tmp_path / "run")
    zero, one = rows_of(run)
    for score in ("t2i_accuracy", "fid", "clip_score", "per_client"):
        assert zero[score] == one[score]
    assert len(one["missing"]) == len(CLIENTS)
    assert one["labels"]["kept"] == 0


def test_a_loss_that_is_not_finite_stops_the_run(smoke_run, smoke_overrides, monkeypatch, tmp_path):
    """It names what and which step, and keeps the rounds that were done; the resumed run is the unbroken one."""
    from fedloom.models.generator import Generator

    loss = Generator.loss
    with monkeypatch.context() as patch:
        calls: list[int] = []

        def sour(self, *args, **kwargs):
            calls.append(1)
            return loss(self, *args, **kwargs) * (float("nan") if len(calls) == 4 else 1.0)

        patch.setattr(Generator, "loss", sour)
        with pytest.raises(FedloomError, match="generator, round 2: the loss is nan at step 1"):
            fedloom.run(preset="smoke", overrides=smoke_overrides, out=tmp_path / "run")
    assert [row["round"] for row in fedloom.load_run(tmp_path / "run").rounds] == [0, 1]
    assert_equal(smoke_run, fedloom.run(resume=tmp_path / "run"))


def test_evaluating_every_other_round(smoke_run, unbroken, smoke_overrides, tmp_path):
    seldom = (*smoke_overrides, f"rounds={ROUNDS}", "evaluation.every=2")
    run = fedloom.run(preset="smoke", overrides=seldom, out=tmp_path / "run")
    assert run.rounds[1]["image_accuracy"] is None
    assert run.rounds[1]["t2i_accuracy"] is None
    for t in (0, 2, 3):
        assert rows_of(run)[t] == rows_of(unbroken)[t]  # scoring draws nothing that training draws


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("settings.variant=l", "u-fedmmkt is defined by 'u'"),
        ("settings.gamma=2", "settings.gamma = 2"),
        ("settings.gama=1", "Did you mean 'settings.gamma'"),
    ],
)
def test_settings_that_do_not_fit(settings, told, tmp_path):
    method = ("method=u-fedmmkt", "clients.text=[]")
    with pytest.raises(BadInput, match=told):
        fedloom.run(preset="smoke", overrides=(*method, settings), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------------------------------- stopped early


def stopped(*args: Any, **kwargs: Any) -> None:
    raise KeyboardInterrupt


def stop_in(point: str, patch: pytest.MonkeyPatch, empty_cache: Path) -> None:
    """Interrupt the next run in its pretraining, its warm start, or its scoring of round 0."""
    if point == "pretraining":
        patch.setenv("FEDLOOM_CACHE", str(empty_cache))
        patch.setattr("fedloom.pretraining.assets.build_side_by_side", stopped)
    elif point == "warm start":
        patch.setattr("fedloom.sites._warm_start", stopped)
    else:
        patch.setattr("fedloom.scoring.Scorer.clients", stopped)


@pytest.mark.parametrize("point", ["pretraining", "warm start", "round 0"])
@pytest.mark.parametrize("out", [None, "here"])
def test_stopped_before_round_0(point, out, smoke_run, monkeypatch, tmp_path):
    """No folder stays behind, so the same call works, and in the same place."""
    monkeypatch.chdir(tmp_path)
    few: dict[str, Any] = {"preset": "smoke", "overrides": ("method=standalone", "rounds=0"), "out": out}
    place = tmp_path / (out or "runs/standalone-flora-0")
    with monkeypatch.context() as patch:
        stop_in(point, patch, tmp_path / "cache")
        with pytest.raises(KeyboardInterrupt):
            fedloom.run(**few)
    assert not place.exists()
    again = fedloom.run(**few)
    assert again.finished
    assert again.path.resolve() == place


def test_wrong_weights_leave_no_folder(smoke_run, tmp_path):
    """They are read where the clients are built, long after the folder is made."""
    tree = smallest(
        method="standalone", rounds=0, clients={"text": [{"arch": "bert", "pretrained": "/no/such"}]}
    )
    tree["clients"]["image"] = []
    with pytest.raises(FedloomError, match="/no/such"):
        fedloom.run(Config(**tree), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_stopped_after_round_0(smoke_run, smoke_overrides, monkeypatch, tmp_path):
    """What is done stays, also where the resumed run is stopped again before it comes to a round."""
    from fedloom.methods.fedmmkt import Server

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Server, "round", stopped)
        with pytest.raises(KeyboardInterrupt):
            fedloom.run(preset="smoke", overrides=smoke_overrides, out=out)
    with monkeypatch.context() as patch:
        patch.setattr("fedloom.sites._warm_start", stopped)
        with pytest.raises(KeyboardInterrupt):
            fedloom.run(resume=out)
    assert_equal(smoke_run, fedloom.run(resume=out))


def test_a_killed_run_is_resumed_from_nothing_and_stopped(smoke_run, smoke_overrides, monkeypatch, tmp_path):
    """A folder that was there before the call stays, though it has no checkpoint yet."""
    from fedloom.runs.folder import RunFolder

    RunFolder.create(tmp_path / "run", smoke_run.config)
    with monkeypatch.context() as patch:
        stop_in("round 0", patch, tmp_path)
        with pytest.raises(KeyboardInterrupt):
            fedloom.run(resume=tmp_path / "run")
    assert_equal(smoke_run, fedloom.run(resume=tmp_path / "run"))
