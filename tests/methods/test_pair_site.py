"""A site of pairs: a caption goes with its own picture, and what is scored is recall."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_sites import QUICK, WIDTH, Linear, client, private_of, words

from fedloom.data.pairs import ImageTextPairs
from fedloom.methods.retrieval_context import RetrievalContext, figures, of_kind, scored
from fedloom.metrics.retrieval import TERMS, recalls
from fedloom.models.clients.dual_encoder import DualEncoder
from fedloom.models.pictures import to_float

PUBLIC = {"r-fed-et": QUICK["r-fed-et"]}


def site_of(fold=None, pictures=20, augment=False):
    torch.manual_seed(0)
    return RetrievalContext(
        fold=fold,
        name="pair-0",
        modality="pair",
        model=DualEncoder(Linear("image", (), True), Linear("text", (), True)),
        tokenizer=words(),
        private=private_of("pair-0", "pair", "private", 9),
        test=private_of("pair-0", "pair", "test", pictures),
        seed=0,
        batch=8,
        augment=augment,
    )


def test_a_sample_is_a_caption_with_the_number_of_its_picture():
    """Nine pictures, four of them with two captions; every picture is held once."""
    site = site_of()
    assert {k: len(v) for k, v in site.pictures.items()} == {"pixel_values": 9}
    assert site.private["picture"].tolist() == [0, 1, 1, 2, 3, 3, 4, 5, 5, 6, 7, 7, 8]
    assert {k: len(v) for k, v in site.private.items()} == dict.fromkeys(("input_ids", "attention_mask", "picture"), 13)
    assert len(site.private_labels) == 13
    assert {k: len(v) for k, v in site.test.items()} == {
        "pixel_values": 20,
        "input_ids": 30,
        "attention_mask": 30,
    }


def test_views_look_pictures_up_by_number():
    site = site_of()
    i = torch.tensor([2, 0, 11])
    rows = {k: v[i] for k, v in site.private.items()}
    seen = site.views(rows, torch.Generator())
    pairs = site.samples["private"]
    assert set(seen) == {"pixel_values", "input_ids", "attention_mask"}
    assert torch.equal(seen["pixel_values"], to_float(pairs.images[[1, 0, 7]]))
    expected = words()([pairs.captions[n] for n in i], padding="max_length", truncation=True)["input_ids"]
    assert seen["input_ids"].tolist() == [row[: seen["input_ids"].shape[1]] for row in expected]
    assert set(rows) == {"picture", "input_ids", "attention_mask"}  # what was given is as it was


def test_views_of_both_are_augmented_and_a_public_set_needs_no_numbers():
    site = site_of(augment=True)
    public = {k: v[:9] for k, v in site.test.items()}
    seen = site.views(public, torch.Generator().manual_seed(0))
    assert set(seen) == set(public)
    assert not torch.equal(seen["pixel_values"], public["pixel_values"])
    assert not torch.equal(seen["input_ids"], public["input_ids"])


def test_pictures_come_first_and_captions_behind_them():
    site = site_of()
    z = site.encode(site.test, batch=7)
    with torch.no_grad():
        images, texts = (site.model.encode(**site.ready(of_kind(site.test, m))) for m in ("image", "text"))
    torch.testing.assert_close(z, torch.cat([images, texts]))
    torch.testing.assert_close(site.encode({"pixel_values": site.test["pixel_values"]}), images)


def test_its_task_is_the_batchs_matching_a_sample():
    site = site_of()
    i = torch.tensor([0, 5, 9])
    views = site.views({k: v[i] for k, v in site.private.items()}, torch.Generator())
    site.model.eval()
    z = {m: site.model.encode(**of_kind(views, m)) for m in ("image", "text")}
    apart = torch.cdist(z["image"], z["text"])
    logits = 15 - 15 * (apart**2 + 1e-6).sqrt()
    right = torch.eye(3, dtype=torch.bool)
    expected = -2 * torch.where(right, 2 * logits, -2 * logits).sigmoid().log().sum() / 3
    torch.testing.assert_close(site.task_loss(views, i), expected, rtol=1e-4, atol=1e-4)


def test_training_finds_pairs():
    """Pictures of one colour, captions that name it."""
    site = site_of(augment=False, pictures=4)
    named = [(255, 0, 0), (0, 0, 255), (255, 255, 0), (0, 255, 0)]
    images = np.stack([np.full((12, 12, 3), c, np.uint8) for c in named])
    pairs = ImageTextPairs(images, ("red", "blue", "yellow", "leaves"), np.arange(4))
    site.take(pairs, pairs)
    site.train_private(150, 1)
    assert site.score(site.encode(site.test))["accuracy"] == 1.0


def test_scores_are_recalls_of_the_same_rows():
    site = site_of(fold=5)
    torch.manual_seed(1)
    pairs = site.samples["test"]
    images = torch.randn(20, WIDTH)
    z = torch.cat([images, images[pairs.owner] + 1.5 * torch.randn(30, WIDTH)])
    found = site.score(z)
    whole = recalls(z[:20].numpy(), z[20:].numpy(), pairs.owner)
    folded = recalls(z[:20].numpy(), z[20:].numpy(), pairs.owner, fold=5)
    assert 0 < whole.i2t_r1 < 1
    assert found["recalls"].tolist() == [getattr(whole, t) for t in TERMS]
    assert found["folded"].tolist() == [getattr(folded, t) for t in TERMS]
    assert found["accuracy"] == (whole.i2t_r1 + whole.t2i_r1) / 2
    assert (found["samples"], found["fold"]) == (20, 5)
    assert folded.i2t_r1 > whole.i2t_r1


@pytest.mark.parametrize("fold", [None, 20, 21])
def test_a_fold_of_all_or_more_is_not_scored_apart(fold):
    found = site_of(fold=fold).score(torch.randn(50, WIDTH))
    assert set(found) == {"accuracy", "samples", "recalls"}


def test_rows_that_are_not_finite_find_nothing():
    pairs = private_of("x", "pair", "test", 4)
    z = torch.cat([torch.eye(4), torch.eye(4)[pairs.owner]])
    assert figures(scored(z, pairs, None)).tolist() == [1.0] * 6
    z[1] = float("nan")
    found = dict(zip(TERMS, figures(scored(z, pairs, None))))
    assert found["i2t_r1"] == 3 / 4
    assert found["t2i_r1"] == 4 / 6  # it has two captions
    z[:] = float("inf")
    assert figures(scored(z, pairs, None))[0] == 0.0


def test_evaluation_over_the_wire_and_state():
    half = client("pair-0", "pair", "r-fed-et", PUBLIC["r-fed-et"])
    said = half.evaluate(None, round=1)
    assert said.recalls.dtype == said.folded.dtype == np.float64
    assert said.recalls.shape == said.folded.shape == (6,)
    half.context.train_private(2, 1)
    again = client("pair-0", "pair", "r-fed-et", PUBLIC["r-fed-et"])
    again.load_state(*half.state())
    for one in (half, again):
        one.context.train_private(1, 2)
    one, two = (x.state()[0] for x in (half, again))
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[k], two[k]) for k in one)
    assert "context/model/matching.scale" in one
