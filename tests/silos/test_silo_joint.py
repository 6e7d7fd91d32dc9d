"""Silos of samples of two kinds with one label: what they hold, the run's one model, and what does not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from fedloom.cli.silo import _data
from fedloom.config import load_config
from fedloom.config.trees import validate
from fedloom.data.joint import MultimodalSamples
from fedloom.errors import BadInput
from fedloom.experiment.clients import build_client, client_specs
from fedloom.experiment.datasets import cached_dataset
from fedloom.experiment.pretraining import prepare
from fedloom.experiment.resolve import completed
from fedloom.experiment.silo_client import describe_data, describe_silo, pack_public, unpack_public
from fedloom.experiment.silo_offer import AT_THE_SILO, Offer, joint_offer, make_offer
from fedloom.methods.base import Empty, Scores
from fedloom.models.clients.client_model import towers
from fedloom.models.clients.multimodal import group_of
from fedloom.progress import Observer
from small_silos import MODELS, SIDE, build, joint_silo, pictures, same, silo

DUET = {"classes": 3, "per_class": 8, "test_per_class": 4, "size": SIDE, "bands": 8, "steps": 12}


def joint_server(place, data, model, method="fedcmi", **clients):
    """The server's side of a run of two multimodal clients."""
    values = {
        "method": method,
        "data": {"partition": "iid", "minimum": 1, **data},
        "clients": {"joint": [{**model, "count": 2}], "warm_steps": 2, "batch": 4, **clients},
    }
    config, _, _ = completed(load_config(preset="fedcmi", values=values))
    scene = cached_dataset(config.data)
    assets = prepare(config, scene, frozenset(), Observer(), lambda line: None)[0]
    unpack_public(pack_public(assets), place)
    offer = json.loads(json.dumps(make_offer(config, scene.class_names, SIDE)))
    return SimpleNamespace(config=config, scene=scene, assets=assets, public=place, offer=offer)


@pytest.fixture(scope="module")
def duet(tmp_path_factory):
    place = tmp_path_factory.mktemp("duet") / "public"
    return joint_server(place, {"name": "duet", "options": DUET}, MODELS["joint"])


@pytest.fixture(scope="module")
def tweets(tmp_path_factory):
    """Pictures and texts of crisismmd's layout."""
    root, keys = (
        tmp_path_factory.mktemp("tweets"),
        ("event_name", "tweet_id", "image_id", "tweet_text", "image"),
    )
    columns = (*keys, "label", "label_text", "label_image", "label_text_image")
    folder = root / "crisismmd_datasplit_all"
    folder.mkdir()
    for part, n in (("train", 8), ("dev", 2), ("test", 4)):
        lines = ["\t".join(columns)]
        for i in range(n):
            label = ("not_informative", "informative")[i % 2]
            place = root / "data_image" / f"{part}_{i}.jpg"
            place.parent.mkdir(exist_ok=True)
            Image.new("RGB", (20, 16), (90 * (i % 2), 40, 20 * i)).save(place)
            text = f"{part} the bridge is down {i}"
            said = [
                "storm",
                f"{part}{i}",
                f"{part}{i}_0",
                text,
                str(place.relative_to(root)),
                *[label] * 3,
                "x",
            ]
            lines.append("\t".join(said))
        (folder / f"task_informative_text_img_{part}.tsv").write_text("\n".join(lines) + "\n")
    data = {"name": "crisismmd", "root": str(root), "options": {"size": SIDE}}
    place = tmp_path_factory.mktemp("tweets public") / "public"
    return joint_server(place, data, MODELS["pair"], method="fedavg")


def local_client(server, index):
    """The client of one machine, and its name."""
    specs = client_specs(server.config, server.config.method, server.config.settings, server.assets)
    spec = specs[index]
    return build_client(name=spec.name, **spec.arguments), spec.name


@pytest.mark.parametrize("which", ["duet", "tweets"])
def test_a_joint_client_is_that_of_the_local_run(request, which):
    """To the bit, also after a round's training; sounds and frames, or pictures and texts by the public tokenizer."""
    server = request.getfixturevalue(which)
    local, name = local_client(server, 1)
    client = build(server, joint_silo(server, share="1/2"), name=name)
    assert same(client, local)
    assert client.context.optimizer.param_groups[0]["momentum"] == server.config.clients.momentum  # sgd, as offered
    assert client.context.clip is None
    replies = [each.fit(Empty(), round=1) for each in (client, local)]
    assert replies[0].loss == replies[1].loss
    assert same(client, local)
    assert client.evaluate(Empty(), round=1) == local.evaluate(Empty(), round=1)


def test_joint_clients_start_alike(duet):
    cold = {"training": duet.offer["training"] | {"warm_steps": 0}}
    one, other = (build(duet, joint_silo(duet), name=name, **cold).context.model for name in ("a", "b"))
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in one.state_dict().items())


