"""A real silo's client: its own classes, sizes and weights, the public files, and the same bits as a local client."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from fedloom.cli.silo import _data
from fedloom.config import load_config
from fedloom.config.silo import SiloData, SiloSettings
from fedloom.config.trees import validate
from fedloom.data.containers import ImageSet
from fedloom.data.joint import MultimodalSamples
from fedloom.errors import BadInput
from fedloom.experiment.clients import build_client, client_specs, server_context
from fedloom.experiment.datasets import cached_dataset
from fedloom.experiment.pretraining import backbone_name, prepare
from fedloom.experiment.public_files import public_backbone
from fedloom.experiment.resolve import completed
from fedloom.experiment.silo_client import (
    _server_like,
    build_silo_client,
    describe_data,
    describe_silo,
    pack_public,
    unpack_public,
)
from fedloom.experiment.silo_data import _as_offered, check_data, match_classes
from fedloom.experiment.silo_offer import AT_THE_SILO, Offer, joint_offer, make_offer
from fedloom.federation.host import ClientHost, ClientSpec
from fedloom.methods.base import Empty, Scores, load_method
from fedloom.methods.delivery import Delivery, weights_of
from fedloom.methods.fedafd import FedAFDTargets as Alignment
from fedloom.methods.fedmmkt import FedMMKTCaptions, FedMMKTOutputs, FedMMKTPictures, FedMMKTTargets
from fedloom.methods.retrieval_messages import PublicSet, kinds_of
from fedloom.models.clients.client_model import towers
from fedloom.models.clients.multimodal import group_of
from fedloom.progress import Observer

SIDE = 12
SIZES = {"hidden": 16, "layers": 1, "heads": 2, "width": 16}
MODELS = {
    "image": {"arch": "vit", "patch": 6, **SIZES},
    "text": {"arch": "bert", **SIZES},
    "pair": {"arch": "vit+bert", "patch": 6, **SIZES},
    "joint": {"arch": "audio-resnet+resnet", **SIZES},
}
STEPS = {"private_steps": 2, "shared_steps": 2, "server_steps": 1, "distill_steps": 1, "public": 10}
COLOURS = {"Poppy": (200, 40, 40), "LILY": (60, 160, 70), "iris": (60, 60, 210)}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The server's side: configuration, scene, offer, and its public files as a silo has them."""
    config = load_config(preset="smoke", values={"data": {"partition": "iid", "minimum": 1}})
    scene = cached_dataset(config.data)
    assets = prepare(config, scene, frozenset({"backbones"}), Observer(), lambda line: None)[0]
    public = tmp_path_factory.mktemp("silo") / "public"
    files = pack_public(assets)
    unpack_public(files, public)
    offer = json.loads(json.dumps(make_offer(config, scene.class_names, SIDE)))
    return SimpleNamespace(config=config, scene=scene, assets=assets, public=public, files=files, offer=offer)


def pictures(folder, classes=COLOURS, train=6, test=2, side=20):
    """Folders of PNG files, a colour a class."""
    rng = np.random.default_rng(0)
    for part, n in (("train", train), ("test", test)):
        for name, colour in classes.items():
            for i in range(n):
                place = folder / "images" / part / name / f"{i}.png"
                place.parent.mkdir(parents=True, exist_ok=True)
                noise = rng.integers(-20, 21, (side, side, 3))
                Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(place)
    return folder


def texts(folder, labels=("poppy", "Lily", "IRIS"), each=5):
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "test"):
        with (folder / f"texts_{part}.csv").open("w", newline="") as file:
            rows = [(f"{part} petals number {i} in front of a meadow", c) for c in labels for i in range(each)]
            csv.writer(file).writerows([("text", "label"), *rows])
    return folder


def silo(modality, root=None, *, model=None, **data):
    data = {"name": "folder", **data} | ({"root": str(root)} if root else {})
    return {"name": "clinic", "modality": modality, "model": MODELS[modality] | (model or {}), "data": data}


def joint_silo(server, model=None, holds=None, options=None, **data):
    """A silo of the run's own data, which takes the run's model unless it names one."""
    options = dict(server.config.data.options) if options is None else options
    data = {"name": server.config.data.name, "root": server.config.data.root, "options": options, **data}
    return {"name": "clinic", "modality": "joint", "model": model, "holds": holds, "data": data}


