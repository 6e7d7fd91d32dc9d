"""What stands where nobody has said it: a method by its name, a data set by its name, a comparison's one scene."""

from __future__ import annotations

from pathlib import Path

import pytest
from client_kinds import kinds

from fedloom.comparison.cells import make_cells
from fedloom.comparison.plan import read_plan
from fedloom.config import Config, load_config
from fedloom.data.registry import DATASETS
from fedloom.errors import BadInput
from fedloom.experiment.resolve import completed, sized
from fedloom.methods.catalogue import CATALOGUE

JOINT = {"fedcmi", "scaffold", "ogm-ge", "pmr", "fedmsplit"}
PAIRED = {name for name in CATALOGUE if name.startswith(("fedafd", "r-"))}


@pytest.mark.parametrize("preset", [None, "smoke"])
@pytest.mark.parametrize("method", CATALOGUE)
def test_a_method_by_its_name(method, preset):
    told: list[str] = []
    config = load_config(preset=preset, values={"method": method}, say=told.append)
    completed(sized(config, told.append))
    if method in JOINT:
        assert (config.data.name, kinds(config)) == ("duet", {"joint"})
    elif method in PAIRED:
        assert kinds(config) == {"image", "text", "pair"}
        assert config.data.options["pairs"]
    else:
        assert (config.data.name, kinds(config)) == (
            "flora",
            {"image"} if method == "u-fedmmkt" else {"image", "text"},
        )
    assert len(told) == (method in JOINT | PAIRED | {"u-fedmmkt"})
    assert all(method in line and "\n" not in line for line in told)


@pytest.mark.parametrize("method", sorted(JOINT | PAIRED))
def test_it_is_the_preset_that_it_is_for(method):
    preset = "fedcmi" if method in JOINT else "fedafd"
    assert load_config(values={"method": method}) == load_config(preset=preset, values={"method": method})
    assert load_config(values={"method": method, "seed": 3}, overrides=["clients.warm_steps=2"]) == load_config(
        preset=preset, values={"method": method, "seed": 3}, overrides=["clients.warm_steps=2"]
    )


def test_what_is_said_wins():
    assert load_config() == Config()
    config = load_config(values={"method": "fedafd", "data": {"name": "flora"}})
    assert (kinds(config), config.data.options) == ({"image", "text"}, {})
    config = load_config(preset="fedcmi", values={"method": "fedavg"})
    assert kinds(config) == {"joint"}
    config = load_config(values={"method": "fedcmi"}, overrides=["data.options.audio_snr=-3"])
    assert (config.data.name, config.data.options) == ("duet", {"audio_snr": -3})
    groups = [{"arch": "audio-resnet+resnet", "count": 2}]
    config = load_config(values={"method": "fedcmi", "clients": {"joint": groups}})
    assert (config.data.name, list(config.clients.everyone())) == ("duet", ["joint-0", "joint-1"])
    assert "joint" in config.clients.model_fields_set
    assert "image" not in load_config().clients.model_fields_set


WANTED = {  # method and modalities of each data set, where neither is said
    **{name: ("fedcmi", {"joint"}) for name, info in DATASETS.items() if info.tasks == ("joint",)},
    **{name: ("fedmmkt", {"image"}) for name in ("digits", "food101", "cifar100")},
    **{name: ("fedmmkt", {"image", "text"}) for name in ("flora", "flora-102", "flowers102", "upmc_food101")},
    **{name: ("fedmmkt", {"image", "text"}) for name in ("food101_recipes", "folder", "emoji")},
    "ag_news": ("fedavg", {"text"}),
}


@pytest.mark.parametrize("preset", [None, "smoke"])
@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"mixed"}))
def test_a_data_set_by_its_name(name, preset):
    root = {"root": "/data"} if DATASETS[name].layout else {}
    told: list[str] = []
    config = load_config(preset=preset, values={"data": {"name": name, **root}}, say=told.append)
    assert (config.method, kinds(config)) == WANTED[name]
    assert bool(told) == (WANTED[name] != ("fedmmkt", {"image", "text"}))
    sized(config, told.append)  # the reader has every option that is given, and the pictures fit
    if preset and "any" not in name:
        assert config.clients.groups[0].hidden < 32


def test_mixed_takes_what_it_is_made_of():
    options = {"text": {"name": "ag_news"}, "pair": {"name": "coco"}, "public": {"name": "coco"}}
    values = {"method": "fedafd", "data": {"name": "mixed", "options": options}}
    config = load_config(values=values)
    assert kinds(config) == {"text"}
    del options["text"]
    assert kinds(load_config(values=values)) == {"pair"}
    del values["method"]
    assert load_config(values=values).method == "fedafd"


