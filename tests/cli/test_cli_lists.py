"""methods, datasets, models, doctor, partition."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest
from PIL import Image

from fedloom import registry
from fedloom.cli import doctor
from fedloom.config.archs import archs, spec_of
from fedloom.data.registry import DATASETS, PAIR_SETS
from fedloom.methods.catalogue import CATALOGUE

IMAGE, TEXT, AUDIO = (archs(modality) for modality in ("image", "text", "audio"))
MODELS = [*IMAGE, "pair", *TEXT, "pair", *AUDIO, "IMAGE+TEXT", "ONE+OTHER"]


@pytest.mark.parametrize(("command", "key", "names"), [
    ("methods", "method", list(CATALOGUE)),
    ("datasets", "data", [*DATASETS, *PAIR_SETS]),
    ("models", "name", [*MODELS, "clip", "captioner", "generator"]),
])  # fmt: skip
def test_lists(cli, command, key, names):
    shown, listed = cli(command), cli(command, "--json")
    assert (shown.code, listed.code, shown.err, listed.err) == (0, 0, "", "")
    assert [row[key] for row in listed.json] == names
    assert all(name in shown.out for name in names)
    assert all(all(value is not None or k == "classes" for k, value in row.items()) for row in listed.json)


def test_sets_of_pairs_are_told_from_data_sets(cli):
    rows = {row["data"]: row for row in cli("datasets", "--json").json}
    assert {name for name, row in rows.items() if row["kind"] == "pairs"} == set(PAIR_SETS)
    assert {name for name, row in rows.items() if row["kind"] == "dataset"} == set(DATASETS)
    assert all(rows[name]["tasks"] == ["pair"] and rows[name]["layout"] for name in PAIR_SETS)
    assert all(row["licence"] for row in rows.values())
    shown = cli("datasets").out
    assert shown.index("mixed") < shown.index("Sets of captioned pictures") < shown.index("flickr8k")


def test_every_architecture_names_a_class_that_there_is():
    import transformers

    for arch in (*IMAGE, *TEXT, *AUDIO):
        library, _, name = spec_of(arch).behind.partition(",")[0].partition(".")
        assert library != "transformers" or hasattr(transformers, name)


def test_listing_and_validating_models_is_light():
    code = (
        "import sys; from fedloom.cli.main import main; from fedloom.config import load_config\n"
        "assert main(['models', '--json']) == 0; load_config(preset='smoke')\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_doctor_finds_all_well(cli):
    shown, listed = cli("doctor"), cli("doctor", "--json")
    assert (shown.code, listed.code) == (0, 0)
    assert listed.json["ok"]
    names = {f["name"] for f in listed.json["findings"]}
    assert {"python", "memory", "torch", "transformers", "diffusers", "device", "cache", "free disk"} <= names


def test_doctor_names_the_command_that_mends(cli, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FEDLOOM_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(doctor_module(), "requirements", lambda: {"torch": ">=99", "nonsuch": ">=1"})
    shown = cli("doctor", "--json")
    assert shown.code == 1
    broken = {f["name"]: f for f in shown.json["findings"] if f["state"] == "broken"}
    assert set(broken) == {"torch", "nonsuch", "cache"}
    assert broken["torch"]["remedy"] == "pip install 'torch>=99'"
    assert "FEDLOOM_CACHE" in broken["cache"]["remedy"]


@pytest.mark.parametrize(
    ("versions", "states"),
    [
        ({"flwr": "1.42.0", "ray": "2.55.1"}, {"flwr": "ok", "ray": "ok"}),
        ({"flwr": "1.40.0"}, {"flwr": "note", "ray": "note"}),
        ({}, {"flwr": "note", "ray": "note"}),
    ],
)
def test_doctor_only_notes_what_the_flower_engine_lacks(cli, monkeypatch, versions, states):
    from importlib import metadata

    def version(name, known=metadata.version):
        if name not in ("flwr", "ray"):
            return known(name)
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "version", version)
    shown = cli("doctor", "--json")
    assert shown.code == 0
    found = {f["name"]: f for f in shown.json["findings"]}
    assert {name: found[name]["state"] for name in states} == states
    remedies = {"flwr": "pip install 'fedloom[flower]'", "ray": "pip install 'fedloom[simulation]'"}
    assert all(found[n]["remedy"] == (remedies[n] if s == "note" else "") for n, s in states.items())


def test_doctor_names_every_gpu_and_the_keys_that_use_it(cli, monkeypatch):
    import torch

    gpus = [SimpleNamespace(name="A100", total_memory=80e9), SimpleNamespace(name="T4", total_memory=16e9)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda n: gpus[n])
    found = {f["name"]: f for f in cli("doctor", "--json").json["findings"]}["device"]
    assert "cuda:0: A100, 80 GB; cuda:1: T4, 16 GB" in found["value"]
    assert "server.device" in found["remedy"]
    assert "clients.devices" in found["remedy"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = {f["name"]: f for f in cli("doctor", "--json").json["findings"]}["device"]
    assert "cuda" not in found["value"]
    assert found["remedy"] == ""


def doctor_module():
    """The module: `fedloom.cli.doctor` as an attribute may be the function."""
    import importlib

    return importlib.import_module(doctor.__name__)


@pytest.mark.parametrize(
    ("version", "bounds", "fits"),
    [
        ("2.13.0+cpu", ">=2.6,<2.14", True),
        ("2.14", ">=2.6,<2.14", False),
        ("2.14.0", ">=2.6,<2.14", False),
        ("10", ">=9.5", True),
        ("1.0rc1", ">=1", True),
        ("3", "", True),
        ("3.1", "!=3.1.0", False),
    ],
)
def test_versions_against_bounds(version, bounds, fits):
    assert doctor_module().within(version, bounds) is fits


@pytest.mark.drawn
def test_partition(cli, tmp_path):
    shown = cli("partition", "--preset", "smoke", "--plot", "pictures/split.png")
    assert shown.code == 0
    assert "image-1" in shown.out
    assert "skew" in shown.out
    assert Image.open(tmp_path / "pictures" / "split.png").width > 300


def test_partition_is_that_of_the_run(cli, smoke_run):
    listed = cli("partition", "--preset", "smoke", "--json").json
    counts = {c["client"]: c["counts"] for c in listed["clients"]}
    assert counts == smoke_run.split["clients"]
    assert [sum(c) for c in counts.values()] == [c["samples"] for c in listed["clients"]]
    assert listed["splits"]["image"]["samples"] == 40


def test_partition_of_one_modality(cli):
    shown = cli("partition", "--data", "digits", "--set", "clients.text=[]", "--json")
    assert list(shown.json["splits"]) == ["image"]


@pytest.mark.drawn
def test_partition_with_pairs_and_texts_of_their_own_labels(cli, tmp_path):
    few = "size: 12, images: 40, texts: 40, test: 20, generic: 20, reference: 20"
    options = f"{{{few}, pairs: 60, test_pairs: 20, text_labels: family}}"
    sets = [
        f"data.options={options}",
        "clients.image=[{arch: vit, count: 2, patch: 6}]",
        "clients.text=[{arch: bert, count: 2}]",
        "clients.pair=[{arch: vit+bert, count: 3, patch: 6}]",
    ]
    command = ["partition", *(word for s in sets for word in ("--set", s))]
    facts = cli(*command, "--json").json
    assert len(facts["text_classes"]) == 5
    by_kind = {m: [c for c in facts["clients"] if c["modality"] == m] for m in ("image", "text", "pair")}
    assert {m: {len(c["counts"]) for c in own} for m, own in by_kind.items()} == {
        "image": {10},
        "text": {5},
        "pair": {1},
    }
    assert sum(c["samples"] for c in by_kind["pair"]) == 60
    assert [c["captions"] for c in by_kind["pair"]] == [2 * c["samples"] for c in by_kind["pair"]]
    shown = cli(*command, "--plot", "split.png")
    assert shown.code == 0
    assert "pair: 60 pictures" in shown.out
    assert " or " in shown.out
    assert Image.open(tmp_path / "split.png").width > 300


JOINT = (
    *("--data", "duet", "--set", "data.options={classes: 3, per_class: 40, test_per_class: 4, size: 8}"),
    *("--set", "clients.joint=[{arch: audio-resnet+resnet, count: 4}]"),
    *("--set", "clients.image=[]", "--set", "clients.text=[]", "--set", "data.minimum=4"),
)


@pytest.mark.drawn
def test_partition_of_joint_samples(cli, tmp_path):
    shown = cli("partition", *JOINT, "--plot", "split.png")
    assert shown.code == 0, shown.err
    assert "audio-resnet + resnet" in shown.out
    assert "held" not in shown.out
    assert Image.open(tmp_path / "split.png").width > 300
    for client in cli("partition", *JOINT, "--json").json["clients"]:
        assert set(client["held"]) == {"samples", "audio", "image", "both"}
        assert set(client["held"].values()) == {client["samples"]}


def test_partition_tells_what_a_client_is_left_with(cli):
    """The very samples that a run's clients have: kinds by data.multi_ratio, fewer by data.corruption."""
    from fedloom.config import load_config
    from fedloom.experiment.clients import private_samples
    from fedloom.experiment.datasets import cached_dataset

    broken = {"missing_modality": 0.3, "missing_label": 0.2}
    overrides = ["data.multi_ratio=0.5", *(f"data.corruption.{k}={v}" for k, v in broken.items())]
    command = ("partition", *JOINT, *(word for o in overrides for word in ("--set", o)))
    told = cli(*command, "--json").json["clients"]
    config = load_config(
        overrides=[w for w in JOINT[2:] if w != "--set"] + overrides, values={"data": {"name": "duet"}}
    )
    scene = cached_dataset(config.data)
    for i, client in enumerate(told):
        held = private_samples(config, scene, "joint", i)
        audio, image = held.present["audio"], held.present["image"]
        counts = {
            "samples": len(held),
            "audio": audio.sum(),
            "image": image.sum(),
            "both": (audio & image).sum(),
        }
        assert client["held"] == counts
        assert 0 < len(held) < client["samples"] == sum(client["counts"])
    assert [c["held"]["image"] > 0 for c in told] == [True, True, False, True]
    assert [c["held"]["audio"] > 0 for c in told] == [True, True, True, False]
    lines = cli(*command).out.splitlines()
    assert lines[1].split()[:7] == ["client", "model", "samples", "held", "audio", "image", "both"]
    figures = [str(n) for n in (told[0]["samples"], *told[0]["held"].values())]
    assert lines[3].replace(" + ", "+").split()[2:7] == figures


