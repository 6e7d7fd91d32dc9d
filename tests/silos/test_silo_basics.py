"""A real silo's client: its own classes, sizes and weights, the public files, and the same bits as a local client."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from fedloom.config.trees import validate
from fedloom.data.containers import ImageSet
from fedloom.errors import BadInput
from fedloom.experiment.clients import build_client, client_specs
from fedloom.experiment.pretraining import backbone_name
from fedloom.experiment.public_files import public_backbone
from fedloom.experiment.silo_client import build_silo_client, describe_data, describe_silo, unpack_public
from fedloom.experiment.silo_data import _as_offered, match_classes
from fedloom.experiment.silo_offer import AT_THE_SILO, Offer, make_offer
from fedloom.federation.host import ClientHost, ClientSpec
from fedloom.methods.base import Empty, Scores, load_method
from fedloom.methods.fedmmkt import FedMMKTCaptions, FedMMKTOutputs, FedMMKTPictures, FedMMKTTargets
from small_silos import COLOURS, SIDE, build, pictures, same, silo, texts

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
