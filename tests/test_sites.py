"""Clients built from the configuration: their shares, their start, their names."""

from __future__ import annotations

import json
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from fedloom.config import load_config
from fedloom.config.models import ModelSettings
from fedloom.data.containers import FederatedDataset
from fedloom.data.datasets.flora import load as flora
from fedloom.data.joint import MultimodalSamples, held_kinds
from fedloom.errors import BadInput
from fedloom.experiment.client_builder import backbones_of
from fedloom.experiment.clients import (
    build_client,
    builder_of,
    client_names,
    client_specs,
    private_samples,
    server_model,
    server_settings,
    shape_of,
)
from fedloom.experiment.datasets import cached_dataset
from fedloom.experiment.pretraining import Assets, backbone_name, prepare
from fedloom.methods.context import ClientContext
from fedloom.progress import Observer

SMALL = {"hidden": 16, "layers": 1, "heads": 2, "width": 16}
DUET = {"per_class": 8, "test_per_class": 3, "size": 12, "frames": 1, "bands": 12, "steps": 12}


@pytest.fixture(scope="module")
def smoke(smoke_run):
    """The configuration of the smoke run, its scene, and the assets that it has left in the cache."""
    config = load_config(preset="smoke")
    scene = cached_dataset(config.data)
    return config, scene, prepare(config, scene, frozenset({"backbones"}), Observer(), lambda line: None)[0]


def specs_of(smoke, method="standalone"):
    return client_specs(smoke[0], method, {}, smoke[2])


def built(spec):
    return build_client(name=spec.name, **json.loads(json.dumps(spec.arguments)))


def test_names(smoke):
    assert client_names(smoke[0]) == {
        "image": ["image-0", "image-1"],
        "text": ["text-0", "text-1"],
        "pair": [],
        "joint": [],
    }
    specs = specs_of(smoke)
    assert [s.name for s in specs] == ["image-0", "image-1", "text-0", "text-1"]
    assert [s.modality for s in specs] == ["image", "image", "text", "text"]


def test_shares_are_all_there_is_and_nothing_twice(smoke):
    config, scene, _ = smoke
    for modality in ("image", "text"):
        shares = [private_samples(config, scene, modality, i) for i in range(2)]
        assert all(len(s) >= config.data.minimum for s in shares)
        rows = [
            x.tobytes() if modality == "image" else x
            for s in shares
            for x in (s.images if modality == "image" else s.texts)
        ]
        whole = scene.train[modality]
        every = [x.tobytes() for x in whole.images] if modality == "image" else list(whole.texts)
        assert sorted(rows) == sorted(every)


def test_built_twice_is_the_same_client(smoke, monkeypatch):
    """The second time the warm start comes from the cache: nothing is trained."""
    for spec in specs_of(smoke):
        first = built(spec)
        with monkeypatch.context() as patch:
            patch.setattr(ClientContext, "fit", lambda *a, **k: pytest.fail("trained again"))
            second = built(spec)
        one, two = first.state()[0], second.state()[0]
        assert one.keys() == two.keys()
        assert all(np.array_equal(one[k], two[k]) for k in one)
        assert any(k.startswith("context/optimizer/") for k in one)  # the warm start leaves its moments too


def test_warm_started_from_the_public_backbone(smoke):
    config, _, assets = smoke
    cold = config.model_copy(update={"clients": config.clients.model_copy(update={"warm_steps": 0})})
    for spec in client_specs(cold, "standalone", {}, assets):
        index = int(spec.name[-1])
        learner = config.clients.models(spec.modality)[index]
        body = load_file(assets.backbones[backbone_name(learner)] / "backbone.safetensors")
        client = built(spec)
        own = client.context.model.state_dict()
        assert set(own) - set(body) == {"head.weight", "head.bias"}
        assert all(np.array_equal(own[k].numpy(), v) for k, v in body.items())