def test_partition_of_pictures_that_lack_labels(cli):
    few = ("--preset", "smoke", "--set", "data.corruption.missing_label=0.5")
    told = cli("partition", *few, "--json").json["clients"]
    assert all(0 < c["held"]["samples"] < c["samples"] for c in told)
    assert " held " in cli("partition", *few).out


# -------------------------------------------------------------------------------------------------- notes on the data

NOTED = (
    "data: Unreadable pictures, left out: 1, such as ",
    "data: Files left out by their ending: 2 .heic",
    "data: Classes without training pictures: boa",
)


@pytest.fixture
def noted(tmp_path):
    """An image folder of which one class has no picture, and one a broken one."""
    for c, name in enumerate(("adder", "boa", "cobra")):
        (tmp_path / "mine" / "images" / name).mkdir(parents=True)
        for i in range(12 if name != "boa" else 2):
            file = tmp_path / "mine" / "images" / name / f"{i}{'.heic' if name == 'boa' else '.png'}"
            Image.new("RGB", (12, 12), (40 * c, 10 * i, 90)).save(file, "PNG")
    (tmp_path / "mine" / "images" / "adder" / "bad.jpg").write_bytes(b"no picture")
    return (
        *(
            "--data",
            "folder",
            "--root",
            tmp_path / "mine",
            "--set",
            "clients.text=[]",
            "--set",
            "data.minimum=1",
        ),
        *("--set", "clients.image=[{arch: resnet, count: 2}]", "--set", "data.options.on_bad=skip"),
    )


