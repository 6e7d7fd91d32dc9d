"""Silos of image-text pairs, and of texts with classes of their own."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from fedloom.config import load_config
from fedloom.config.silo import SiloData, SiloSettings
from fedloom.config.trees import validate
from fedloom.errors import BadInput
from fedloom.experiment.clients import build_client, client_specs, server_context
from fedloom.experiment.datasets import cached_dataset
from fedloom.experiment.pretraining import prepare
from fedloom.experiment.public_files import public_backbone
from fedloom.experiment.resolve import completed
from fedloom.experiment.silo_client import _server_like, describe_data, describe_silo, pack_public, unpack_public
from fedloom.experiment.silo_data import check_data
from fedloom.experiment.silo_offer import AT_THE_SILO, Offer, make_offer
from fedloom.methods.base import Empty
from fedloom.methods.delivery import Delivery, weights_of
from fedloom.methods.fedafd import FedAFDTargets as Alignment
from fedloom.methods.retrieval_messages import PublicSet, kinds_of
from fedloom.models.clients.client_model import towers
from fedloom.progress import Observer
from small_silos import MODELS, SIDE, STEPS, build, pictures, same, silo, texts


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