def build(server, own, name="clinic", **changes):
    return build_silo_client(name=name, silo=own, offer=server.offer | changes, public=str(server.public))


def same(one, two):
    a, b = one.state()[0], two.state()[0]
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


# ------------------------------------------------------------------------------------------- who says what to whom


def test_what_a_silo_says_of_itself(tmp_path):
    own = silo("text", tmp_path, model={"pretrained": str(tmp_path / "secret")})
    said = describe_silo(own)
    assert said["name"] == "clinic"
    assert said["modality"] == "text"
    assert said["model"]["pretrained"] == AT_THE_SILO
    assert str(tmp_path) not in json.dumps(said)
    assert describe_silo(silo("image"))["model"] | {"pretrained": None} == describe_silo(silo("image"))["model"]
    with pytest.raises(BadInput, match=r"unknown key 'silo.modle'. Did you mean 'silo.model'\?"):
        describe_silo(own | {"modle": 1})


def test_what_the_server_offers(server):
    offer = server.offer
    assert offer["class_names"] == list(server.scene.class_names)
    training = {"batch": 8, "rate": 2e-3, "decay": 0.01, "augment": True, "warm_steps": 3}
    assert offer["training"] == training | {"optimizer": "adamw", "momentum": 0.9, "clip": 1.0}
    assert offer["joint"] is None
    assert validate(Offer, offer | {"training": training}) == validate(Offer, offer)  # of a server that says no more
    assert (offer["width"], offer["image_size"], offer["tokens"]) == (16, SIDE, 24)
    method, _ = load_method("fedmmkt")
    assert method.settings(**offer["settings"]).model_dump(mode="json") == offer["settings"]
    config = server.config.model_copy(update={"method": "l-fedmmkt"})
    assert make_offer(config, ("a", "b"), 8)["settings"]["variant"] == "l"  # what the name fixes
    with pytest.raises(BadInput, match="'sun-flower' and 'Sun_Flower' differ only by"):
        make_offer(server.config, ("sun-flower", "Sun_Flower"), SIDE)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_a_share_of_the_runs_own_data_gives_the_local_client(server, modality):
    """To the bit: so that one method can be compared on both engines."""
    specs = client_specs(server.config, "fedmmkt", server.config.settings, server.assets)
    spec = next(s for s in specs if s.name == f"{modality}-1")
    local = build_client(name=spec.name, **spec.arguments)
    model = server.config.clients.models(modality)[1].model_dump()
    options = dict(server.config.data.options)
    own = silo(modality, model=model, name="flora", options=options, share="1/2")
    assert same(build(server, own, name=spec.name), local)
    alone = build(server, own | {"data": own["data"] | {"share": None}}, name=spec.name)
    assert len(alone.context.private_labels) == len(server.scene.train[modality])
    assert torch.equal(alone.context.test_labels, local.context.test_labels)  # the test part stays whole


def test_same_seed_same_bits(server, tmp_path):
    own = silo("image", pictures(tmp_path))
    one = build(server, own)
    assert same(one, build(server, own))
    assert not same(one, build(server, own, seed=1))
    assert not same(one, build(server, own, name="other"))
    cold = build_silo_client(name="clinic", silo=own, offer=server.offer, public=str(server.public), warm=False)
    assert not any(k.startswith("context/optimizer/") for k in cold.state()[0])
    cold.load_state(*one.state())
    assert same(one, cold)


# ------------------------------------------------------------------------------------------------------ its data


def test_classes_get_the_federations_labels(server, tmp_path):
    client = build(server, silo("image", pictures(tmp_path)))
    names = server.offer["class_names"]
    counts = np.bincount(client.context.private_labels.numpy(), minlength=len(names))
    assert {names[i]: int(n) for i, n in enumerate(counts) if n} == {"poppy": 6, "lily": 6, "iris": 6}
    assert client.context.private["pixel_values"].shape == (18, 3, SIDE, SIDE)
    reds = client.context.ready(client.context.private)["pixel_values"][
        client.context.private_labels == names.index("poppy")
    ]
    assert (reds[:, 0].mean((1, 2)) > reds[:, 1].mean((1, 2)) + 0.5).all()
    assert client.context.model.head.out_features == len(names)
    line = describe_data(client, names)
    assert line.startswith("clinic: 18 training and 6 test samples (image) of 3 of 10 classes")
    assert "poppy 6/2" in line
    assert "none of: zinnia, cosmos" in line


