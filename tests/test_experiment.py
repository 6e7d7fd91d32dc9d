"""Whole runs at their smallest: the same bits however they are carried out, and what they leave behind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import fedloom
from fedloom.config import Config, load_config
from fedloom.errors import BadInput, FedloomError
from fedloom.experiment.checks import check_scene
from fedloom.experiment.datasets import cached_dataset
from fedloom.experiment.resolve import completed
from fedloom.progress import Observer
from whole_runs import ROUNDS, assert_equal, last, rows_of, smallest, weights_of

pytestmark = pytest.mark.drawn

CLIENTS = ("image-0", "image-1", "text-0", "text-1")

# ------------------------------------------------------------------------------------------- the same bits


@pytest.mark.parametrize("workers", [0, 2])
def test_same_seed_same_bits(workers, smoke_run, smoke_overrides, tmp_path):
    engine = (*smoke_overrides, f"engine.workers={workers}")
    assert_equal(smoke_run, fedloom.run(preset="smoke", overrides=engine, out=tmp_path / "run"))


def test_another_seed(smoke_run, smoke_overrides, tmp_path):
    other = fedloom.run(preset="smoke", overrides=(*smoke_overrides, "seed=1", "rounds=1"), out=tmp_path / "run")
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


# ---------------------------------------------------------------------------------------- what a run leaves


def test_summary(smoke_run):
    summary = smoke_run.summary
    assert {"method", "data", "seed", "rounds", "clients", "version"} <= summary.keys()
    names = {"image": ["image-0", "image-1"], "text": ["text-0", "text-1"], "pair": [], "joint": []}
    assert summary["clients"] == names
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
    assert {"setup", "synthesis", "generator", "retraining", "evaluation", "total"} <= summary["seconds"].keys()
    assert summary["peak_memory_bytes"] > 10**8
    assert 0 <= summary["judge"]["real_test_accuracy"] <= 1


def test_folder(smoke_run):
    for name in (
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "ledger.jsonl",
        "summary.json",
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

    from fedloom.config.trees import validate
    from fedloom.experiment.datasets import cached_dataset

    scene = cached_dataset(validate(Config, smoke_run.config).data)
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


def test_digits(smoke_run, monkeypatch, tmp_path):
    """Pictures only: FedMMKT becomes u-FedMMKT, and nothing is said of texts."""
    data = {"name": "digits", "options": {"size": 12, "test": 40, "generic": 60}}
    settings = {"samples": 20, "retrain_steps": 2, "private_steps": 2, "tune_steps": 2, "gamma": 0.2}
    tree = smallest(data=data, clients={"text": []}, settings=settings, rounds=1)
    run = fedloom.run(Config(**tree), out=tmp_path / "run")
    assert run.config["settings"]["variant"] == "u"
    assert run.summary["text_accuracy"] == {"before": None, "after": None, "per_client": {}}
    assert run.summary["image_accuracy"]["after"] is not None
    assert run.summary["t2i_accuracy"]["after"] is not None
    assert run.rounds[1]["labels"]["kept"] > 0
    sent = {f["name"] for r in run.ledger if r["verb"] == "infer" and r["direction"] == "up" for f in r["fields"]}
    assert sent == {"representations", "augmented", "labels", "entropies", "known"}  # null, but with quorum_of=knowing
    assert rows_of(fedloom.run(Config(**tree), out=tmp_path / "again")) == rows_of(run)


def test_texts_without_texts(smoke_run, tmp_path):
    data = {"name": "digits", "options": {"size": 12, "test": 40, "generic": 60}}
    with pytest.raises(BadInput, match=r"digits has no texts for 2 text clients; set clients\.text=\[\]"):
        fedloom.run(Config(**smallest(data=data)), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_l_fedmmkt_and_one_modality(smoke_run, smoke_overrides, tmp_path):
    more = (*smoke_overrides, "rounds=1")
    light = fedloom.run(preset="smoke", overrides=(*more, "method=l-fedmmkt"), out=tmp_path / "l")
    assert light.rounds[1]["bytes_up"] < smoke_run.rounds[1]["bytes_up"]
    texts = fedloom.run(preset="smoke", overrides=(*more, "method=u-fedmmkt", "clients.image=[]"), out=tmp_path / "u")
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
    from fedloom.methods.fedmmkt import FedMMKTClient

    infer = FedMMKTClient.infer

    def moody(self, message, *, round):
        if self.context.name == "text-1" and round == 1:
            raise RuntimeError("the disk\nis full")
        return infer(self, message, round=round)

    monkeypatch.setattr(FedMMKTClient, "infer", moody)
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
    from fedloom.methods.fedmmkt import FedMMKTClient

    def never(self, message, *, round):
        raise RuntimeError("no")

    monkeypatch.setattr(FedMMKTClient, "infer", never)
    run = fedloom.run(preset="smoke", overrides=(*smoke_overrides, "rounds=1"), out=tmp_path / "run")
    zero, one = rows_of(run)
    for score in ("t2i_accuracy", "fid", "clip_score", "per_client"):
        assert zero[score] == one[score]
    assert len(one["missing"]) == len(CLIENTS)
    assert one["labels"]["kept"] == 0


def test_a_loss_that_is_not_finite_stops_the_run(smoke_run, smoke_overrides, monkeypatch, tmp_path):
    """It names what and which step, and keeps the rounds that were done; the resumed run is the unbroken one."""
    from fedloom.models.generators.pixel import Generator

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


@pytest.mark.parametrize(
    ("key", "value", "told"), [("settings.public_share", 0.25, "no public part"), ("evaluation.generic", 20, "forgets")]
)
def test_public_pictures_that_are_not_there_are_refused_unpretrained(key, value, told):
    config = load_config(preset="smoke", overrides=[f"{key}={value}"])
    scene = cached_dataset(config.data)
    check_scene(*completed(config), scene)
    with pytest.raises(BadInput, match=rf"{key} = {value}: .*{told}.* allowed: 0"):
        check_scene(*completed(config), replace(scene, public=None))


def test_what_the_generator_forgets_is_scored_where_asked(smoke_run, tmp_path):
    from fedloom.reporting.scores import SCORES

    keys = [s.key for s in SCORES if s.key.startswith("generic_")]
    assert len(keys) == 3
    assert not any(key in row for row in smoke_run.rounds for key in keys)
    given = {"preset": "smoke", "method": "self-finetune", "rounds": 1, "out": tmp_path / "run"}
    run = fedloom.run(overrides=("evaluation.generic=20", "settings.samples=20", "settings.tune_steps=1"), **given)
    for key in keys:
        before, after = (row[key] for row in run.rounds)
        assert np.isfinite([before, after]).all()
        assert run.summary[key] == {"before": before, "after": after}