@pytest.mark.parametrize(("index", "holds"), [(0, "audio"), (1, "image")])
def test_a_silo_that_holds_one_kind(duet, index, holds):
    """As `data.multi_ratio` makes such clients; it sends no stream of the other kind."""
    data = duet.config.data.model_copy(update={"multi_ratio": 0.0})
    config = duet.config.model_copy(update={"data": data})
    server = SimpleNamespace(**{**vars(duet), "config": config})
    local, name = local_client(server, index)
    client = build(server, joint_silo(server, holds=holds, share=f"{index}/2"), name=name)
    assert client.context.owned == (holds,)
    assert same(client, local)
    assert client.evaluate(Empty(), round=0) == local.evaluate(Empty(), round=0)
    sent = client.fit(Empty(), round=1).parameters
    assert {group_of(name) for name in sent} == {holds, None}  # None: the fusion head
    counts = {"audio": "audio 12/12, image 0/0", "image": "audio 0/0, image 12/12"}[holds]
    assert f"; with {counts}" in describe_data(client, server.offer["class_names"])


def test_a_kind_that_the_data_lack(duet, monkeypatch):
    """Neither are such samples asked for, nor must what stands in their place have the run's shape."""
    from fedloom.experiment import silo_data

    scene = duet.scene
    deaf = {}
    for part in ("train", "test"):
        held = getattr(scene, part)["joint"]
        silent = {**held.parts, "audio": np.zeros((len(held), 1, 1), np.float16)}
        absent = {"audio": np.zeros(len(held), bool)}
        deaf[part] = {"joint": MultimodalSamples(silent, held.labels, absent if part == "train" else {})}
    monkeypatch.setattr(silo_data, "load_dataset", lambda *a, **k: replace(scene, **deaf))
    client = build(duet, joint_silo(duet))
    assert client.context.owned == ("image",)
    assert not client.context.test["present"][:, 0].any()
    assert isinstance(client.evaluate(Empty(), round=0), Scores)
    with pytest.raises(BadInput, match="data 'duet': no training samples with audio"):
        build(duet, joint_silo(duet, holds="audio"))


def test_the_shapes_of_what_is_heard_and_seen(duet):
    """Sounds are read as the run's; frames are brought to its side, and may be of any number."""
    plain = {k: v for k, v in DUET.items() if k not in ("bands", "steps", "size")}
    client = build(duet, joint_silo(duet, options=plain))
    assert client.context.private["spectrogram"].shape == (24, 8, 12)
    assert client.context.private["frames"].shape == (24, 2, SIDE, SIDE, 3)
    wide = joint_silo(duet, options=DUET | {"size": 16, "frames": 3})
    assert build(duet, wide).context.test["frames"].shape == (12, 3, SIDE, SIDE, 3)
    odd = joint_silo(duet, options=DUET | {"bands": 6})
    told = r"data 'duet': spectrograms of 6 bands x 12 steps, the run's have 8 x 12; .* data.options bands, steps$"
    with pytest.raises(BadInput, match=told):
        build(duet, odd)
    build(duet, odd | {"holds": "image"})  # it has no use for them


def test_joint_samples_get_the_federations_labels(duet):
    names = [*reversed(duet.offer["class_names"]), "gong"]
    client = build(duet, joint_silo(duet), class_names=names)
    assert client.context.private_labels.tolist() == (2 - duet.scene.train["joint"].labels).tolist()
    with pytest.raises(BadInput, match="class 'siren' is not one of the federation's"):
        build(duet, joint_silo(duet), class_names=["horn", "kettle"])


def test_what_a_run_offers_its_joint_silos(server, duet, tweets):
    offer = validate(Offer, duet.offer).joint
    assert (offer.streams, offer.sounds) == (("audio", "image"), (8, 12))
    assert offer.model == duet.config.clients.models("joint")[0]
    assert duet.offer["training"]["optimizer"] == "sgd"
    assert (tweets.offer["joint"]["streams"], tweets.offer["joint"]["sounds"]) == (["image", "text"], None)
    assert [p.name for p in duet.public.iterdir()] == ["backbones"]  # nobody reads, so there is no tokenizer
    assert describe_silo(joint_silo(duet)) == {"name": "clinic", "modality": "joint", "model": None}
    assert "holds" not in describe_silo(joint_silo(duet, holds="audio"))
    flora = duet.config.model_copy(update={"data": server.config.data})
    with pytest.raises(
        BadInput, match=r"data.name = 'flora' has no multimodal samples, and there are multimodal clients"
    ):
        joint_offer(flora)
    named = duet.offer["joint"] | {"model": MODELS["joint"] | {"pretrained": "hub/a+hub/b"}}
    with pytest.raises(BadInput, match="a silo loads no weights of the server's naming"):
        validate(Offer, duet.offer | {"joint": named})


