"""A scoring CLIP of two frozen models: what is learned, kept and refused, and a run that is scored by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import fedloom
import given_models
from fedloom.config import load_config
from fedloom.config.models import ClipSettings
from fedloom.data.containers import ImageSet
from fedloom.errors import BadInput
from fedloom.models.evaluators.frozen_towers import (
    FrozenTowers,
    build_towers,
    check_towers,
    load_scoring_clip,
    load_towers,
    pretrain_towers,
)
from fedloom.weights.needs import named_weights

PROMPTS = ("a red flower", "a blue flower")


def sentences(folder: Path) -> Path:
    """A tiny BERT without a head, as models of sentence-transformers are."""
    from transformers import BertConfig, BertModel

    folder.mkdir()
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    words = len(given_models.WORDS)
    BertModel(BertConfig(**sizes, vocab_size=words, initializer_range=0.5)).save_pretrained(folder)
    given_models.bert_words(folder)
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("towers")
    return f"{given_models.resnet(place / 'resnet')}+{sentences(place / 'bert')}"


@pytest.fixture(scope="module")
def real() -> ImageSet:
    rng = np.random.default_rng(0)
    labels = np.arange(12) % 2
    images = rng.integers(0, 60, (12, 16, 16, 3), dtype=np.uint8)
    for image, label in zip(images, labels):
        image[:, :, 2 * label] += 190
    return ImageSet(images, labels)


def learned(pair: str, real: ImageSet, captions: tuple[str, ...] = ()) -> FrozenTowers:
    torch.manual_seed(1)
    settings = ClipSettings(towers=pair, side=32, width=8, steps=60, batch=12, rate=0.03)
    made = build_towers(settings)
    pretrain_towers(made, (real.images, captions, real.labels), PROMPTS, settings, 0)
    return made


def test_maps_are_learned_and_models_are_not(pair: str, real: ImageSet, tmp_path: Path) -> None:
    torch.manual_seed(1)
    settings = ClipSettings(towers=pair, side=32, width=8)
    before = {k: v.clone() for k, v in build_towers(settings).state_dict().items()}
    made = learned(pair, real)
    changed = {k for k, v in made.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {f"{m}_map.{p}" for m in ("image", "text") for p in ("weight", "bias")} | {"scale"}
    seen, said = made.embed_pictures(real.images), made.embed_texts(PROMPTS)
    assert seen.shape == (12, 8)
    assert torch.allclose(seen.norm(dim=1), torch.ones(12), atol=1e-5)
    assert ((seen @ said.T).argmax(1).numpy() == real.labels).all()
    made.save(tmp_path)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 20_000  # of the maps alone
    again = load_towers(settings, tmp_path)
    assert torch.equal(again.embed_pictures(real.images), seen)
    assert torch.equal(again.embed_texts(PROMPTS), said)
    assert isinstance(load_scoring_clip(settings, tmp_path), FrozenTowers)
    assert made.name == "linear maps of resnet (resnet) and bert (bert)"


def test_a_sentence_is_the_mean_of_its_tokens(pair: str) -> None:
    text = build_towers(ClipSettings(towers=pair, side=32)).text
    alone, beside = text.look(["a red flower"]), text.look(["a red flower", "two cats sleeping on a couch ."])
    assert torch.allclose(alone[0], beside[0], atol=1e-5)  # padding is not in it
    row = text.tokenizer("a red flower", return_tensors="pt")
    h = text.model(input_ids=row["input_ids"], attention_mask=row["attention_mask"]).last_hidden_state[0].mean(0)
    assert torch.allclose(alone[0], h / h.norm(), atol=1e-5)


def test_what_is_refused(pair: str, tmp_path: Path) -> None:
    image, _, text = pair.partition("+")
    with pytest.raises(BadInput, match="expected 'IMAGE\\+TEXT' and no `pretrained`"):
        load_config(values={"evaluation": {"clip": {"towers": "a/b"}}})
    with pytest.raises(BadInput, match="side is for towers"):
        load_config(values={"evaluation": {"clip": {"side": 64}}})
    with pytest.raises(BadInput, match=r"clip\.towers is for evaluation\.clip"):
        load_config(values={"server": {"clip": {"towers": pair}}})
    with pytest.raises(BadInput, match="reads no texts"):
        build_towers(ClipSettings(towers=f"{image}+{image}"))
    with pytest.raises(BadInput, match="reads no pictures"):
        build_towers(ClipSettings(towers=f"{text}+{text}"))
    with pytest.raises(BadInput, match=r"evaluation\.clip\.towers"):
        check_towers(f"{image}+{tmp_path}/nothing")
    named = named_weights(load_config(values={"evaluation": {"clip": {"towers": "a/b+c/d"}}}))
    assert named == {"a/b": ["evaluation.clip.towers"], "c/d": ["evaluation.clip.towers"]}


def test_a_run_scored_by_it(pair: str, tmp_path: Path) -> None:
    clip = {"towers": pair, "side": 32, "width": 8, "steps": 3}
    run = fedloom.run(preset="smoke", method="self-finetune", rounds=1, evaluation={"clip": clip}, out=tmp_path / "run")
    assert run.summary["networks"]["clip_score"].startswith("linear maps of resnet")
    assert 0 <= run.summary["clip_score"]["after"] <= 1
