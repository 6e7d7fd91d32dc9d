"""The tokenizer, CLIP and BLIP."""

from __future__ import annotations

import pytest
import torch

from fedloom.config.models import CaptionerSettings
from fedloom.errors import BadInput
from fedloom.experiment.pretraining import load_tokenizer
from fedloom.models.clients.text import SPECIAL, tokenize, train_tokenizer
from fedloom.models.evaluators.captioner import build_captioner, load_captioner
from fedloom.models.evaluators.clip import load_clip
from fedloom.models.pictures import to_float

TEXTS = ["a red flower", "A RED FLOWER", "zebra"]


def test_tokenizer(tokenizer):
    rows = tokenize(tokenizer, TEXTS)
    assert rows["input_ids"].shape == rows["attention_mask"].shape == (3, tokenizer.model_max_length)
    assert torch.equal(rows["input_ids"][0], rows["input_ids"][1])  # lower-cased
    assert [tokenizer.convert_tokens_to_ids(name) for name in SPECIAL] == list(range(len(SPECIAL)))
    first = rows["input_ids"][0]
    length = int(rows["attention_mask"][0].sum())
    assert first[0] == tokenizer.cls_token_id
    assert first[length - 1] == tokenizer.sep_token_id
    assert (first[length:] == tokenizer.pad_token_id).all()
    assert tokenizer.batch_decode(rows["input_ids"][:1], skip_special_tokens=True) == ["a red flower"]


def test_long_texts_are_cut(tokenizer):
    rows = tokenize(tokenizer, ["flower " * 40])
    assert rows["attention_mask"].sum() == tokenizer.model_max_length
    assert rows["input_ids"][0, -1] == tokenizer.sep_token_id


def test_tokenizer_saved(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    assert torch.equal(tokenize(again, TEXTS)["input_ids"], tokenize(tokenizer, TEXTS)["input_ids"])
    assert again.model_max_length == tokenizer.model_max_length


def test_tokenizer_of_nothing():
    with pytest.raises(BadInput, match="0 texts"):
        train_tokenizer([])


def test_clip_saved(clip, pictures, tmp_path):
    clip.save(tmp_path)
    again, pixels = load_clip(tmp_path), to_float(pictures)
    with torch.no_grad():
        assert torch.equal(again.embed_images(pixels), clip.embed_images(pixels))
        assert torch.equal(again.embed_texts(TEXTS), clip.embed_texts(TEXTS))
        z = clip.embed_images(pixels)
    assert z.shape == (len(pictures), 16)
    assert torch.allclose(z.norm(dim=1), torch.ones(len(z)))


def test_clip_resizes(clip):
    with torch.no_grad():
        assert clip.embed_images(torch.rand(2, 3, 20, 20) * 2 - 1).shape == (2, 16)


def test_captioner_saved(tokenizer, pictures, tmp_path):
    torch.manual_seed(0)
    settings = CaptionerSettings(hidden=16, layers=1, heads=2, patch=6, max_tokens=6)
    captioner = build_captioner(settings, tokenizer, 12).eval()
    captions = captioner.caption(pictures)
    assert len(captions) == len(pictures)
    assert captioner.caption(pictures, batch=2) == captions
    captioner.save(tmp_path)
    assert load_captioner(tmp_path, 6).caption(pictures) == captions