def test_partition_tells_what_was_left_out(cli, noted):
    shown = cli("partition", *noted)
    assert shown.code == 0
    for line in NOTED:
        assert line in shown.out
    told = cli("partition", *noted, "--json").json["data_notes"]
    assert [f"data: {line}" in shown.out for line in told] == [True] * len(told)
    refused = cli("partition", *noted, "--set", "data.options.on_bad=error")
    assert refused.code == 2
    assert len(refused.err.splitlines()) == 1
    assert "boa: none of its 2 files is read as a picture (2 .heic)" in refused.err
    split = cli("partition", *noted, "--set", "data.minimum=40")
    assert split.code == 2
    assert "Unreadable pictures, left out: 1" in split.err  # what was left out may be why
    assert split.err.splitlines()[-1].startswith("error: image clients: ")


def test_a_run_tells_what_was_left_out(cli, capsys, smoke_run, tmp_path):
    """As it begins, at its end, in summary.json and in the report."""
    import shutil

    from fedloom.cli.live import Lines
    from fedloom.cli.run import conclude
    from fedloom.results import load_run

    assert smoke_run.summary["data_notes"] == []
    said = []
    Lines(said.append).notes(["Clips without any sound: 3"])
    assert said == ["data: Clips without any sound: 3"]
    shutil.copytree(smoke_run.path, tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    note = "Lost class: <dog>: none of its 2 files is read as a picture (2 .heic)"
    (tmp_path / "run" / "summary.json").write_text(json.dumps(summary | {"data_notes": [note]}))
    conclude(load_run(tmp_path / "run"), False)
    assert f"data: {note}" in capsys.readouterr().out
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<h2>The data</h2>" in page
    assert "Lost class: &lt;dog&gt;" in page


@pytest.mark.parametrize(("command", "group", "kind"), [
    ("methods", "methods", "method"),
    ("datasets", "datasets", "data set"),
    ("models", "client_models", "client model"),
])  # fmt: skip
def test_a_broken_entry_point_ends_no_listing(cli, monkeypatch, tmp_path, command, group, kind):
    (tmp_path / "leaves_at_once.py").write_text("raise SystemExit('no\\nlicence')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    whole = {form: cli(command, *form).out for form in ((), ("--json",))}
    places = {"lost": "no_such_package:ITEM", "leaves": "leaves_at_once:ITEM", "wrong": "fedloom.registry:METHODS"}
    points = {name: EntryPoint(name, place, f"fedloom.{group}") for name, place in places.items()}
    monkeypatch.setattr(registry, "_installed", lambda asked: points if asked == f"fedloom.{group}" else {})
    for form, shown in whole.items():
        found = cli(command, *form)
        assert (found.code, found.out) == (0, shown)
        lines = found.err.splitlines()
        assert [line.startswith(f"not listed: {kind} '{name}': ") for name, line in zip(places, lines)] == [True] * 3
        assert len(lines) == 3
