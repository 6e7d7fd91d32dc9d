"""Clients' models: every architecture built, cut, exported and loaded again by the library's own classes."""

from __future__ import annotations

import pytest
import torch
import transformers

from fedloom.errors import BadInput
from fedloom.models.learner import Learner, build_learner
from fedloom.models.pictures import to_float
from fedloom.models.settings import LearnerSettings
from fedloom.models.text import tokenize

IMAGE, TEXT = ("vit", "beit", "resnet"), ("bert", "distilbert", "roberta")
HIDDEN, CLASSES = 16, 3
NAMES = ("iris", "rose", "tulip")


def learner_of(arch, tokenizer, width=HIDDEN, **more):
    torch.manual_seed(1)
    sizes = {"hidden": HIDDEN, "layers": 1, "heads": 2, "patch": 6, "width": width, **more}
    settings = LearnerSettings(arch=arch, **sizes)
    return build_learner(settings, classes=CLASSES, image_size=12, tokenizer=tokenizer).eval()


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
        Learner(backbone, "vit", CLASSES, HIDDEN)


def test_same_stream_same_weights(tokenizer):
    one, two = learner_of("roberta", tokenizer), learner_of("roberta", tokenizer)
    for (name, a), b in zip(one.state_dict().items(), two.state_dict().values()):
        assert torch.equal(a, b), name


def test_rows_do_not_depend_on_their_neighbours(tokenizer):
    learner, texts = learner_of("bert", tokenizer), ["iris", "a red flower with five petals"]
    with torch.no_grad():
        both, one = learner(**tokenize(tokenizer, texts)), learner(**tokenize(tokenizer, texts[:1]))
    assert torch.allclose(both[:1], one, atol=1e-6)
