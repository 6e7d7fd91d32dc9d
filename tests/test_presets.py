"""The presets at the size of the paper, and mixes of clients over them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fedloom.comparison.plan import read_plan
from fedloom.config import load_config, preset_tree, presets
from fedloom.data.registry import DATASETS
from fedloom.data.sizes import data_sizes
from fedloom.errors import BadInput
from fedloom.experiment.clients import build_client
from fedloom.experiment.resolve import completed
from fedloom.planning.rates import PEAKS
from fedloom.planning.wire import round_on_the_wire
from fedloom.weights.catalogue import sources

PAPER = [name for name in presets() if name.startswith("paper/")]
COUNTS = {  # image and text clients
    "mix/images": ({"vit": 2, "beit": 2}, {}),
    "mix/both": ({"vit": 2, "beit": 2}, {"bert": 2, "distilbert": 2}),
    "mix/many": ({"vit": 5, "beit": 5}, {"bert": 5, "distilbert": 5}),
    "mix/hetero": (
        {"vit": 2, "beit": 2, "resnet": 2},
        {"bert": 2, "distilbert": 2, "roberta": 2},
    ),
}


def given(tree: Any) -> Iterator[str]:
    """Every name of weights in a configuration."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from ([value] if key in ("pretrained", "features") and isinstance(value, str) else given(value))
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from given(value)


@pytest.mark.parametrize("mix", COUNTS)
@pytest.mark.parametrize("paper", PAPER)
def test_they_combine(paper, mix):
    config, _, settings = completed(load_config(preset=f"{paper},{mix}"))
    for modality, wanted in zip(("image", "text"), COUNTS[mix]):
        assert {g.arch: g.count for g in getattr(config.clients, modality)} == wanted
    assert config.clients.width == 768
    assert settings.variant == ("u" if mix == "mix/images" else "full")
    assert set(given(config.model_dump(mode="json"))) <= set(sources())
    assert config.server.generator.pretrained == load_config(preset=paper).server.generator.pretrained


@pytest.mark.parametrize("paper", PAPER)
def test_papers_have_the_mix_both(paper):
    assert load_config(preset=paper) == load_config(preset=f"{paper},mix/both")


def pictures(name):
    """The training pictures of the official part."""
    declared = DATASETS[name]
    options = {k: p.default for k, p in inspect.signature(declared.load).parameters.items()}
    return declared.samples_of({**options, "generic_share": 0.0})["image"][0]


@pytest.mark.parametrize("paper", PAPER)
def test_steps_are_passes_over_the_official_sizes(paper):
    config = load_config(preset=paper)
    s, batch = config.settings, config.clients.batch
    held = pictures(config.data.name) / 4
    assert s["private_steps"] == round(held / batch)
    assert config.clients.warm_steps == 10 * s["private_steps"]
    assert s["retrain_steps"] == -(-s["samples"] // batch)
    assert s["tune_steps"] == -(-s["samples"] // s["tune_batch"])
    assert s["passes"] == s["replay_rounds"] == 1
    real, judge = pictures(config.data.name), config.evaluation.judge
    assert judge.steps % round(real / judge.batch) == 0


@pytest.mark.parametrize(
    ("preset", "method", "up", "down"),
    [
        ("paper/flowers102-glide", "fedmmkt", 2_464_000, 7_472_000),
        ("paper/flowers102-glide,mix/images", "u-fedmmkt", 2_460_800, 6_145_600),
        ("paper/flowers102-glide", "l-fedmmkt", 326_400, 5_014_400),
    ],
)
def test_bytes_of_table_10(preset, method, up, down):
    config, kind, settings = completed(load_config(preset=preset, values={"method": method}))
    scene = data_sizes(config.data)
    work = kind.server.workload(settings, config.clients.batch)
    assert round_on_the_wire(config, kind, work, scene) == (method, up, down)


def test_later_over_earlier():
    assert load_config(preset="smoke,mix/images").clients.text == ()
    assert load_config(preset="mix/images, mix/both").clients.text[0].arch == "bert"
    assert preset_tree("smoke,fedcmi")["rounds"] == preset_tree("fedcmi")["rounds"]


def test_a_plan_of_comparisons_takes_several(tmp_path):
    (tmp_path / "mine.yaml").write_text("base: {preset: 'smoke,mix/images'}\nrows: [{name: a, method: standalone}]\n")
    plan = read_plan(file=tmp_path / "mine.yaml")
    assert plan.base["rounds"] == 2
    assert plan.base["clients"]["text"] == []


@pytest.mark.parametrize("name", ["paper/flowers", "smoke,mix/bot", "smoke,"])
def test_unknown_names_are_one_line(name):
    with pytest.raises(BadInput, match="unknown preset") as error:
        load_config(preset=name)
    assert "\n" not in str(error.value)


def test_a_group_may_train_in_its_own_way():
    clients = load_config(preset="paper/flowers102-glide,mix/hetero").clients
    names = clients.names("image")
    archs = dict(zip(names, (x.arch for x in clients.models("image"))))
    for name in names:
        way = clients.training(name)
        wanted = ("sgd", 0.01, 5e-4) if archs[name] == "resnet" else ("adamw", 5e-5, 0.01)
        assert (way["optimizer"], way["rate"], way["decay"]) == wanted
    assert clients.training()["optimizer"] == "adamw"
    assert clients.optimizers() == ("adamw", "sgd")
    assert "optimizer" not in clients.image[0].model_dump()
    assert clients.image[2].model_dump(mode="json")["rate"] == 0.01


def test_a_client_is_built_with_its_groups_optimiser():
    group = "{arch: resnet, hidden: 32, stages: [1, 1], width: 16, optimizer: sgd, rate: 0.01, decay: 5.0e-4}"
    overrides = [f"clients.image=[{group}]", "clients.text=[]", "clients.public_steps=0"]
    config = load_config(preset="smoke", overrides=overrides)
    client = build_client(
        name="image-0",
        config=config.model_dump(mode="json"),
        method="standalone",
        settings={},
        tokenizer="",
        modality="image",
        index=0,
        backbones=[],
    )
    (way,) = client.context.optimizer.param_groups
    assert type(client.context.optimizer).__name__ == "SGD"
    assert (way["lr"], way["weight_decay"], way["momentum"]) == (0.01, 5e-4, 0.9)


def test_a_method_on_plain_gradients_refuses_a_group_that_has_others():
    config = load_config(
        overrides=[
            "method=scaffold",
            "clients.optimizer=sgd",
            "clients.text=[]",
            "clients.image=[{arch: vit, optimizer: adamw}]",
        ]
    )
    with pytest.raises(BadInput, match=r"clients\.optimizer = 'adamw': scaffold"):
        completed(config)


def test_the_guide_names_them_all():
    page = Path(__file__).resolve().parents[1] / "docs" / "guide" / "real-size.md"
    text = page.read_text(encoding="utf-8")
    assert {n for n in re.findall(r"^\| `([a-z0-9/-]+)` \|", text, re.M) if "/" in n} == {
        n for n in presets() if "/" in n
    }
    assert all(f"`{name}`" in text for name in PEAKS)