def test_spellings():
    names = ("apple pie", "beet salad", "forget-me-not")
    own = ("Beet_Salad", "APPLE  pie", "forget me not", "tacos")
    assert match_classes(own, names, [0, 1, 2]).tolist() == [1, 0, 2, -1]
    with pytest.raises(BadInput, match="class 'tacos' is not one of the federation's"):
        match_classes(own, names, [3])


def test_a_class_the_federation_does_not_know(server, tmp_path):
    with pytest.raises(BadInput, match=r"class 'Popy' .* Did you mean 'poppy'\? The federation's: poppy, zinnia"):
        build(server, silo("image", pictures(tmp_path / "a", {**COLOURS, "Popy": (200, 40, 40)})))
    with pytest.raises(BadInput, match=r"class '0' .* say the names in data.options.labels_file"):
        build(server, silo("text", texts(tmp_path / "b", ("0", "1"))))
    chosen = silo("image", tmp_path / "a", options={"classes": ["Poppy", "iris"]})
    assert len(build(server, chosen).context.private_labels) == 12


def test_pictures_of_another_side_are_resized(server, tmp_path):
    own = silo("image", pictures(tmp_path), options={"size": 16})  # read at 16, as the operator says
    assert build(server, own).context.test["pixel_values"].shape == (6, 3, SIDE, SIDE)
    wide = np.zeros((2, 10, 30, 3), np.uint8)
    wide[:, :, 10:20] = 255  # the centre square
    turned = _as_offered(ImageSet(wide, np.array([0, 1])), np.array([4, 2]), 5)
    assert turned.images.shape == (2, 5, 5, 3)
    assert (turned.images == 255).all()
    assert turned.labels.tolist() == [4, 2]


def test_a_folder_keeps_all_its_samples_and_a_share_is_cut_out(server, tmp_path):
    root = pictures(tmp_path, train=7)
    parts = [build(server, silo("image", root, share=f"{i}/3")) for i in range(3)]
    assert [len(c.context.private_labels) for c in parts] == [7, 7, 7]  # no generic part is taken away
    assert {len(c.context.test_labels) for c in parts} == {6}
    rows = [x.numpy().tobytes() for c in parts for x in c.context.private["pixel_values"]]
    assert len(set(rows)) == 21
    with pytest.raises(BadInput, match="21 samples cannot give 30 clients 1 each"):
        build(server, silo("image", root, share="0/30"))


def test_one_line_for_what_is_missing_or_broken(server, tmp_path, caplog):
    root = pictures(tmp_path)
    with pytest.raises(BadInput, match=r"data 'folder' in .*: no training texts"):
        build(server, silo("text", root))
    (root / "images" / "test" / "LILY" / "0.png").unlink()
    (root / "images" / "test" / "LILY" / "1.png").unlink()
    client = build(server, silo("image", root))  # a class without a test sample is no fault
    assert isinstance(client.evaluate(Empty(), round=0), Scores)
    assert "lily 6/0" in describe_data(client, server.offer["class_names"])
    broken = root / "images" / "train" / "iris" / "3.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(BadInput, match=r"cannot read picture .*iris/3.png"):
        build(server, silo("image", root))
    skipping = silo("image", root, options={"on_bad": "skip"})
    with caplog.at_level("INFO", "fedloom.experiment.silo_data"):
        assert len(build(server, skipping).context.private_labels) == 17
    assert any("Unreadable pictures, left out: 1, such as " in line for line in caplog.messages)


# ----------------------------------------------------------------------------------------------------- its model


def test_what_does_not_fit_the_federation(server, tmp_path):
    own = silo("image", pictures(tmp_path))
    wide = silo("image", tmp_path, model={"width": 32})
    with pytest.raises(BadInput, match=r"model.width = 32, allowed: 16"):
        build(server, wide)
    with pytest.raises(BadInput, match=r"the server runs fedloom 7.1.0, this silo"):
        build(server, own, version="7.1.0")
    with pytest.raises(BadInput, match="unknown method 'fedmkt'"):
        build(server, own, method="fedmkt")
    with pytest.raises(BadInput, match=r"unknown key 'offer.code'"):
        build(server, own, code="import os")
    with pytest.raises(BadInput, match="patch 5 does not divide the picture's side 12"):
        build(server, silo("image", tmp_path, model={"patch": 5}))


