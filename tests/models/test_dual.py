"""Dual encoders: a picture tower and a text tower for clients that hold pairs."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer

import given_models
from fedloom.config.archs import is_dual
from fedloom.config.models import ModelSettings
from fedloom.data.pairs import ImageTextPairs
from fedloom.experiment.client_builder import features_once, start_from
from fedloom.experiment.pretraining import backbone_name
from fedloom.methods.retrieval_context import RetrievalContext
from fedloom.models.clients.build import build_client_model
from fedloom.models.clients.client_model import ClientModel, towers
from fedloom.models.clients.dual_encoder import DualEncoder
from fedloom.models.clients.mobilenet import FeatureClientModel, load_exported
from fedloom.models.clients.text import tokenize
from fedloom.models.pictures import to_float
from tiny_mobilenet import tiny, write

TEXTS = ["a red flower", "iris", "a blue flower", "round petals", "a picture of iris", "red petals"]
SIZES = {"hidden": 16, "layers": 1, "heads": 2, "patch": 6, "width": 10}


def settings_of(arch="resnet+gru", **more):
    return ModelSettings(arch=arch, **{**SIZES, **more})


def dual_of(tokenizer, arch="resnet+gru", seed=1, **more):
    torch.manual_seed(seed)
    learner = build_client_model(settings_of(arch, **more), classes=3, image_size=12, tokenizer=tokenizer)
    assert isinstance(learner, DualEncoder)
    assert learner.width == settings_of(arch, **more).width
    return learner.eval()


@pytest.fixture
def inputs(tokenizer, pictures):
    return {"pixel_values": to_float(pictures)}, tokenize(tokenizer, TEXTS)


def lengths(rows):
    return torch.linalg.vector_norm(rows, dim=1)


@pytest.mark.parametrize("arch", ["resnet+gru", "vit+bert", "beit+roberta"])
def test_rows_of_unit_length(arch, tokenizer, inputs):
    dual = dual_of(tokenizer, arch)
    for given, tower in zip(inputs, towers(dual)):
        with torch.no_grad():
            rows, raw = dual.encode(**given), tower.encode(**given)
        assert rows.shape == (len(TEXTS), 10)
        assert torch.allclose(lengths(rows), torch.ones(len(TEXTS)))
        assert torch.allclose(rows * lengths(raw)[:, None], raw, atol=1e-6)
        assert torch.equal(dual(**given), rows)
    assert towers(dual) == [dual.image, dual.text]


def test_one_modality_at_a_time(tokenizer, inputs):
    dual = dual_of(tokenizer)
    with pytest.raises(ValueError, match="given attention_mask, input_ids, pixel_values"):
        dual.encode(**inputs[0], **inputs[1])
    with pytest.raises(ValueError, match="given nothing"):
        dual.encode()
    with pytest.raises(ValueError, match="width 10, texts' of 7"):
        DualEncoder(dual.image, dual_of(tokenizer, width=7).text)


def test_the_loss_reaches_both_towers_and_its_own_numbers(tokenizer, inputs):
    dual = dual_of(tokenizer)
    dual.matching(dual.encode(**inputs[0]), dual.encode(**inputs[1])).backward()
    for part in (dual.image, dual.text, dual.matching):
        gradients = [p.grad for p in part.parameters() if p.requires_grad]
        assert all(g is not None and g.isfinite().all() for g in gradients)
        assert sum(g.abs().sum() for g in gradients) > 0
    assert {"matching.scale", "matching.shift"} <= set(dual.state_dict())
    assert not any("head" in name for name in dual.state_dict())


def test_same_seed_same_bits_whatever_the_classes(tokenizer):
    one = dual_of(tokenizer)
    torch.manual_seed(1)
    two = build_client_model(settings_of(), classes=7, image_size=12, tokenizer=tokenizer)
    torch.manual_seed(1)
    first = build_client_model(settings_of().towers()[0], classes=1, image_size=12)
    assert one.state_dict().keys() == two.state_dict().keys()
    for (name, a), b in zip(one.state_dict().items(), two.state_dict().values()):
        assert torch.equal(a, b), name
    for name, weights in one.image.state_dict().items():  # the picture tower is drawn first
        assert torch.equal(weights, first.state_dict()[name]), name


@pytest.mark.parametrize(("arch", "width"), [("resnet+gru", 10), ("vit+bert", 16)])
def test_exported_towers_give_the_rows(arch, width, tokenizer, inputs, tmp_path):
    import transformers as hf

    dual = dual_of(tokenizer, arch, width=width)
    before = {k: v.clone() for k, v in dual.state_dict().items()}
    with torch.no_grad():
        dual.matching.scale.fill_(7.5)
        dual.export(tmp_path, ("a", "b"))
        for name, given, auto in zip(
            ("image", "text"),
            inputs,
            (hf.AutoModelForImageClassification, hf.AutoModelForSequenceClassification),
        ):
            logits = auto.from_pretrained(tmp_path / name, local_files_only=True).eval()(**given).logits
            assert torch.allclose(logits / lengths(logits)[:, None], dual.encode(**given), atol=1e-5)
    about = json.loads((tmp_path / "matching.json").read_text())
    assert (about["scale"], about["shift"]) == (7.5, 15.0)
    dual.matching.scale.data.fill_(15.0)
    for name, weights in dual.state_dict().items():  # exporting leaves it as it was
        assert torch.equal(weights, before[name]), name
    folders = f"{tmp_path / 'image'}+{tmp_path / 'text'}"
    again = dual_of(None, arch, width=width, pretrained=folders)
    for old, new, given in zip(towers(dual), towers(again), inputs):
        with torch.no_grad():
            assert torch.allclose(old.backbone(**given).logits, new.backbone(**given).logits, atol=1e-6)


def test_on_a_frozen_mobilenet(tokenizer, inputs, tmp_path):
    stored = f"{write(tmp_path / 'net', *tiny())}.npz"
    dual = dual_of(tokenizer, "frozen-mobilenet+gru", pretrained=f"{stored}+", side=32)
    with torch.no_grad():
        rows = dual.encode(**inputs[0])
        features = dual.image.frozen_features(inputs[0]["pixel_values"])
        assert torch.equal(dual.encode(features=features), rows)
        dual.export(tmp_path / "out")
        again, names = load_exported(tmp_path / "out" / "image", stored)
        raw = again(**inputs[0])
    assert names == ()
    assert torch.allclose(raw / lengths(raw)[:, None], rows, atol=1e-6)
    assert torch.allclose(lengths(rows), torch.ones(len(rows)))


def test_a_site_of_pairs_without_augmentation_looks_at_each_picture_once(tokenizer, tmp_path, monkeypatch):
    """On what was seen once it learns and is scored as on the pictures themselves."""
    monkeypatch.setenv("FEDLOOM_CACHE", str(tmp_path / "cache"))
    stored = f"{write(tmp_path / 'net', *tiny())}.npz"
    images = np.random.default_rng(2).integers(0, 256, (12, 12, 12, 3), dtype=np.uint8)
    captions = tuple(f"{text} {n % 5}" for n, text in enumerate(TEXTS * 4))
    pairs = ImageTextPairs(images, captions, np.arange(24) // 2)

    def site(augment=False):
        return RetrievalContext(
            fold=4,
            name="pair-0",
            modality="pair",
            model=dual_of(tokenizer, "frozen-mobilenet+gru", pretrained=f"{stored}+", side=32),
            tokenizer=tokenizer,
            private=pairs,
            test=pairs,
            seed=0,
            batch=8,
            augment=augment,
            features=features_once,
        )

    words = {"input_ids", "attention_mask"}
    assert set(site(augment=True).pictures) == {"pixel_values"}
    once, plain = site(), site()
    assert set(once.pictures) == {"features"}
    assert set(once.test) == {"features"} | words
    pixels = {"pixel_values": to_float(images)}
    plain.pictures, plain.test = pixels, {**pixels, **tokenize(tokenizer, captions)}
    start = {k: v.clone() for k, v in once.model.state_dict().items()}
    losses = [(s.train_private(6, 1), s.train_private(2, 2)) for s in (once, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for (name, one), two in zip(once.model.state_dict().items(), plain.model.state_dict().values()):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
        assert name.startswith("matching") or not torch.equal(one, start[name])
    views = [s.encode(s.test) for s in (once, plain)]
    torch.testing.assert_close(*views, rtol=1e-4, atol=1e-5)
    one, two = (s.score(z) for s, z in zip((once, plain), views))
    assert one["accuracy"] == two["accuracy"]
    assert np.array_equal(one["recalls"], two["recalls"])
    assert np.array_equal(one["folded"], two["folded"])

    monkeypatch.setattr(FeatureClientModel, "frozen_features", lambda *a: pytest.fail("looked again"))
    again = site()
    assert torch.equal(again.pictures["features"], once.pictures["features"])
    assert set(again.stored(images)) == {"features"}  # as a public set is taken in
    assert set(again.stored(captions)) == words


def test_frozen_towers_of_a_site_look_at_pictures_and_texts_once(tmp_path, monkeypatch):
    """What is learned are two projectors, on features of both, as on the pictures and texts themselves."""
    monkeypatch.setenv("FEDLOOM_CACHE", str(tmp_path / "cache"))
    folders = [str(given_models.resnet(tmp_path / "resnet")), str(given_models.bert(tmp_path / "bert"))]
    words = AutoTokenizer.from_pretrained(folders[1])
    words.model_max_length = 12
    images = np.random.default_rng(2).integers(0, 256, (6, 12, 12, 3), dtype=np.uint8)
    captions = tuple(f"{text} {n % 5}" for n, text in enumerate(TEXTS * 2))
    pairs = ImageTextPairs(images, captions, np.arange(12) // 2)

    def site():
        model = dual_of(words, "resnet+bert", pretrained="+".join(folders), tune="head")
        given = {"private": pairs, "test": pairs, "seed": 0, "batch": 8, "augment": False, "features": features_once}
        return RetrievalContext(fold=4, name="pair-0", modality="pair", model=model, tokenizer=words, **given)

    once, plain = site(), site()
    assert set(once.private) == {"text_features", "picture"}
    assert set(once.test) == {"features", "text_features"}
    pixels, texts = {"pixel_values": to_float(images)}, tokenize(words, captions)
    plain.pictures, plain.test = pixels, {**pixels, **texts}
    plain.private = {**texts, "picture": plain.private["picture"]}
    losses = [s.train_private(6, 1) for s in (once, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for (name, one), two in zip(once.model.named_parameters(), plain.model.parameters()):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)
        assert one.requires_grad != (".backbone." in name)
    torch.testing.assert_close(once.encode(once.test), plain.encode(plain.test), rtol=1e-3, atol=1e-4)
    once.model.export(tmp_path / "out")
    assert (tmp_path / "out" / "text" / "config.json").is_file()


def test_half_of_it_from_word_vectors(inputs, tmp_path):
    path = tmp_path / "v.txt"
    path.write_text("a 1 2 3\nflower 4 5 6\n")
    dual = dual_of(None, pretrained=f"+{path}")
    assert dual.text.backbone.embedding.weight.shape == (7, 3)
    assert dual.encode(**inputs[0]).shape == (len(TEXTS), 10)


def test_towers_start_from_public_backbones(tokenizer, tmp_path):
    """A tower of a dual, one with `unit` and a plain learner of equal sizes have one public backbone."""
    plain, unit = settings_of("gru"), settings_of("gru", unit=True)
    picture, text = settings_of().towers()
    names = {backbone_name(s) for s in (*plain.towers(), *unit.towers(), text)}
    assert names == {backbone_name(plain)}
    assert backbone_name(picture) == backbone_name(settings_of("resnet"))
    bodies = []
    for i, s in enumerate((picture, text)):
        torch.manual_seed(5 + i)
        body = build_client_model(s, classes=3, image_size=12, tokenizer=tokenizer).state_dict()
        bodies.append({k: v.contiguous() for k, v in body.items() if not k.startswith("head.")})
        (tmp_path / str(i)).mkdir()
        save_file(bodies[-1], tmp_path / str(i) / "backbone.safetensors")
    dual = dual_of(tokenizer)
    start_from(dual, [tmp_path / "0", tmp_path / "1"])
    for tower, body in zip(towers(dual), bodies):
        assert isinstance(tower, ClientModel)
        assert all(torch.equal(tower.state_dict()[k], v) for k, v in body.items())


@pytest.mark.parametrize(
    ("given", "want"),
    [
        (None, [None, None]),
        ("+", [None, None]),
        ("a+b", ["a", "b"]),
        ("+b", [None, "b"]),
        ("a+", ["a", None]),
    ],
)
def test_settings_of_towers(given, want):
    both = settings_of("vit+gru", pretrained=given)
    assert [t.arch for t in both.towers()] == ["vit", "gru"]
    assert [t.pretrained for t in both.towers()] == want
    assert ModelSettings.model_validate_json(both.model_dump_json()) == both
    assert is_dual(both.arch)


@pytest.mark.parametrize(
    ("arch", "more", "said"),
    [
        ("vit+pair", {}, "allowed: vit, .*pair, or IMAGE\\+TEXT"),
        ("bert+vit", {}, "allowed: vit"),
        ("vit+", {}, "allowed: vit"),
        ("gpt", {}, "allowed: vit"),
        ("vit+gru", {"pretrained": "a"}, "expected 'IMAGE\\+TEXT', either may be empty"),
        ("vit+gru", {"tune": "bias"}, "vit\\+gru: tune = 'bias', allowed: all, head"),
        (
            "resnet+bert",
            {"tune": "head"},
            "resnet\\+bert: tune = 'head' keeps both towers as pretrained, and resnet cannot",
        ),
        ("resnet+gru", {"tune": "head", "pretrained": "a+b"}, "and gru cannot be"),
        ("vit+gru", {"hidden": 18, "heads": 4}, "4 heads do not divide the width 18"),
        ("resnet+gru", {"hidden": 17}, "hidden = 17"),
        ("frozen-mobilenet+gru", {"pretrained": "+x"}, "frozen-mobilenet needs `pretrained`"),
    ],
)
def test_what_a_dual_encoder_cannot_be(arch, more, said):
    with pytest.raises(ValueError, match=said):
        settings_of(arch, **more)


def test_settings_with_a_side_only_for_a_mobilenet():
    both = settings_of("frozen-mobilenet+bert", pretrained="n.npz+", side=64)
    assert both.model_dump()["side"] == 64
    assert both.towers()[0].side == 64
    assert both.towers()[1] == settings_of("bert")
    assert np.all(["side" not in settings_of(a).model_dump() for a in ("vit+gru", "resnet")])
