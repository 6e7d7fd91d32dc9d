"""Clients' models: every architecture built, cut, exported and loaded again by the library's own classes."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file

from fedloom.config.models import ModelSettings
from fedloom.errors import BadInput
from fedloom.models.clients.build import build_client_model
from fedloom.models.clients.client_model import UNIT_SCALE, ClientModel
from fedloom.models.clients.mobilenet import load_exported
from fedloom.models.clients.text import tokenize
from fedloom.models.pictures import to_float
from tiny_mobilenet import tiny, write

IMAGE = ("vit", "beit", "resnet", "deit", "swin", "convnext")
TEXT = ("bert", "distilbert", "roberta", "albert")
HIDDEN, CLASSES = 16, 3
NAMES = ("iris", "rose", "tulip")


def learner_of(arch, tokenizer, width=HIDDEN, **more):
    torch.manual_seed(1)
    sizes = {"hidden": HIDDEN, "layers": 1, "heads": 2, "patch": 6, "width": width, **more}
    if arch in ("swin", "convnext"):  # a third stage has nothing left of these small pictures
        sizes["stages"] = (1, 1)
    settings = ModelSettings(arch=arch, **sizes)
    return build_client_model(settings, classes=CLASSES, image_size=12, tokenizer=tokenizer).eval()


def inputs_of(arch, tokenizer, pictures):
    if arch in IMAGE:
        return {"pixel_values": to_float(pictures)}
    return tokenize(tokenizer, ["a red flower", "iris", "a blue flower with round petals"])


@pytest.mark.parametrize("width", [HIDDEN, 10])
@pytest.mark.parametrize("arch", IMAGE + TEXT)
def test_built_cut_and_exported(arch, width, tokenizer, pictures, tmp_path):
    learner, inputs = learner_of(arch, tokenizer, width), inputs_of(arch, tokenizer, pictures)
    n = len(next(iter(inputs.values())))
    with torch.no_grad():
        z, logits = learner.encode(**inputs), learner(**inputs)
        assert z.shape == (n, width)
        assert torch.equal(learner.classify(z), logits)
        assert torch.equal(learner.head(z), logits)
        assert isinstance(learner.projector, torch.nn.Linear) == (width != HIDDEN)
        learner.export(tmp_path, NAMES)
        assert torch.equal(learner(**inputs), logits)  # exporting leaves the learner as it was
        kind = "Image" if arch in IMAGE else "Sequence"
        auto = getattr(transformers, f"AutoModelFor{kind}Classification")
        stock = auto.from_pretrained(tmp_path, local_files_only=True).eval()
        assert torch.allclose(stock(**inputs).logits, logits, atol=1e-5)
    assert type(stock).__module__.startswith("transformers.models")
    assert stock.config.id2label == dict(enumerate(NAMES))
    assert stock.config.label2id == {name: i for i, name in enumerate(NAMES)}


@pytest.mark.parametrize("arch", IMAGE + TEXT)
def test_pretrained_folder(arch, tokenizer, pictures, tmp_path):
    first, inputs = learner_of(arch, tokenizer), inputs_of(arch, tokenizer, pictures)
    first.export(tmp_path, NAMES)
    again = learner_of(arch, None, width=7, pretrained=str(tmp_path))
    with torch.no_grad():
        assert torch.allclose(first.backbone(**inputs).logits, again.backbone(**inputs).logits, atol=1e-6)
        assert again(**inputs).shape == (len(next(iter(inputs.values()))), CLASSES)
    assert isinstance(again.projector, torch.nn.Linear)


@pytest.mark.parametrize(("saved", "wanted"), [("vit", "beit"), ("bert", "roberta")])
def test_pretrained_folder_of_another_architecture(saved, wanted, tokenizer, tmp_path):
    learner_of(saved, tokenizer).export(tmp_path, NAMES)
    with pytest.raises(BadInput, match=f"holds a {saved}, not a {wanted}"):
        learner_of(wanted, tokenizer, pretrained=str(tmp_path))


def test_pretrained_folder_that_is_not_there(tokenizer, tmp_path):
    with pytest.raises(BadInput, match="nowhere"):
        learner_of("vit", tokenizer, pretrained=str(tmp_path / "nowhere"))


def test_bad_sizes(tokenizer):
    with pytest.raises(BadInput, match="patch 5 does not divide the picture's side 12"):
        learner_of("vit", tokenizer, patch=5)
    with pytest.raises(BadInput, match="bert needs a tokenizer"):
        learner_of("bert", None)


def test_a_head_that_is_no_linear_layer(tokenizer):
    backbone = learner_of("vit", tokenizer).backbone
    with pytest.raises(BadInput, match="Identity"):
        ClientModel(backbone, "vit", CLASSES, HIDDEN)


def test_same_stream_same_weights(tokenizer):
    one, two = learner_of("roberta", tokenizer), learner_of("roberta", tokenizer)
    for (name, a), b in zip(one.state_dict().items(), two.state_dict().values()):
        assert torch.equal(a, b), name


def test_rows_do_not_depend_on_their_neighbours(tokenizer):
    learner, texts = learner_of("bert", tokenizer), ["iris", "a red flower with five petals"]
    with torch.no_grad():
        both, one = learner(**tokenize(tokenizer, texts)), learner(**tokenize(tokenizer, texts[:1]))
    assert torch.allclose(both[:1], one, atol=1e-6)


# ------------------------------------------------------------------------------------------------ unit length


@pytest.mark.parametrize("width", [HIDDEN, 10])
@pytest.mark.parametrize("arch", ["resnet", "roberta"])
def test_unit_rows_and_their_export(arch, width, tokenizer, pictures, tmp_path):
    learner, inputs = learner_of(arch, tokenizer, width, unit=True), inputs_of(arch, tokenizer, pictures)
    plain = learner_of(arch, tokenizer, width)
    with torch.no_grad():
        z, raw, logits = learner.encode(**inputs), plain.encode(**inputs), learner(**inputs)
        assert torch.allclose(z.norm(dim=1), torch.ones(len(z)))
        assert torch.allclose(z * raw.norm(dim=1, keepdim=True), raw, atol=1e-6)
        assert torch.equal(logits, learner.head(UNIT_SCALE * z))
        learner.export(tmp_path, NAMES)
        assert torch.equal(learner(**inputs), logits)
        kind = "Image" if arch in IMAGE else "Sequence"
        auto = getattr(transformers, f"AutoModelFor{kind}Classification")
        rows = auto.from_pretrained(tmp_path, local_files_only=True).eval()(**inputs).logits
    head, about = load_file(tmp_path / "head.safetensors"), json.loads((tmp_path / "head.json").read_text())
    assert rows.shape == (len(z), width)
    assert torch.allclose(rows, raw, atol=1e-5)
    said = about["scale"] * rows / rows.norm(dim=1, keepdim=True) @ head["weight"].T + head["bias"]
    assert torch.allclose(said, logits, atol=1e-5)
    assert (about["classes"], about["scale"]) == (list(NAMES), 16)


def test_a_zero_row_stays_finite(tokenizer, pictures):
    learner = learner_of("vit", tokenizer, 10, unit=True)
    torch.nn.init.zeros_(learner.projector.weight)
    torch.nn.init.zeros_(learner.projector.bias)
    assert not learner.encode(**inputs_of("vit", tokenizer, pictures)).any()


def test_settings_of_unit_rows():
    plain, unit = ModelSettings(arch="vit"), ModelSettings(arch="vit", unit=True)
    assert "unit" not in plain.model_dump()
    assert ModelSettings.model_validate_json(unit.model_dump_json()) == unit
    assert unit.towers() == plain.towers() == (plain,)
    with pytest.raises(ValueError, match="pair: unit = True"):
        ModelSettings(arch="pair", unit=True)


@pytest.mark.parametrize("arch", [*IMAGE, *TEXT, "pair"])
def test_dumps_that_name_caches_stay_as_they_are(arch):
    dump = f'{{"arch":"{arch}","pretrained":null,"hidden":64,"layers":2,"heads":4,"patch":8,"width":64}}'
    assert ModelSettings(arch=arch).model_dump_json() == dump
    towers = ("vit", "bert") if arch == "pair" else (arch,)
    assert [t.model_dump_json() for t in ModelSettings(arch=arch).towers()] == [
        dump.replace(f'"{arch}"', f'"{t}"') for t in towers
    ]


def test_dumps_of_tuned_learners_stay_as_they_are():
    tuned = ModelSettings(arch="vit", tune="lora").model_dump()
    assert list(tuned) == [
        "arch",
        "pretrained",
        "hidden",
        "layers",
        "heads",
        "patch",
        "width",
        "tune",
        "rank",
    ]
    frozen = ModelSettings(arch="frozen-mobilenet", pretrained="n.npz").model_dump()
    assert list(frozen) == ["arch", "pretrained", "hidden", "layers", "heads", "patch", "width", "side"]


def test_unit_rows_of_a_frozen_mobilenet(pictures, tmp_path):
    stored = f"{write(tmp_path / 'net', *tiny())}.npz"
    settings = ModelSettings(arch="frozen-mobilenet", pretrained=stored, width=10, side=32, unit=True)
    learner, pixels = build_client_model(settings, classes=CLASSES).eval(), to_float(pictures)
    learner.export(tmp_path / "out", NAMES)
    again, names = load_exported(tmp_path / "out", stored)
    with torch.no_grad():
        z, logits = learner.encode(pixels), learner(pixels)
        assert torch.allclose(z.norm(dim=1), torch.ones(len(z)))
        assert torch.equal(logits, learner.head(UNIT_SCALE * z))
        assert torch.equal(again(pixels), logits)
    assert names == NAMES
