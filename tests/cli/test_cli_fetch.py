"""`fedloom fetch`: what it shows, asks, loads, and says where it can load nothing."""

from __future__ import annotations

import json
import sys

import pytest

from fedloom.config import load_config
from fedloom.errors import BadInput
from fedloom.weights import placed, weights_root
from fedloom.weights.catalogue import sources
from fedloom.weights.needs import named_data, named_weights
from tiny_hub import COMMIT, sha256

BERT = "tiny/bert"
BERTS = "clients.text=[{arch: bert, pretrained: tiny/bert, width: 16, count: 2}]"


def test_without_names_all_that_is_known_is_listed(cli, hub):
    shown = cli("fetch")
    assert (shown.code, shown.err, hub.asked) == (0, "", [])
    assert all(name in shown.out for name in sources())
    assert "about 4.27 GB" in shown.out
    listed = {row["name"]: row for row in cli("fetch", "--json").json["weights"]}
    assert listed["openai/clip-vit-base-patch32"]["revision"] == "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268"
    assert {row["state"] for row in listed.values()} == {"missing"}


@pytest.mark.parametrize("option", ["--plan", "--dry-run"])
def test_a_plan_loads_nothing(cli, hub, option):
    shown = cli("fetch", "smoke", "--set", BERTS, option)
    assert (shown.code, shown.err, hub.asked) == (0, "", [])
    assert "tiny/bert" in shown.out
    assert "to download what is not known, into" in shown.out
    assert not weights_root().exists()


def test_a_configuration_is_fetched_and_checked(cli, hub):
    shown = cli("fetch", "smoke", "--set", BERTS)
    assert shown.code == 0, shown.err
    assert "tiny/bert/model.safetensors: about 1.28 MB" in shown.err
    assert placed(BERT) == str(weights_root() / BERT)
    asked = len(hub.asked)
    again = cli("fetch", BERT, "--json")
    assert (again.code, again.err, len(hub.asked)) == (0, "", asked)
    (row,) = again.json["weights"]
    assert (row["state"], row["revision"], row["bytes"]) == ("ready", COMMIT, 0)
    assert "sound" in cli("fetch", "--check", BERT).out
    (weights_root() / BERT / "vocab.txt").write_text("other")
    found = cli("fetch", "--check", BERT, "--json")
    assert (found.code, found.json["ok"]) == (1, False)
    assert found.json["faults"] == {BERT: ["vocab.txt has 5 bytes, not 8"]}
    assert "vocab.txt has 5 bytes" in cli("fetch", "--check", BERT).out


def test_check_without_names_looks_at_what_is_there(cli, hub):
    assert cli("fetch", "--check").code == 0
    (file,) = sources()["fid/inception-v3"].files
    folder = weights_root() / "fid/inception-v3"
    folder.mkdir(parents=True)
    (folder / file.path).write_text("not it")
    shown = cli("fetch", "--check")
    assert shown.code == 1
    assert "has 6 bytes, not 95628359" in shown.out
    assert "google" not in shown.out


def test_to_another_folder(cli, hub, tmp_path):
    shown = cli("fetch", BERT, "--to", tmp_path / "there")
    assert shown.code == 0, shown.err
    assert f"export FEDLOOM_WEIGHTS={tmp_path / 'there'}" in shown.out
    assert (tmp_path / "there" / BERT / "fedloom.lock.json").is_file()
    assert not weights_root().exists()


@pytest.mark.parametrize(("answer", "loaded"), [("n\n", False), ("y\n", True)])
def test_on_a_terminal_it_asks(cli, hub, monkeypatch, answer, loaded):
    from io import StringIO

    said = StringIO(answer)
    said.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", said)
    shown = cli("fetch", BERT)
    assert shown.code == 0
    assert "Download 1.28 MB" in shown.err
    assert any("model.safetensors" in path for path in hub.contents()) == loaded


