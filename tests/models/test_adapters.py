"""What is trained beside a frozen backbone: it begins as the bare model, only its part moves, exports keep logits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fedloom.config.models import ModelSettings
from fedloom.errors import BadInput
from fedloom.models.clients.adapters import HEAD, put
from fedloom.models.clients.build import build_client_model
from fedloom.models.clients.text import tokenize, train_tokenizer

SIZES = {"hidden": 16, "layers": 2, "heads": 2, "patch": 6, "width": 8, "rank": 3}
TEXTS = ("red flower", "a blue one", "blue")
IMAGES = ("vit", "beit", "resnet", "pair")
ALL = (*IMAGES, "bert", "distilbert", "roberta")
CASES = [(a, t) for a in ALL for t in ("lora", "bias", "adapters") if (a, t) != ("resnet", "lora")]


@pytest.fixture(scope="module")
def words():
    return train_tokenizer(["a red flower", "blue flower a one"] * 2, 100, 8)


def built(arch, tune, words):
    torch.manual_seed(0)
    settings = ModelSettings(arch=arch, tune=tune, **SIZES)
    return build_client_model(settings, classes=5, image_size=12, tokenizer=words)


def inputs_of(arch, words):
    if arch not in IMAGES:
        return tokenize(words, TEXTS)
    return {"pixel_values": torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(0))}


def trained(learner, inputs, steps=2):
    rate = torch.optim.AdamW([p for p in learner.parameters() if p.requires_grad], lr=1e-2)
    learner.train()
    for _ in range(steps):
        rate.zero_grad()
        F.cross_entropy(learner(**inputs), torch.tensor([0, 1, 2])).backward()
        rate.step()
    return learner.eval()


@pytest.mark.parametrize(("arch", "tune"), CASES)
def test_begins_as_the_bare_model_and_moves_only_its_part(arch, tune, words):
    inputs = inputs_of(arch, words)
    bare, learner = built(arch, "all", words).eval(), built(arch, tune, words).eval()
    learner.load_state_dict({**learner.state_dict(), **{_now(learner, k): v for k, v in bare.state_dict().items()}})
    assert torch.allclose(learner(**inputs), bare(**inputs), atol=1e-6)
    before = {k: v.clone() for k, v in learner.named_parameters()}
    trained(learner, inputs)
    part = {"lora": "lora_", "bias": "bias", "adapters": "adapters."}[tune]
    moved = {k for k, v in learner.named_parameters() if not torch.equal(v, before[k])}
    assert any(part in k for k in moved)
    assert any(HEAD.search(k) for k in moved)
    assert all(part in k or HEAD.search(k) for k in moved)


def _now(learner, name):
    """A bare model's name as it stands in one with adapters or LoRA."""
    return next(k for k in learner.state_dict() if k.replace(".base_layer.", ".").removeprefix("bare.") == name)


@pytest.mark.parametrize(("arch", "tune"), [c for c in CASES if c[1] != "adapters"] + [("pair", "all")])
def test_an_export_is_a_stock_folder_with_the_same_logits(arch, tune, words, tmp_path):
    import transformers as hf

    learner = trained(built(arch, tune, words), inputs_of(arch, words))
    learner.export(tmp_path, tuple("abcde"))
    modalities = ("image", "text") if arch == "pair" else ("image" if arch in IMAGES else "text",)
    for modality in modalities:
        inputs = inputs_of("vit" if modality == "image" else "bert", words)
        auto = hf.AutoModelForImageClassification
        if modality == "text":
            auto = hf.AutoModelForSequenceClassification
        stock = auto.from_pretrained(tmp_path / modality if arch == "pair" else tmp_path).eval()
        assert torch.allclose(stock(**inputs).logits, learner(**inputs), atol=1e-5)
    learner.export(tmp_path / "again", tuple("abcde"))  # the learner itself is as it was
    assert torch.equal(learner(**inputs), learner(**inputs))


def test_an_adapted_model_says_what_it_is(words, tmp_path):
    from safetensors.torch import load_file

    learner = trained(built("pair", "adapters", words), inputs_of("pair", words))
    learner.export(tmp_path, tuple("abcde"))
    fresh = built("pair", "adapters", words).eval()
    fresh.load_state_dict(load_file(tmp_path / "model.safetensors"))
    inputs = inputs_of("pair", words)
    assert torch.equal(fresh(**inputs), learner(**inputs))
    assert "adapter of 3 units" in (tmp_path / "README.md").read_text()


def test_a_pair_reads_either_modality_into_one_space(words):
    learner = built("pair", "all", words).eval()
    picture, text = inputs_of("vit", words), inputs_of("bert", words)
    z, y = learner.encode(**picture), learner.encode(**text)
    assert z.shape == y.shape == (3, 8)
    blank_picture, blank_text = learner._blanks
    assert torch.allclose(z, (learner.image.encode(**picture) + learner.text.encode(**blank_text)) / 2)
    assert torch.allclose(y, (learner.image.encode(**blank_picture) + learner.text.encode(**text)) / 2)


def test_put_fills_a_module_from_one_vector():
    module = torch.nn.Linear(2, 1)
    put(module, torch.tensor([1.0, 2.0, 3.0]))
    assert module.weight.tolist() == [[1.0, 2.0]]
    assert module.bias.tolist() == [3.0]
    with pytest.raises(ValueError, match="4 numbers for 3 parameters"):
        put(module, torch.zeros(4))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"arch": "resnet", "tune": "lora"}, "resnet: tune = 'lora', allowed: all, bias, adapters, head"),
        (
            {"arch": "frozen-mobilenet", "pretrained": "x.npz", "tune": "bias"},
            "frozen-mobilenet: tune = 'bias', allowed: all",
        ),
        ({"arch": "pair", "pretrained": "one-name"}, r"'one-name', expected a ViT and a BERT as 'VIT\+BERT'"),
    ],
)
def test_what_cannot_be_tuned_is_refused(given, says):
    with pytest.raises(ValueError, match=says):
        ModelSettings(**given)


def test_a_pair_needs_words():
    with pytest.raises(BadInput, match="tokenizer"):
        build_client_model(ModelSettings(arch="pair", **SIZES), classes=3, image_size=12, tokenizer=None)


def test_a_plain_models_dump_names_what_it_always_named():
    """It names caches and random streams."""
    assert set(ModelSettings(arch="vit").model_dump()) == {
        *("arch", "pretrained", "hidden", "layers", "heads", "patch", "width")
    }
    assert ModelSettings(arch="pair", tune="lora", rank=4).model_dump()["rank"] == 4