def test_starts_from_the_public_backbone_unless_it_has_weights(server, tmp_path):
    root = texts(tmp_path / "texts")
    folder = public_backbone(server.public, server.config.clients.models("text")[0])
    assert folder is not None
    cold = server.offer | {"training": server.offer["training"] | {"warm_steps": 0}}
    client = build(SimpleNamespace(offer=cold, public=server.public), silo("text", root))
    start = load_file(folder / "backbone.safetensors")
    own = client.context.model.state_dict()
    assert set(own) - set(start) == {"head.weight", "head.bias"}
    assert all(np.array_equal(own[k].numpy(), v) for k, v in start.items())


def test_weights_of_its_own_come_before_the_public_ones(server, tmp_path):
    root = texts(tmp_path / "texts")
    client = build(server, silo("text", root))
    words = client.context.tokenizer
    words.model_max_length = int(1e30)  # as tokenizers say that have not been told
    client.context.export(tmp_path / "own")
    cold = server.offer | {"training": server.offer["training"] | {"warm_steps": 0}}
    mine = silo("text", root, model={"pretrained": str(tmp_path / "own")})
    again = build(SimpleNamespace(offer=cold, public=server.public), mine)
    assert again.context.tokenizer.model_max_length == server.offer["tokens"]
    public = load_file(public_backbone(server.public, server.config.clients.models("text")[0]) / "backbone.safetensors")
    word = "backbone.bert.embeddings.word_embeddings.weight"
    own = again.context.model.state_dict()[word]
    assert torch.equal(own, client.context.model.state_dict()[word])
    assert not np.array_equal(own.numpy(), public[word])
    with pytest.raises(BadInput, match="cannot load a tokenizer"):
        build(server, silo("text", root, model={"pretrained": str(tmp_path / "nothing")}))


@pytest.mark.parametrize("modality", ["image", "text"])
def test_exported_as_transformers_loads_it(server, tmp_path, modality):
    from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification

    root = pictures(tmp_path / "data") if modality == "image" else texts(tmp_path / "data")
    client = build(server, silo(modality, root))
    out = tmp_path / "state" / "model"
    before = client.state()[0]
    for _ in range(2):  # an older one is replaced
        client.context.export(out)
    assert all(np.array_equal(v, client.state()[0][k]) for k, v in before.items())
    assert [p.name for p in out.parent.iterdir()] == ["model"]
    auto = AutoModelForImageClassification if modality == "image" else AutoModelForSequenceClassification
    model = auto.from_pretrained(out).eval()
    assert model.config.id2label[0] == "poppy"
    with torch.no_grad():
        logits = model(**client.context.ready(client.context.test)).logits
    torch.testing.assert_close(logits, client.context.look(client.context.test)[1], atol=1e-5, rtol=1e-5)
    assert (out / ("tokenizer.json" if modality == "text" else "preprocessor_config.json")).is_file()
    if modality == "image":
        given = silo("image", root, model={"pretrained": str(out)})
        larger = build(server, given, image_size=24)  # and shows the model its own 12
        assert larger.context.test["pixel_values"].shape[-1] == 24
        assert larger.evaluate(Empty(), round=1).samples == len(larger.context.test_labels)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_answers_the_verbs_of_fedmmkt(server, tmp_path, modality):
    """Behind the wire contract, as the resident worker has it."""
    root = pictures(tmp_path) if modality == "image" else texts(tmp_path)
    arguments = {"silo": silo(modality, root), "offer": server.offer, "public": str(server.public)}
    method, _ = load_method("fedmmkt")
    contract = method.contract(method.settings(**server.offer["settings"]))
    spec = ClientSpec("clinic", modality, "fedloom.experiment.silo_client:build_silo_client", arguments)
    client = ClientHost(spec, contract).client
    rng = np.random.default_rng(0)
    probe = {
        "image": FedMMKTPictures(rng.integers(0, 256, (10, SIDE, SIDE, 3), dtype=np.uint8), 1),
        "text": FedMMKTCaptions(tuple(f"{n} red petals" for n in range(10)), 1),
    }[modality]
    opinion = client.infer(probe, round=1)
    assert isinstance(opinion, FedMMKTOutputs)
    assert opinion.representations.shape == (10, server.offer["width"])
    contract.check("infer", opinion, "up")
    kept = np.arange(10) % 2 == 0
    lesson = FedMMKTTargets(kept, opinion.labels[kept], opinion.representations[kept])
    before = client.state()[0]
    done = client.retrain(lesson, round=1)
    contract.check("retrain", done, "up")
    assert np.isfinite(done.loss)
    assert any(not np.array_equal(v, before.get(k)) for k, v in client.state()[0].items())


