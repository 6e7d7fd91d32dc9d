"""Bad input ends with exit code 2 and one line that names the thing, and leaves nothing behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def image_folder(root: Path, broken: bool = False) -> Path:
    """Two classes of eight pictures; the last one cut short if asked."""
    for c, name in enumerate(("cat", "dog")):
        (root / "images" / name).mkdir(parents=True)
        for i in range(8):
            noise = np.random.default_rng([c, i]).integers(0, 255, (16, 16, 3), dtype=np.uint8)
            path = root / "images" / name / f"{i}.png"
            Image.fromarray(noise).save(path)
    if broken:
        path.write_bytes(path.read_bytes()[:100])
    return root


def refused(shown, *told: str) -> None:
    assert shown.code == 2
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1, shown.err
    for text in told:
        assert text in shown.err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--method", "fedmkt"], ["'fedmkt'", "Did you mean 'fedmmkt'?", "standalone"]),
        (["--data", "flra"], ["'flra'", "Did you mean 'flora'?", "digits"]),
        (["--preset", "smok"], ["'smok'", "Did you mean 'smoke'?"]),
        (["--engine", "lokal"], ["engine.name", "'lokal'", "'local'"]),
        (["--set", "clients.bach=3"], ["'clients.bach'", "Did you mean 'clients.batch'?"]),
        (["--set", "settings.gama=0.1"], ["'settings.gama'", "Did you mean 'settings.gamma'?"]),
        (["--set", "data.options.sice=20"], ["'sice'", "Did you mean 'size'?"]),
        (["--set", "settings.gamma=2"], ["settings.gamma = 2", "allowed: at most 1"]),
        (["--set", "rounds"], ["'rounds'", "key=value"]),
        (["--data", "folder"], ["root"]),
        (["--data", "folder", "--root", "nowhere"], ["nowhere", "there is no such folder"]),
        (["--data", "folder", "--root", "~nobody-here/data"], ["~nobody-here/data", "no such folder"]),
        (["--data", "food101", "--root", "nowhere"], ["nowhere", "images/<class>"]),
        (["--data", "flora", "--root", "somewhere"], ["embedded", "somewhere"]),
        (["--config", "nowhere.yaml"], ["nowhere.yaml"]),
        (["--resume", "nowhere"], ["nowhere is no run folder"]),
        (["--resume", "."], [". is no run folder", "config.yaml"]),
        (["--resume", ".", "--overwrite"], ["--overwrite"]),
        (["--set", "data.minimum=41"], ["image clients", "40 samples cannot give 2 clients 41"]),
    ],
)
def test_run_refuses(cli, args, told):
    preset = [] if "--preset" in args or "--resume" in args else ["--preset", "smoke"]
    if "folder" in args or "food101" in args:
        preset = []  # its data.options are those of the embedded flowers
    refused(cli("run", *preset, *args), *told)


def test_fewer_samples_than_clients(cli):
    few = ["--set", "data.options.images=12", "--set", "data.minimum=1"]
    many = ["--set", "clients.image=[{arch: resnet, count: 13, width: 16}]"]
    refused(cli("run", "--preset", "smoke", *few, *many), "12 samples cannot give 13 clients")


def test_unreadable_picture(cli, tmp_path):
    image_folder(tmp_path / "own", broken=True)
    shown = cli("run", "--data", "folder", "--root", "own", "--set", "clients.text=[]")
    refused(shown, "7.png", "cannot read picture")


def test_table_without_the_label_column(cli, tmp_path):
    image_folder(tmp_path / "own")
    (tmp_path / "own" / "texts_train.csv").write_text("text,labels\nmeow,cat\nwoof,dog\n")
    refused(
        cli("run", "--data", "folder", "--root", "own"),
        "texts_train.csv",
        "no column 'label'",
        "Did you mean 'labels'?",
    )


def test_resuming_another_configuration(cli, smoke_run):
    refused(cli("run", "--resume", smoke_run.path, "--seed", 3), "seed: the run has 0, now 3")
    refused(cli("run", "--resume", smoke_run.path, "--preset", "smoke"), "another configuration", "settings.")
    shown = cli("run", "--resume", smoke_run.path, "--method", "l-fedmmkt")
    refused(shown, "another configuration" if "another" in shown.err else "settings.variant")


def test_a_folder_that_holds_something(cli, smoke_run, tmp_path):
    refused(cli("run", "--preset", "smoke", "--out", smoke_run.path), "holds a run already")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("dear")
    refused(cli("run", "--preset", "smoke", "--out", "thesis", "--overwrite"), "holds no run")
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "dear"


def test_generate_writes_png_alone(cli):
    shown = cli("generate", "nowhere", "--prompt", "x", "--out", "x.jpg")
    assert shown.code == 2
    assert "--out 'x.jpg': expected a picture, allowed: a name that ends in .png" in shown.err


@pytest.mark.parametrize("command", ["inspect", "report", "generate"])
def test_no_run(cli, command):
    more = ["--prompt", "x"] if command == "generate" else []
    refused(cli(command, "nowhere", *more), "nowhere is no run folder")


def test_generating_from_a_run_without_generator(cli, smoke_run, tmp_path):
    shutil.copytree(smoke_run.path, tmp_path / "half", ignore=shutil.ignore_patterns("summary.json", "export"))
    shown = cli("generate", "half", "--prompt", "A picture of iris.")
    refused(shown, "half is unfinished", "fedloom run --resume half")


@pytest.mark.parametrize("name", ["split.xyz", "split", "split.jpg"])
def test_partition_draws_png_alone(cli, name):
    refused(
        cli("partition", "--preset", "smoke", "--plot", name), f"--plot {name!r}", "allowed: a name that ends in .png"
    )
    assert not Path(name).exists()
