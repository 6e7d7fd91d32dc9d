"""The bidirectional GRU, its word vectors and their tokenizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fedloom.config.models import ModelSettings
from fedloom.errors import BadInput
from fedloom.functional.augment import drop_tokens
from fedloom.models.clients.adapters import blocks
from fedloom.models.clients.build import build_client_model
from fedloom.models.clients.gru import gru_tokenizer
from fedloom.models.clients.gru_network import GruConfig, GruForSequenceClassification
from fedloom.models.clients.text import SPECIAL, tokenize
from fedloom.models.clients.vectors import load_vectors, vector_tokenizer

TEXTS = ["a red flower", "iris", "a blue flower with round petals"]
NAMES = ("iris", "rose", "tulip")
GLOVE = "the 1 2 3\n, 0.5 -1 2e-1\nflower 4 5 6\n"


def learner_of(tokenizer, seed=1, **more):
    torch.manual_seed(seed)
    settings = ModelSettings(arch="gru", **{"hidden": 16, "layers": 1, "width": 16, **more})
    return build_client_model(settings, classes=len(NAMES), tokenizer=tokenizer).eval()


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


# ------------------------------------------------------------------------------------------------ the model


def slow(model, ids, mask):
    """Logits row by row: two plain GRUs over the words alone, and attention by hand."""
    out = []
    for row, n in zip(ids, mask.sum(1)):
        e = model.embedding.weight[row[:n]]
        h, states = e, None
        for layer in range(model.gru.num_layers):
            states = []
            for back in ("", "_reverse"):
                w = {
                    k: getattr(model.gru, f"{k}_l{layer}{back}")
                    for k in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                }
                s, seen = torch.zeros(len(w["weight_hh"][0])), []
                for x in h.flip(0) if back else h:
                    xr, xz, xn = (w["weight_ih"] @ x + w["bias_ih"]).chunk(3)
                    hr, hz, hn = (w["weight_hh"] @ s + w["bias_hh"]).chunk(3)
                    z, new = (xz + hz).sigmoid(), (xn + (xr + hr).sigmoid() * hn).tanh()
                    s = (1 - z) * new + z * s
                    seen.append(s)
                states.append(torch.stack(seen[::-1] if back else seen))
            last = torch.cat([states[0][-1], states[1][0]])
            h = torch.cat(states, 1)
        scores = torch.tanh(e @ model.attention[0].weight.T) @ model.attention[2].weight[0]
        a = sum(p * x for p, x in zip(scores.softmax(0), e))
        gate = 1 / (1 + (-(model.gate.weight @ a + model.gate.bias)).exp())
        pooled = F.layer_norm(last + gate, last.shape, model.norm.weight, model.norm.bias)
        out.append(model.classifier.weight @ pooled + model.classifier.bias)
    return torch.stack(out)


@pytest.mark.parametrize("layers", [1, 2])
def test_equals_slow_reference(layers, tokenizer):
    torch.manual_seed(0)
    config = GruConfig(vocab_size=len(tokenizer), embedding_size=6, hidden_size=8, num_hidden_layers=layers)
    model, rows = GruForSequenceClassification(config).eval(), tokenize(tokenizer, TEXTS)
    with torch.no_grad():
        want = slow(model, rows["input_ids"], rows["attention_mask"])
        assert torch.allclose(model(**rows).logits, want, atol=1e-5)
        assert torch.allclose(model(rows["input_ids"]).logits, want, atol=1e-5)  # the mask is read off the ids


def test_padding_never_enters(tokenizer):
    learner, rows = learner_of(tokenizer), tokenize(tokenizer, TEXTS)
    ids, mask = rows["input_ids"], rows["attention_mask"]
    longer = {"input_ids": F.pad(ids, (0, 7)), "attention_mask": F.pad(mask, (0, 7))}
    other = {"input_ids": torch.where(mask > 0, ids, 9), "attention_mask": mask}  # words where padding was
    with torch.no_grad():
        z = learner.encode(**rows)
        assert torch.allclose(learner.encode(**longer), z, atol=1e-6)
        assert torch.allclose(learner.encode(**other), z, atol=1e-6)
        assert torch.allclose(learner.encode(input_ids=ids[:1], attention_mask=mask[:1]), z[:1], atol=1e-6)
        last = int(mask[0].sum())
        alone = {"input_ids": ids[:1, :last], "attention_mask": mask[:1, :last]}
        assert torch.allclose(learner.encode(**alone), z[:1], atol=1e-6)


def test_no_rows_and_rows_without_words(tokenizer):
    learner = learner_of(tokenizer, width=5)
    assert learner(**tokenize(tokenizer, [])).shape == (0, len(NAMES))
    nothing = torch.zeros(2, 4, dtype=torch.int64)
    assert learner.encode(input_ids=nothing, attention_mask=nothing).isfinite().all()


def test_same_seed_same_bits_and_gradients_everywhere(tokenizer):
    rows = tokenize(tokenizer, TEXTS)

    def trained():
        learner = learner_of(tokenizer, layers=2).train()
        F.cross_entropy(learner(**rows), torch.arange(3)).backward()
        return {name: p.grad for name, p in learner.named_parameters()}

    one, two = trained(), trained()
    for name, gradient in one.items():
        assert gradient.abs().sum() > 0, name
        assert torch.equal(gradient, two[name]), name
    assert not one["backbone.embedding.weight"][tokenizer.pad_token_id].any()


@pytest.mark.parametrize(("width", "unit"), [(16, False), (5, False), (5, True)])
def test_exported_folder_comes_alive(width, unit, tokenizer, tmp_path):
    from transformers import AutoModelForSequenceClassification

    learner, rows = learner_of(tokenizer, width=width, unit=unit), tokenize(tokenizer, TEXTS)
    learner.export(tmp_path, NAMES)
    tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(9)
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path, local_files_only=True).eval()
    assert "import fedloom.models.clients.gru" in (tmp_path / "README.md").read_text()
    again = learner_of(None, width=16, pretrained=str(tmp_path))
    with torch.no_grad():
        if not unit:
            assert torch.allclose(stock(**rows).logits, learner(**rows), atol=1e-5)
        assert torch.equal(again.backbone(**rows).logits, learner.backbone(**rows).logits)
    words = gru_tokenizer(str(tmp_path), 99)
    assert torch.equal(tokenize(words, TEXTS)["input_ids"], rows["input_ids"])


def test_what_a_gru_cannot_be(tokenizer, tmp_path):
    with pytest.raises(ValueError, match="gru: tune = 'lora', allowed: all"):
        ModelSettings(arch="gru", tune="lora")
    with pytest.raises(ValueError, match="hidden = 17"):
        ModelSettings(arch="gru", hidden=17)
    assert ModelSettings(arch="gru", hidden=18).heads == 4  # which need not divide 18
    with pytest.raises(BadInput, match="gru needs a tokenizer"):
        learner_of(None)
    with pytest.raises(BadInput, match="no such file of word vectors"):
        learner_of(None, pretrained="nowhere")
    with pytest.raises(BadInput, match=r"no tokenizer\.json"):
        gru_tokenizer(str(tmp_path), 8)
    with pytest.raises(BadInput, match=r"gru: pretrained = .*: cannot be loaded"):
        learner_of(None, pretrained=str(tmp_path))
    with pytest.raises(BadInput, match="fedloom-gru has no blocks"):
        blocks(learner_of(tokenizer))


def test_a_folder_of_another_architecture(tokenizer, tmp_path):
    small = {"hidden": 16, "layers": 1, "heads": 2, "width": 16}
    bert = build_client_model(ModelSettings(arch="bert", **small), classes=3, tokenizer=tokenizer)
    bert.export(tmp_path, NAMES)
    with pytest.raises(BadInput, match="holds a bert, not a gru"):
        learner_of(tokenizer, pretrained=str(tmp_path))


# ------------------------------------------------------------------------------------------------ word vectors


def test_vectors_as_text(tmp_path):
    words, vectors = load_vectors(written(tmp_path / "glove.txt", GLOVE))
    assert words == ("the", ",", "flower")
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [[1, 2, 3], [0.5, -1, 0.2], [4, 5, 6]])
    with_head = load_vectors(written(tmp_path / "w2v.txt", "3 3\n" + GLOVE.replace("\n", " \n")))
    assert with_head[0] == words
    np.testing.assert_array_equal(with_head[1], vectors)
    odd, _ = load_vectors(written(tmp_path / "odd.txt", "x 1 2 3\nat me@here 1 2 3\nnel\x85 1 2 3\n"))
    assert odd == ("x", "at me@here", "nel\x85")


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_vectors_as_arrays(kind, tmp_path):
    values = np.arange(6, dtype=kind).reshape(2, 3)
    np.savez(tmp_path / "v.npz", words=np.array(["a", "b"]), vectors=values)
    words, vectors = load_vectors(tmp_path / "v.npz")
    assert (words, vectors.dtype) == (("a", "b"), np.float32)
    np.testing.assert_array_equal(vectors, values)


def test_a_changed_file_is_read_again(tmp_path):
    path = written(tmp_path / "v.txt", "a 1 2\n")
    load_vectors(path)
    assert load_vectors(written(tmp_path / "v.txt", "a 1 2\nb 3 4\n"))[0] == ("a", "b")


def test_the_first_of_repeated_words_counts(tmp_path, caplog):
    words, vectors = load_vectors(written(tmp_path / "v.txt", "a 1 2\nb 3 4\na 5 6\na 7 8\n"))
    assert words == ("a", "b")
    np.testing.assert_array_equal(vectors, [[1, 2], [3, 4]])
    assert "2 repeated words" in caplog.text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no words in it"),
        ("3 2\n", "no words in it"),
        ("a 1 2\nb 1\n", "line 2: 1 numbers after the word, expected 2"),
        ("a 1 2\nb 1 2 3\n", "line 2: 3 numbers after the word, expected 2"),
        ("a 1 2\n\nb 1 2\n", "line 2: 0 numbers"),
        ("a\n", "line 1: 0 numbers"),
        ("a 1 2\nb 1 x\n", "line 2: could not convert"),
        ("a 1 2\nb nan 2\n", "line 2: the vector of 'b' is not finite"),
        ("2 2\na 1 2\nb 1\n", "line 3"),
        ("9 2\na 1 2\n", "says 9 words, there are 1"),
    ],
)
def test_broken_text_is_named(text, said, tmp_path):
    with pytest.raises(BadInput, match=f"word vectors .*broken.txt.*{said}") as caught:
        load_vectors(written(tmp_path / "broken.txt", text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"words": np.array(["a"])}, "vectors"),
        ({"words": np.array([1]), "vectors": np.ones((1, 2))}, "expected text"),
        ({"words": np.array(["a", "b"]), "vectors": np.ones((1, 2))}, "for 2 words"),
        ({"words": np.array(["a", "b"]), "vectors": np.array([[1.0], [np.nan]])}, "row 1, 'b'"),
        ({"words": np.array([], str), "vectors": np.ones((0, 2))}, "above 0"),
        ({"words": np.array(["a"], object), "vectors": np.ones((1, 2))}, "allow_pickle"),
    ],
)
def test_broken_arrays_are_named(arrays, said, tmp_path):
    np.savez(tmp_path / "v.npz", **arrays)
    with pytest.raises(BadInput, match=f"word vectors .*v.npz.*{said}") as caught:
        load_vectors(tmp_path / "v.npz")
    assert "\n" not in str(caught.value)


def test_files_that_hold_no_vectors(tmp_path):
    (tmp_path / "v.bin").write_bytes(b"\xff\xfe\x00 1 2\n")
    (tmp_path / "v.npz").write_bytes(b"none")
    for name, said in (("v.bin", "no UTF-8"), ("v.npz", ""), ("none.txt", "No such file")):
        with pytest.raises(BadInput, match=f"{name}.*{said}"):
            load_vectors(tmp_path / name)


# ------------------------------------------------------------------------------------------------ their tokenizer


def test_tokenizer_of_vectors():
    tokenizer = vector_tokenizer(("the", "flower", ",", "[PAD]", "café"), 8)
    assert [tokenizer.convert_tokens_to_ids(name) for name in SPECIAL] == list(range(len(SPECIAL)))
    rows = tokenize(tokenizer, ["The flower, unknown café", "the " * 20])
    assert rows["input_ids"].tolist() == [[2, 5, 6, 7, 1, 8, 3, 0], [2, 5, 5, 5, 5, 5, 5, 3]]
    assert rows["attention_mask"].tolist() == [[1] * 7 + [0], [1] * 8]
    assert len(tokenizer) == 9
    assert tokenizer.model_max_length == 8
    ids = drop_tokens(**drops(rows), replacement=tokenizer.unk_token_id)
    assert set(ids[1, 1:-1].tolist()) <= {1, 5}


def drops(rows):
    draws = torch.Generator().manual_seed(0)
    return {"ids": rows["input_ids"], "mask": rows["attention_mask"], "p": 0.9, "generator": draws}


def test_a_gru_on_vectors(tmp_path):
    path = written(tmp_path / "glove.txt", GLOVE)
    learner, tokenizer = learner_of(None, pretrained=path, width=6), gru_tokenizer(path, 7)
    rows = learner.backbone.embedding.weight.detach()
    words, vectors = load_vectors(path)
    assert rows.shape == (len(tokenizer), vectors.shape[1])
    for word, vector in zip(words, vectors):
        assert rows[tokenizer.convert_tokens_to_ids(word)].tolist() == vector.tolist()
    mean = torch.from_numpy(vectors.mean(0))
    assert torch.equal(rows[tokenizer.unk_token_id], mean)
    assert torch.equal(rows[tokenizer.mask_token_id], mean)
    assert not rows[[tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id]].any()
    assert learner.encode(**tokenize(tokenizer, ["The flower"])).shape == (1, 6)
    learner.export(tmp_path / "out", NAMES)
    tokenizer.save_pretrained(tmp_path / "out")
    again, same = learner_of(None, pretrained=str(tmp_path / "out")), gru_tokenizer(str(tmp_path / "out"), 1)
    assert torch.equal(again.backbone.embedding.weight, rows)
    assert same.model_max_length == 7