def test_without_a_connection_it_says_what_to_place_where(cli, hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    shown = cli("fetch", "microsoft/resnet-18", "openai/glide", "no/such")
    assert shown.code == 1
    assert shown.err.count("\n") == 1
    assert shown.err.startswith("error: 3 of 3 sets of weights are missing: HF_HUB_OFFLINE")
    revision = sources()["microsoft/resnet-18"].revision
    assert (
        f"model.safetensors  {hub.url}/microsoft/resnet-18/resolve/{revision}/model.safetensors  46.8 MB" in shown.out
    )
    assert f"into {weights_root()}/microsoft/resnet-18/" in shown.out
    assert f"into {weights_root()}/openai/glide/published/" in shown.out
    assert "then: fedloom fetch openai/glide" in shown.out
    assert f"{hub.url}/no/such/tree/main" in shown.out
    assert (hub.asked, weights_root().exists()) == ([], False)
    listed = cli("fetch", "fid/inception-v3", "--json")
    (row,) = json.loads(listed.out)["by_hand"]
    assert (listed.code, [file["bytes"] for file in row["files"]]) == (1, [95628359])


def test_what_was_placed_by_hand_after_an_interruption_is_verified_and_sealed(cli, hub, monkeypatch):
    monkeypatch.setattr("fedloom.weights.hub.RETRY_WAITS", ())
    hub.cut["model.safetensors"] = 1000
    hub.dead.add("model.safetensors")
    assert cli("fetch", BERT).code == 1
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    shown = cli("fetch", BERT)
    assert shown.code == 1
    assert "vocab.txt" not in shown.out
    assert "then: fedloom fetch tiny/bert" in shown.out
    asked = len(hub.asked)
    file = weights_root() / BERT / "model.safetensors"
    file.write_bytes(hub.repos[BERT]["model.safetensors"])
    assert cli("fetch", BERT).code == 0
    assert len(hub.asked) == asked
    lock = json.loads((weights_root() / BERT / "fedloom.lock.json").read_text())
    assert lock["files"]["model.safetensors"]["sha256"] == sha256(file.read_bytes())
    assert placed(BERT) == str(file.parent)
    assert not list(file.parent.glob("*.incomplete"))


def test_an_interruption_says_how_to_go_on(cli, hub, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("fedloom.weights.fetch.fetch", stop)
    shown = cli("fetch", BERT)
    assert shown.code == 130
    assert "give the same command again" in shown.err


def test_data_sets_are_named_with_their_layout(cli, hub):
    rows = cli("fetch", "--set", "data.name=flowers102", "--json").json["data"]
    assert [(row["data"], row["root"]) for row in rows] == [("flowers102", None)]
    shown = cli("fetch", "--set", "data.name=flowers102").out
    assert "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/" in shown
    assert "imagelabels.mat" in shown


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["smok"], "Did you mean 'smoke'?"),
        (["smoke", "--plan", "--check"], "cannot both be given"),
        (
            ["--set", "clients.text=[{arch: gru, pretrained: glove.txt}]"],
            "clients.text.0.pretrained = 'glove.txt'",
        ),
        (
            ["--set", "clients.text=[{arch: bert, pretrained: ./mine/bert}]"],
            "no such path here, and no hub name",
        ),
    ],
)
def test_bad_input(cli, hub, arguments, says):
    shown = cli("fetch", *arguments)
    assert (shown.code, shown.err.count("\n")) == (2, 1)
    assert says in shown.err


def test_all_that_a_configuration_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    towers = "[{arch: vit+bert, pretrained: a/vit+a/bert}, {arch: resnet+gru, pretrained: a/resnet+}]"
    overrides = [
        "clients.image=[{arch: vit, pretrained: a/vit}, {arch: beit, pretrained: mine}]",
        "clients.text=[]",
        f"clients.pair={towers}",
        "server.image={arch: resnet, pretrained: a/resnet}",
        "server.clip.pretrained=a/clip",
        "server.generator.pretrained=a/glide",
    ]
    assert named_weights(load_config(overrides=overrides)) == {
        "a/vit": ["clients.image.0.pretrained", "clients.pair.0.pretrained"],
        "a/bert": ["clients.pair.0.pretrained"],
        "a/resnet": ["clients.pair.1.pretrained", "server.image.pretrained"],
        "a/clip": ["server.clip.pretrained"],
        "a/glide": ["server.generator.pretrained"],
    }
    with pytest.raises(BadInput, match=r"server\.clip\.pretrained = 'a/b/c': no such path here"):
        named_weights(load_config(overrides=["server.clip.pretrained=a/b/c"]))


def test_all_data_sets_of_a_mixture():
    options = "{image: {name: cifar100, root: x}, public: {name: coco}, size: 32}"
    config = load_config(overrides=["data.name=mixed", f"data.options={options}"])
    assert [(info.name, root) for info, root in named_data(config)] == [("cifar100", "x"), ("coco", None)]
    assert named_data(load_config()) == []


def test_a_run_without_its_weights_says_how_to_get_them(cli, hub, tmp_path):
    """All of them at once, before anything is begun; a method that has no use for them is not kept."""
    more = ("--set", "server.clip.pretrained=tiny/clip", "--out", str(tmp_path / "run"))
    shown = cli("run", "--preset", "smoke", "--set", BERTS, *more)
    assert shown.code == 2
    assert "`fedloom fetch tiny/clip tiny/bert` downloads them" in shown.err.replace(
        "tiny/bert tiny/clip", "tiny/clip tiny/bert"
    )
    assert hub.asked == []
    assert not (tmp_path / "run").exists()


def test_a_run_can_fetch_first(cli, hub, tmp_path):
    """What it then makes of this hub's weights is its own business: they are none."""
    shown = cli("run", "--preset", "smoke", "--set", BERTS, "--fetch", "--out", str(tmp_path / "run"))
    assert placed(BERT) == str(weights_root() / BERT)
    assert "weights that are not here" in shown.err
    assert shown.code == 2
    assert "bert: pretrained = tiny/bert: cannot be loaded" in shown.err