def test_streams_of_joint_clients_follow_the_data():
    values = {"method": "fedcmi", "data": {"name": "crisismmd", "root": "/data"}}
    assert load_config(values=values).clients.joint[0].arch == "resnet+bert"


@pytest.mark.parametrize(
    ("method", "data", "said"),
    [
        (
            "fedmmkt",
            "duet",
            "fedmmkt takes pictures and texts, duet has multimodal samples: allowed are --data flora",
        ),
        (
            "fedcmi",
            "flora",
            "fedcmi takes multimodal samples, flora has pictures and texts: allowed are --data duet",
        ),
        ("ogm-ge", "digits", "ogm-ge takes multimodal samples, digits has pictures"),
    ],
)
def test_what_does_not_fit_is_one_line(method, data, said):
    with pytest.raises(BadInput) as error:
        load_config(values={"method": method, "data": {"name": data}})
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_a_preset_with_wrong_defaults():
    with pytest.raises(BadInput, match=r"unknown key 'defaults\.option'\. Did you mean 'defaults\.options'"):
        load_config(values={"defaults": {"option": {}}})


# ---------------------------------------------------------------------------------------------- comparisons


@pytest.mark.parametrize(
    ("methods", "data", "there"),
    [
        (["fedcmi", "fedavg"], "duet", {"joint"}),
        (["fedavg", "scaffold"], "duet", {"joint"}),
        (["fedafd", "fedavg"], "flora", {"image", "text", "pair"}),
        (["fedafd", "fedmmkt"], "flora", {"image", "text"}),
        (["u-fedmmkt", "standalone"], "flora", {"image"}),
        (["fedmmkt", "fedmd"], "flora", {"image", "text"}),
    ],
)
def test_a_comparison_has_one_scene(methods, data, there):
    told: list[str] = []
    cells = make_cells(read_plan(methods=methods), {}, [], told.append)
    assert len({cell.config.data.model_dump_json() for cell in cells}) == 1
    assert len({cell.config.clients.model_dump_json(exclude={"image", "text"}) for cell in cells}) == 1
    assert cells[0].config.data.name == data
    assert all(kinds(cell.config) == there for cell in cells)
    assert bool(told) == (methods != ["fedmmkt", "fedmd"])
    again = [load_config(values=cell.config.model_dump(mode="json")) for cell in cells]
    assert again == [cell.config for cell in cells]


def test_methods_without_a_common_scene():
    with pytest.raises(BadInput, match="no scene fits all methods: fedcmi takes multimodal samples; fedmmkt takes pic"):
        make_cells(read_plan(methods=["fedcmi", "fedmmkt"]), {}, [])


# ------------------------------------------------------------------------------------ by the command line, for real


STEPS = {
    **dict.fromkeys(("private_steps", "shared_steps", "server_steps", "distill_steps", "retrain_steps"), 1),
    **dict.fromkeys(("tune_steps", "extra_steps"), 1),
    **dict.fromkeys(("samples", "public", "tune_batch"), 10),
}


@pytest.mark.conformance
@pytest.mark.timeout(600)
@pytest.mark.parametrize("method", CATALOGUE)
def test_every_method_runs_by_its_name(cli, method):
    from fedloom.methods.base import load_method

    fields = load_method(method)[0].settings.model_fields
    steps = [x for k, v in STEPS.items() if k in fields for x in ("--set", f"settings.{k}={v}")]
    tiny = (
        *(
            "server.clip.steps=2",
            "server.generator.steps=2",
            "server.captioner.steps=2",
            "evaluation.judge.steps=2",
        ),
        *(
            "clients.warm_steps=1",
            "evaluation.prompts_per_class=1",
            "evaluation.grid=1",
            "evaluation.probe=false",
        ),
        "server.public_steps=1" if method in PAIRED else "clients.public_steps=1",
    )
    steps += [x for value in tiny for x in ("--set", value)]
    shown = cli("run", "--method", method, "--rounds", 1, *steps, "--out", "here", "--json")
    assert shown.code == 0, shown.err
    assert shown.json["method"] == method
    assert Path("here/report.html").is_file()


@pytest.mark.conformance
@pytest.mark.timeout(300)
@pytest.mark.parametrize("method", CATALOGUE)
def test_every_method_runs_in_smoke_size(cli, method):
    shown = cli("run", "--method", method, "--preset", "smoke", "--rounds", 1, "--out", "here", "--json")
    assert shown.code == 0, shown.err
