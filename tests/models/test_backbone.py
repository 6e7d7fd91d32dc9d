"""The words that public backbones learn to see."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedloom.config.models import ModelSettings
from fedloom.data.containers import PublicData
from fedloom.models.clients.backbone import pretrain_backbone, telling_words, word_targets
from fedloom.models.clients.build import build_client_model
from fedloom.models.clients.text import train_tokenizer


def test_telling_words_leave_out_what_all_or_next_to_none_hold() -> None:
    captions = ["red petals", "blue petals", "red stem petals", "blue stem petals"] * 50 + ["once petals"]
    assert telling_words(captions) == ["blue", "red", "stem"]


def test_telling_words_cut_ties_by_the_alphabet() -> None:
    # A set of words has another order in every process; which of equally frequent words stay must not.
    captions = ["pear plum", "apple cherry"] * 10
    assert telling_words(captions, most=3) == ["apple", "cherry", "pear"]


def test_word_targets_mark_whole_words() -> None:
    marks = word_targets(["Red and blue.", "reddish"], ["blue", "red"])
    assert torch.equal(marks, torch.tensor([[1.0, 1.0], [0.0, 0.0]]))


@pytest.mark.parametrize("texts", [(), ("a whole text on red things", "a whole text on blue ones") * 4])
def test_text_backbones_read_whole_texts_where_there_are_some(
    texts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    captions = ("red", "blue") * 4
    generic = PublicData(np.zeros((8, 4, 4, 3), np.uint8), captions, np.arange(8) % 2, texts)
    tokenizer = train_tokenizer([*captions, *texts], 200, 8)
    settings = ModelSettings(arch="bert", hidden=16, layers=1, heads=2, width=16)
    learner = build_client_model(settings, classes=2, tokenizer=tokenizer)
    read: list[str] = []

    def tokenize(tokenizer, rows):  # type: ignore[no-untyped-def]
        read.extend(rows)
        return real(tokenizer, rows)

    from fedloom.models.clients import backbone

    real = backbone.tokenize
    monkeypatch.setattr(backbone, "tokenize", tokenize)
    loss = pretrain_backbone(learner, "text", tokenizer, generic, steps=2, batch=4, rate=1e-3, seed=0)
    assert loss is not None
    assert np.isfinite(loss)
    assert read == [*captions, *texts]


def test_nothing_to_tell_apart_leaves_the_learner_as_it_is() -> None:
    captions, none = ("a grey picture",) * 8, np.zeros(8, np.int64)
    generic = PublicData(np.zeros((8, 12, 12, 3), np.uint8), captions, none)
    learner = build_client_model(ModelSettings(arch="resnet", hidden=8, width=8), classes=2, image_size=12)
    before = {k: v.clone() for k, v in learner.state_dict().items()}
    assert pretrain_backbone(learner, "image", None, generic, steps=2, batch=4, rate=1e-3, seed=0) is None
    assert all(torch.equal(v, before[k]) for k, v in learner.state_dict().items())


def test_texts_alone_are_the_lesson_where_there_are_no_captions() -> None:
    texts, none = ("a red thing", "a blue thing") * 8, np.zeros(0, np.int64)
    generic = PublicData(np.zeros((0, 1, 1, 3), np.uint8), (), none, texts)
    tokenizer = train_tokenizer(texts, 100, 8)
    settings = ModelSettings(arch="gru", hidden=8, width=8)
    learner = build_client_model(settings, classes=2, image_size=0, tokenizer=tokenizer)
    loss = pretrain_backbone(learner, "text", tokenizer, generic, steps=2, batch=4, rate=1e-3, seed=0)
    assert loss is not None
    assert np.isfinite(loss)