def test_public_steps_of_the_server_alone(smoke):
    """Its own models learn from the generic part; clients, also one like them, begin with random weights."""
    _, scene, _ = smoke
    own = {"image": SMALL | {"arch": "vit", "patch": 6}, "text": SMALL | {"arch": "bert"}}
    config = load_config(
        preset="smoke",
        values={
            "clients": {"public_steps": 0, "warm_steps": 0, "image": [own["image"]]},
            "server": {"public_steps": 2, **own},
        },
    )
    assets = prepare(config, scene, frozenset({"backbones"}), Observer(), lambda line: None)[0]
    names = {m: backbone_name(getattr(config.server, m)) for m in own}
    assert set(assets.backbones) == set(names.values())
    for modality, name in names.items():
        body = load_file(assets.backbones[name] / "backbone.safetensors")
        learned = server_model(config, shape_of(scene), assets, modality).model.state_dict()
        assert set(learned) - set(body) == {"head.weight", "head.bias"}
        assert all(np.array_equal(learned[k].numpy(), v) for k, v in body.items())
    specs = client_specs(config, "standalone", {}, assets)
    assert [s.arguments["backbones"] for s in specs] == [[]] * 3
    client = built(specs[0])
    bare = builder_of(config, scene, "image", 0, "").model()
    assert all(torch.equal(v, bare.state_dict()[k]) for k, v in client.context.model.state_dict().items())
    nobody = config.model_copy(update={"server": config.server.model_copy(update={"public_steps": 0})})
    assert not prepare(nobody, scene, frozenset({"backbones"}), Observer(), print)[0].backbones


def test_the_servers_own_models_are_as_said_or_as_the_largest_clients():
    values = {"clients": {"image": [], "text": [], "pair": [{"arch": "resnet+gru", "width": 16}]}}
    config = load_config(preset="smoke", values=values)
    assert [server_settings(config, m).arch for m in ("image", "text")] == ["resnet", "gru"]
    values["server"] = {"image": {"arch": "vit", "width": 16, "hidden": 32}}
    config = load_config(preset="smoke", values=values)
    assert server_settings(config, "image") == config.server.image
    assert server_settings(config, "text").arch == "gru"
    config = load_config(preset="smoke", overrides=("clients.text=[]",))
    with pytest.raises(BadInput, match=r"needs a text model on the server.*: set server\.text"):
        server_settings(config, "text")


def test_a_folder_a_tower(tmp_path):
    """Empty for a tower with weights of its own; none at all where no tower has one."""
    dual = ModelSettings(arch="resnet+gru", **SMALL)
    image, text = (backbone_name(tower) for tower in dual.towers())
    both = Assets(tmp_path, {image: tmp_path / "i", text: tmp_path / "t"})
    assert backbones_of(dual, both) == [str(tmp_path / "i"), str(tmp_path / "t")]
    half = dual.model_copy(update={"pretrained": "+vectors.txt"})
    assert backbones_of(half, both) == [str(tmp_path / "i"), ""]
    frozen = ModelSettings(arch="frozen-mobilenet+gru", pretrained="net.npz+", **SMALL)
    assert backbones_of(frozen, both) == ["", str(tmp_path / "t")]
    assert backbones_of(dual.towers()[1], both) == [str(tmp_path / "t")]
    assert backbones_of(dual, Assets(tmp_path)) == []
    whole = dual.model_copy(update={"pretrained": "a+b"})
    assert backbones_of(whole, both) == []


def test_a_client_depends_on_the_seed_and_on_its_place(smoke):
    first, second = (built(s) for s in specs_of(smoke)[:2])
    other = smoke[0].model_copy(update={"seed": 1})
    third = built(client_specs(other, "standalone", {}, smoke[2])[0])
    heads = [c.context.model.head.weight for c in (first, second, third)]
    assert not torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_a_pretrained_text_client_brings_its_own_words(smoke, smoke_run):
    folder = smoke_run.path / "export" / "text-0"
    group = {"arch": "bert", "width": 16, "pretrained": str(folder)}
    config = load_config(preset="smoke", values={"clients": {"text": [group], "warm_steps": 0, "public_steps": 0}})
    spec = next(s for s in client_specs(config, "standalone", {}, smoke[2]) if s.modality == "text")
    client = built(spec)
    assert spec.arguments["backbones"] == []
    exported = load_file(folder / "model.safetensors")
    name = "bert.embeddings.word_embeddings.weight"
    assert np.array_equal(client.context.model.backbone.state_dict()[name].numpy(), exported[name])
    assert len(client.context.tokenizer) == len(exported[name])