def test_one_model_for_all_joint_silos(duet):
    assert same(build(duet, joint_silo(duet, MODELS["joint"])), build(duet, joint_silo(duet)))
    with pytest.raises(BadInput, match=r"model.hidden = 32, allowed: 16, as of all the run's multimodal clients"):
        build(duet, joint_silo(duet, MODELS["joint"] | {"hidden": 32}))
    with pytest.raises(BadInput, match=r"model.arch = 'audio-resnet\+vit', allowed: 'audio-resnet\+resnet'"):
        build(duet, joint_silo(duet, MODELS["joint"] | {"arch": "audio-resnet+vit"}))
    with pytest.raises(BadInput, match=r"model.pretrained = '\(at the silo\)\+', allowed: None"):
        build(duet, joint_silo(duet, MODELS["joint"] | {"pretrained": "resnet18+"}))


def test_weights_that_joint_clients_start_from_are_each_silos_own_copy(duet, tmp_path):
    client = build(duet, joint_silo(duet))
    client.export(tmp_path / "model")
    found = {str(p.relative_to(tmp_path / "model")) for p in (tmp_path / "model").rglob("*.json")}
    assert {
        "audio/config.json",
        "image/config.json",
        "image/preprocessor_config.json",
        "fusion.json",
    } <= found
    group = duet.config.clients.joint[0].model_copy(update={"pretrained": "/server/ears+"})
    clients = duet.config.clients.model_copy(update={"joint": (group,)})
    offer = joint_offer(duet.config.model_copy(update={"clients": clients})).model_dump(mode="json")
    assert offer["model"]["pretrained"] == f"{AT_THE_SILO}+"
    cold = {"joint": offer, "training": duet.offer["training"] | {"warm_steps": 0}}
    mine = joint_silo(duet, MODELS["joint"] | {"pretrained": f"{tmp_path / 'model' / 'audio'}+"})
    ears = towers(build(duet, mine, **cold).context.model)[0].backbone.state_dict()
    trained = towers(client.context.model)[0].backbone.state_dict()
    assert all(torch.equal(v, ears[k]) for k, v in trained.items())
    with pytest.raises(BadInput, match=r"start from weights: name them in model.pretrained"):
        build(duet, joint_silo(duet), **cold)


def test_texts_of_joint_samples_are_exported_with_their_tokenizer(tweets, tmp_path):
    from transformers import AutoTokenizer

    client = build(tweets, joint_silo(tweets))
    client.export(tmp_path / "model")
    assert AutoTokenizer.from_pretrained(tmp_path / "model" / "text").model_max_length == 24
    assert (tmp_path / "model" / "image" / "preprocessor_config.json").is_file()
    assert "; with image 8/4, text 8/4" in describe_data(client, tweets.offer["class_names"])


def test_one_line_for_what_a_joint_silo_lacks(server, duet, tweets, tmp_path):
    with pytest.raises(BadInput, match="fedmmkt has no part for multimodal clients"):
        build(server, joint_silo(duet))
    with pytest.raises(BadInput, match="modality = 'joint': the run has no multimodal clients"):
        build(server, joint_silo(duet), method="fedavg")
    with pytest.raises(BadInput, match="modality = 'image': fedcmi is for multimodal clients only"):
        build(duet, silo("image", pictures(tmp_path)))
    with pytest.raises(BadInput, match="the run has no pictures"):
        build(duet, joint_silo(duet), image_size=0)
    with pytest.raises(
        BadInput, match=r"no training multimodal samples; data sets of multimodal samples: duet, audio_visual"
    ):
        build(duet, joint_silo(duet, name="flora", options={}))
    with pytest.raises(BadInput, match="data 'duet': samples of audio and image, allowed: of image and text"):
        build(tweets, joint_silo(duet))
    with pytest.raises(BadInput, match="holds = 'text', allowed: audio, image"):
        build(duet, joint_silo(duet, holds="text"))
    with pytest.raises(BadInput, match=r"holds = 'audio' is for modality 'joint', not 'text'"):
        describe_silo(silo("text") | {"holds": "audio"})
    with pytest.raises(BadInput, match="'vit' is no joint model, allowed: audio-resnet"):
        describe_silo(joint_silo(duet, MODELS["image"]))
    with pytest.raises(BadInput, match="model: needed, allowed for arch: bert"):
        describe_silo(silo("text") | {"model": None})
    assert _data("duet", "joint") == {"name": "duet"}
    with pytest.raises(BadInput, match=r"--set data.name=NAME --set data.root=.*; allowed for NAME: duet, audio"):
        _data(str(tmp_path), "joint")