def test_damaged_public_files_are_named(server, tmp_path):
    root = texts(tmp_path / "texts")
    learner = server.config.clients.models("text")[0]
    place = tmp_path / "public"
    mine = SimpleNamespace(offer=server.offer, public=place)

    def start(files):
        unpack_public(files, place)
        return build(mine, silo("text", root))

    index = {backbone_name(learner): "../elsewhere"}
    cut = {**server.files, "backbones/index.json": np.frombuffer(json.dumps(index).encode(), np.uint8)}
    with pytest.raises(BadInput, match=r"index.json: '../elsewhere' is no folder's name"):
        start(cut)
    with pytest.raises(BadInput, match="no index of backbones"):
        start({**server.files, "backbones/index.json": np.frombuffer(b"[1]", np.uint8)})
    weights = f"backbones/{server.assets.backbones[backbone_name(learner)].name}/backbone.safetensors"
    with pytest.raises(BadInput, match="does not fit a bert of these sizes"):
        start({**server.files, weights: server.files[weights][:-40]})
    with pytest.raises(BadInput, match=r"holds no backbone.safetensors"):
        start({k: v for k, v in server.files.items() if k != weights})
    with pytest.raises(BadInput, match="tokenizer: cannot load a tokenizer"):
        start({k: v for k, v in server.files.items() if not k.startswith("tokenizer/")})


# ------------------------------------------------------------------- pairs, and texts with classes of their own


@pytest.fixture(scope="module")
def paired(tmp_path_factory):
    """The server's side of FedAFD: image clients of ten classes, text clients of five, image-text clients."""
    few = {"size": SIDE, **dict.fromkeys(("images", "texts", "test"), 40), "generic": 60, "reference": 20}
    options = {**few, "pairs": 24, "test_pairs": 10, "text_labels": "family"}
    values = {
        "method": "fedafd",
        "data": {"partition": "iid", "minimum": 1, "options": options},
        "clients": {"pair": [{**MODELS["pair"], "count": 2}]},
        "evaluation": {"fold": 5},
        "settings": STEPS,
    }
    config, _, _ = completed(load_config(preset="smoke", values=values))
    scene = cached_dataset(config.data)
    assets = prepare(config, scene, frozenset({"backbones"}), Observer(), lambda line: None)[0]
    public = tmp_path_factory.mktemp("paired") / "public"
    unpack_public(pack_public(assets), public)
    offer = json.loads(json.dumps(make_offer(config, scene.class_names, SIDE, scene.text_class_names)))
    return SimpleNamespace(config=config, scene=scene, assets=assets, public=public, offer=offer)


def flora(server, modality, **data):
    """A silo of the run's own data."""
    options = dict(server.config.data.options)
    return silo(modality, model=data.pop("model", None), name="flora", options=options, **data)