def test_a_warm_start_is_named_by_the_content_of_its_weights(smoke, smoke_run, monkeypatch, tmp_path):
    """The same weights elsewhere are the same start; other weights under the same path are another."""
    folder, moved = tmp_path / "weights", tmp_path / "moved"
    shutil.copytree(smoke_run.path / "export" / "text-0", folder)
    fits, fit = [], ClientContext.fit
    monkeypatch.setattr(ClientContext, "fit", lambda *a, **k: fits.append(1) or fit(*a, **k))

    def start(pretrained):
        group = {"arch": "bert", "width": 16, "pretrained": str(pretrained)}
        config = load_config(preset="smoke", values={"clients": {"text": [group], "warm_steps": 1, "public_steps": 0}})
        spec = next(s for s in client_specs(config, "standalone", {}, smoke[2]) if s.modality == "text")
        return built(spec).context.model.head.weight

    first = start(folder)
    shutil.copytree(folder, moved)
    assert torch.equal(start(moved), first)
    assert len(fits) == 1
    weights = load_file(folder / "model.safetensors")
    save_file({k: v * np.float32(1.5) for k, v in weights.items()}, folder / "model.safetensors")
    assert not torch.equal(start(folder), first)
    assert len(fits) == 2


@pytest.mark.parametrize(
    ("ratio", "clients", "both", "first", "second"),
    [
        *((1.0, n, n, 0, 0) for n in (1, 2, 5)),
        (0.0, 1, 0, 1, 0),
        (0.0, 2, 0, 1, 1),
        (0.0, 5, 0, 3, 2),
        (0.0, 6, 0, 3, 3),
        (0.5, 1, 1, 0, 0),
        (0.5, 2, 1, 1, 0),
        (0.5, 4, 2, 1, 1),
        (0.5, 6, 3, 2, 1),
        (0.5, 8, 4, 2, 2),
    ],
)
def test_who_holds_which_kinds(ratio, clients, both, first, second):
    """Those with both kinds come first, then those with the first; of an odd rest the first kind has one more."""
    held = [held_kinds(("audio", "text"), ratio, clients, i) for i in range(clients)]
    assert held == [("audio", "text")] * both + [("audio",)] * first + [("text",)] * second


def joint_config(*overrides, clients=3):
    """Clients that hear and see, of few samples; nothing is trained beforehand."""
    group = {"arch": "audio-resnet+resnet", "hidden": 16, "width": 16, "stages": [1, 1], "count": clients}
    only = {"image": [], "text": [], "joint": [group], "public_steps": 0, "warm_steps": 0}
    data = {"name": "duet", "options": DUET, "minimum": 2, "partition": "iid"}
    return load_config(values={"data": data, "clients": only}, overrides=overrides)


def test_shares_of_joint_clients():
    config = joint_config("data.multi_ratio=0.34")
    scene = cached_dataset(config.data)
    shares = [private_samples(config, scene, "joint", i) for i in range(3)]
    assert [s.owned for s in shares] == [("audio", "image"), ("audio",), ("image",)]
    assert sorted(name for s in shares for name in s.ids) == sorted(scene.train["joint"].ids)
    assert not shares[1].parts["image"].any()
    assert shares[1].parts["audio"].reshape(len(shares[1]), -1).any(axis=1).all()
    assert not shares[2].parts["audio"].any()