def lesson(server, modality):
    """The public set and a round's message, as FedAFD's server has them for a client of that modality."""
    generic, kinds = server.scene.public, kinds_of(modality)
    public = {"image": generic.images[:10], "text": generic.captions[:10]}
    rows = np.random.default_rng(0).normal(size=(2, 10, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
    arrays = {}
    for m in kinds:
        delivery = Delivery("changes", 1.0)
        learner = server_context(server.config, SIDE, str(server.assets.tokenizer), m).model
        delivery.advance(weights_of(learner))
        parcel = delivery.parcel(0)
        arrays |= {f"{m}.{k}": v for k, v in parcel.arrays.items()}
    shown = PublicSet("garden", *(public[m] if m in kinds else None for m in ("image", "text")))
    return shown, Alignment("garden", rows[0], rows[1], arrays, parcel.base, parcel.version)


@pytest.mark.parametrize("modality", ["image", "text", "pair"])
def test_fedafd_at_a_silo_is_that_of_the_local_client(paired, modality):
    """To the bit, also after a round with the server's encoders."""
    specs = client_specs(paired.config, "fedafd", paired.config.settings, paired.assets)
    spec = next(s for s in specs if s.name == f"{modality}-1")
    local = build_client(name=spec.name, **spec.arguments)
    model = paired.config.clients.models(modality)[1].model_dump() | {"unit": False}  # the method demands it
    client = build(paired, flora(paired, modality, model=model, share="1/2"), name=spec.name)
    assert same(client, local)
    shown, message = lesson(paired, modality)
    said = []
    for each in (client, local):
        each.hold(shown, round=1)
        said.append(each.learn(message, round=1))
    assert same(client, local)
    assert all(np.array_equal(getattr(said[0], m), getattr(said[1], m)) for m in kinds_of(modality))
    one, other = (each.evaluate(Empty(), round=1) for each in (client, local))
    assert (one.accuracy, one.fold) == (other.accuracy, other.fold)
    assert one.fold == (5 if modality == "pair" else None)


def test_what_the_server_offers_of_its_own_models(server, paired):
    assert (server.offer["server"], server.offer["unit"], server.offer["text_class_names"]) == ({}, False, [])
    offer = validate(Offer, paired.offer)
    assert {m: learner.arch for m, learner in offer.server.items()} == {"image": "beit", "text": "distilbert"}
    assert offer.unit
    assert offer.names_of("text") == paired.scene.text_class_names
    for m in ("image", "text"):
        there = server_context(paired.config, SIDE, str(paired.assets.tokenizer), m).model.state_dict()
        here = _server_like(validate(SiloSettings, flora(paired, m)), offer, paired.public, m).model.state_dict()
        assert all(torch.equal(here[k], v) for k, v in there.items())
    owned = load_config(preset="smoke", values={"method": "fedafd"}, overrides=["server.text={arch: gru, width: 16}"])
    text = owned.server.text.model_copy(update={"pretrained": "vectors.txt"})
    own = owned.model_copy(update={"server": owned.server.model_copy(update={"text": text})})
    with pytest.raises(BadInput, match=r"fedafd sends the server's text model .* set server.text to a model"):
        make_offer(own, ("a", "b"), SIDE)
    named = {**paired.offer["server"], "text": {**paired.offer["server"]["text"], "pretrained": "hub/name"}}
    with pytest.raises(BadInput, match="a silo loads no weights of the server's naming"):
        validate(Offer, paired.offer | {"server": named})


def test_texts_keep_their_own_classes(paired, tmp_path):
    names = paired.offer["text_class_names"]
    client = build(paired, silo("text", texts(tmp_path, (names[3].upper(), names[1]))))
    assert client.context.model.head.out_features == 5
    assert sorted(set(client.context.private_labels.tolist())) == [1, 3]
    assert f"of 2 of 5 classes, training/test: {names[1]} 5/5" in describe_data(client, names)
    with pytest.raises(BadInput, match="class 'IRIS' is not one of the federation's"):
        build(paired, silo("text", texts(tmp_path / "other")))
    whole = build(paired, flora(paired, "text"))
    assert np.array_equal(whole.context.private_labels.numpy(), paired.scene.train["text"].labels)


def captioned(folder, train=6, test=2, side=20, last="test"):
    """Parquet files of captioned pictures, two captions each."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True, exist_ok=True)
    for part, n in (("train", train), (last, test)):
        rows = []
        for i in range(n):
            file = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(file, "PNG")
            rows.append({"image": file.getvalue(), "captions": [f"{part} flower {i}", f"red petals {i}"]})
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{part}.parquet")
    return folder


@pytest.mark.parametrize("last", ["test", "val"])
def test_a_silo_of_captioned_pictures(paired, tmp_path, last):
    root = captioned(tmp_path / "album", last=last)
    client = build(paired, silo("pair", root, name="caption_parquet"))
    assert client.context.pictures["pixel_values"].shape == (6, 3, SIDE, SIDE)
    assert client.context.private["picture"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    wanted = "clinic: 6 training pictures with 12 captions and 2 test pictures with 4 captions"
    assert describe_data(client, ()) == wanted
    before = client.evaluate(Empty(), round=0)
    assert before.recalls.shape == (6,)
    assert before.samples == 2
    part = build(paired, silo("pair", root, name="caption_parquet", share="0/3"))
    assert (len(part.context.pictures["pixel_values"]), len(part.context.samples["test"])) == (2, 2)
    bigger = silo("pair", root, name="caption_parquet", options={"size": 16})
    assert build(paired, bigger).context.pictures["pixel_values"].shape == (6, 3, SIDE, SIDE)


def test_a_dual_encoder_is_exported_tower_by_tower(paired, tmp_path):
    from transformers import AutoModelForImageClassification, AutoTokenizer

    client = build(paired, flora(paired, "pair"))
    client.export(tmp_path / "model")
    found = {str(p.relative_to(tmp_path / "model")) for p in (tmp_path / "model").rglob("*.json")}
    wanted = {"matching.json", "image/config.json", "image/preprocessor_config.json", "text/tokenizer.json"}
    assert wanted <= found
    image = AutoModelForImageClassification.from_pretrained(tmp_path / "model" / "image").eval()
    pixels = client.context.ready(client.context.test)["pixel_values"]
    with torch.no_grad():
        rows = torch.nn.functional.normalize(image(pixel_values=pixels).logits)
    torch.testing.assert_close(rows, client.context.encode({"pixel_values": pixels}), atol=1e-5, rtol=1e-5)
    assert AutoTokenizer.from_pretrained(tmp_path / "model" / "text").model_max_length == 24
    mine = flora(paired, "pair", model={"pretrained": f"{tmp_path / 'model' / 'image'}+"})
    larger = build(paired, mine, image_size=24)  # shows the tower its own 12
    assert larger.context.pictures["pixel_values"].shape[-1] == 24
    assert larger.evaluate(Empty(), round=1).samples == len(larger.context.samples["test"])


def test_each_tower_starts_from_what_there_is(paired, tmp_path):
    """One with weights of its own, the other from the public backbone."""
    client = build(paired, flora(paired, "pair"))
    client.export(tmp_path / "model")
    mine = flora(paired, "pair", model={"pretrained": f"{tmp_path / 'model' / 'image'}+"})
    said = describe_silo(mine)["model"]
    assert said["pretrained"] == f"{AT_THE_SILO}+"
    cold = {"training": {**paired.offer["training"], "warm_steps": 0}}
    image, text = towers(build(paired, mine, **cold).context.model)
    trained, _ = towers(client.context.model)
    own = image.backbone.state_dict()
    assert all(torch.equal(v, own[k]) for k, v in trained.backbone.state_dict().items())
    bert = paired.config.clients.models("pair")[0].towers()[1]
    start = load_file(public_backbone(paired.public, bert) / "backbone.safetensors")
    assert all(np.array_equal(text.state_dict()[k].numpy(), v) for k, v in start.items())


def test_one_line_for_what_a_silo_of_pairs_lacks(server, paired, tmp_path):
    with pytest.raises(BadInput, match=r"data 'flora': no training pairs; set data.options.pairs"):
        build(paired, silo("pair", name="flora"))
    with pytest.raises(BadInput, match=r"data 'folder' in .*: no training pairs; sets of pairs: .*flickr30k"):
        build(paired, silo("pair", pictures(tmp_path / "plain")))
    root = captioned(tmp_path / "album")
    with pytest.raises(BadInput, match=r"for modality: pair; this silo has images"):
        build(paired, silo("image", root, name="caption_parquet"))
    (root / "test.parquet").unlink()
    with pytest.raises(BadInput, match=r"no test pairs \(part train, and part test or val\)"):
        build(paired, silo("pair", root, name="caption_parquet"))
    with pytest.raises(BadInput, match="fedmmkt has no part for image-text clients"):
        build(server, silo("pair", root, name="caption_parquet"))
    with pytest.raises(BadInput, match="'vit' is no pair model, allowed: vit\\+bert"):
        describe_silo(silo("pair", model={"arch": "vit"}))
    with pytest.raises(BadInput, match=r"model.*pair: unit = True"):
        build(paired, silo("image", pictures(tmp_path / "plain"), model={"arch": "pair"}))
    with pytest.raises(BadInput, match="the run has no pictures, allowed: 'text'"):
        build(paired, silo("image", tmp_path / "plain"), image_size=0)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"name": "coko"}, "unknown data set 'coko'. Did you mean 'coco'?"),
        ({"name": "coco"}, "set of pairs 'coco' needs root"),
        ({"name": "coco", "root": "x", "options": {"restvall": 1}}, "Did you mean 'restval'?"),
        ({"name": "flora", "options": {"pears": 1}}, "Did you mean 'pairs'?"),
    ],
)
def test_a_reader_that_there_is_not(data, told):
    with pytest.raises(BadInput) as error:
        check_data(SiloData(**data))
    assert told in str(error.value)


# -------------------------------------------------------------------------------- samples of two kinds with one label


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