@pytest.mark.parametrize("modality", ["image", "text", "pair", "joint"])
def test_corruption_of_shares(modality):
    """Each client's own, drawn from the run's seed; the scene stays as it was."""
    if modality == "joint":
        config = joint_config(clients=2)
        scene = cached_dataset(config.data)
    else:
        few = dict.fromkeys(("images", "texts", "test", "generic", "reference"), 60)
        scene = flora(pairs=60, captions=2, test_pairs=10, size=12, **few)
        config = load_config(
            preset="smoke", values={"clients": {"pair": [{"arch": "resnet+gru", "width": 16, "count": 2}]}}
        )

    def share(i=0, seed=0, **corruption):
        data = config.data.model_dump() | {"corruption": corruption}
        own = load_config(values=config.model_dump(mode="json") | {"data": data, "seed": seed})
        return private_samples(own, scene, modality, i)

    whole, again = share(), share(wrong_spread=1.0)
    assert len(whole) == len(again)
    less = share(missing_modality=0.5)
    if modality == "joint":
        assert not less.present["audio"].all()
        assert not less.present["image"].all()
        assert set(less.ids) < set(whole.ids)
    assert len(less) < len(whole)
    assert len(share(missing_modality=1.0)) == 1
    if modality == "pair":  # which have no labels
        assert len(share(missing_label=0.5, wrong_label=0.5)) == len(whole)
        return
    assert len(share(missing_label=0.5)) < len(whole)
    wrong, other = share(wrong_label=0.5), share(wrong_label=0.5)
    assert len(wrong) == len(whole)
    assert 0 < (wrong.labels != whole.labels).sum() < len(whole)
    assert np.array_equal(wrong.labels, other.labels)
    assert np.array_equal(share().labels, whole.labels)
    flipped = [wrong.labels != whole.labels, share(1, wrong_label=0.5).labels != share(1).labels]
    n = min(map(len, flipped))
    assert not np.array_equal(flipped[0][:n], flipped[1][:n])


def test_joint_clients_start_from_the_same_weights():
    """Whatever they hold; and so does the server, whose average they are measured against."""
    config = joint_config("data.multi_ratio=0.34")
    specs = client_specs(config, "standalone", {}, Assets(None))
    assert [(s.name, s.modality) for s in specs] == [(f"joint-{i}", "joint") for i in range(3)]
    assert [s.arguments["backbones"] for s in specs] == [[]] * 3
    states = [built(spec).context.model.state_dict() for spec in specs]
    scene = cached_dataset(config.data)
    states.append(server_model(config, shape_of(scene), Assets(None), "joint").model.state_dict())
    for state in states[1:]:
        assert state.keys() == states[0].keys()
        assert all(torch.equal(v, states[0][k]) for k, v in state.items())
    later = joint_config("seed=1")
    other = server_model(later, shape_of(scene), Assets(None), "joint").model.state_dict()
    assert not torch.equal(other["fusion.out.weight"], states[0]["fusion.out.weight"])


def test_a_joint_client_is_scored_on_the_kinds_that_it_holds():
    config = joint_config("data.multi_ratio=0.34")
    both, ears, eyes = (built(s).context for s in client_specs(config, "standalone", {}, Assets(None)))
    n = len(cached_dataset(config.data).test["joint"])
    assert [s.owned for s in (both, ears, eyes)] == [("audio", "image"), ("audio",), ("image",)]
    assert [len(s.test_labels) for s in (both, ears, eyes)] == [n] * 3
    assert both.test["present"].all()
    assert ears.test["present"].tolist() == [[True, False]] * n
    assert eyes.test["present"].tolist() == [[False, True]] * n
    assert not ears.test["frames"].any()
    assert not eyes.test["spectrogram"].any()
    assert torch.equal(ears.test["spectrogram"], both.test["spectrogram"])


def test_test_samples_that_lack_what_a_client_reads_are_left_out():
    """As of tweets that are nothing but links, to a client that reads texts only."""
    from fedloom.methods.multimodal_context import MultimodalContext

    images = np.full((4, 1, 8, 8, 3), 9, dtype=np.uint8)
    make = partial(MultimodalSamples, {"image": images, "text": ("a", "", "c", "")}, np.array([0, 1, 1, 0]))
    test = make({"text": np.array([True, False, True, False])})
    site = MultimodalContext.__new__(MultimodalContext)
    site.stored = lambda samples: {}
    site.take(test.lacking({"image": np.ones(4, dtype=bool)}), test)
    assert site.owned == ("text",)
    assert site.samples["test"].labels.tolist() == site.test_labels.tolist() == [0, 1]
    assert site.samples["test"].owned == ("text",)
    site.take(test, test)
    assert site.samples["test"] is test
    assert FederatedDataset("made", ("x", "y"), {"joint": test}, {}).modalities == ("image", "text")
