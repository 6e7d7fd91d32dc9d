"""FedAFD's server: what it believes of the clients, and its encoders as they are sent."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from fedafd_toys import toy_of
from toy_sites import CLASSES, ONE_EACH, PAIRS, SIDE, WIDTH, Toy, client, same, server_learner, words

from fedloom.config.models import ModelSettings
from fedloom.errors import BadInput
from fedloom.functional.norms import unit
from fedloom.functional.similarity import similarity_ensemble
from fedloom.methods.delivery import weights_of
from fedloom.methods.retrieval_context import of_kind
from fedloom.methods.retrieval_messages import Views, kinds_of
from fedloom.models.clients.build import build_client_model

# ------------------------------------------------------------------------------------------------ the server's belief


def test_the_ensemble_is_by_similarity_or_the_mean():
    torch.manual_seed(0)
    bank = {"image": unit(torch.randn(PAIRS, WIDTH)), "text": torch.zeros(PAIRS, WIDTH)}
    z = unit(bank["image"] + torch.tensor([0.1, 2.0, 2.0])[:, None, None] * torch.randn(3, PAIRS, WIDTH))
    present = torch.ones(3, PAIRS, dtype=torch.bool)
    present[1, 2] = present[2, 2] = False
    server = toy_of(tau=0.2).server
    got, entropy = server.ensemble("image", z, present, bank)
    expected = similarity_ensemble(z, bank["image"], 0.2, present)
    assert torch.equal(got, expected.representations)
    assert expected.weights[0].mean() > 0.5  # whoever is near counts most
    assert 0 < entropy < math.log(3)
    mean, entropy = toy_of(sed=False).server.ensemble("image", z, present, bank)
    torch.testing.assert_close(mean, torch.stack([z[0, k] if k == 2 else z[:, k].mean(0) for k in range(PAIRS)]))
    assert entropy == pytest.approx(math.log(3) * (PAIRS - 1) / PAIRS)
    for sed in (True, False):
        one, entropy = toy_of(sed=sed).server.ensemble("image", z[:1], present[:1], bank)
        assert torch.equal(one, z[0])
        assert entropy == 0.0


def test_distillation_draws_the_encoders_to_the_clients_and_gamma_is_its_weight():
    """Equal gradients but for the factor; at gamma = 0 only AdamW's decay is left."""
    z = unit(torch.randn(PAIRS, WIDTH, generator=torch.Generator().manual_seed(1)))
    apart = {}
    for gamma in (0.4, 0.0):
        toy = toy_of(gamma=gamma, distill_steps=60, server_rate=1e-2, together=False)
        views = {"image-0": Views(toy.server.name, 0.0, z.numpy())}
        before = (toy.server.bank()["image"] - z).square().mean().item()
        told = toy.server.distil(1, toy.federation, views, toy.server.bank())
        apart[gamma] = (toy.server.bank()["image"] - z).square().mean().item() / before
        assert told["distillation"] < gamma * 0.5 or gamma == 0
    assert apart[0.4] < 0.7 < 0.9 < apart[0.0]


def test_the_papers_bytes_by_hand():
    """A.5's table: both kinds' representations and whole encoders of the own kinds down, the own kinds' up."""
    server = toy_of().server
    image, text = (4 * (n * WIDTH + WIDTH) for n in (3 * SIDE**2, len(words())))
    kind = 4 * PAIRS * WIDTH
    up, down = server.paper_bytes(toy_of().federation)
    assert up == kind + kind + 2 * kind
    assert down == (2 * kind + image) + (2 * kind + text) + (2 * kind + image + text)


# --------------------------------------------------------------------------------------- the server's encoders, sent


def encoder_bytes(toy, round, client="pair-0"):
    asked = [r for r in toy.ledger.rows() if (r["round"], r["client"], r["verb"]) == (round, client, "learn")]
    return sum(f["bytes"] for r in asked for f in r["fields"] if f["name"].startswith("encoders["))


def assert_held(toy, name):
    """What a client holds of the server's encoders is what the server thinks that it holds, to the bit."""
    half, deliveries = toy.half(name), toy.server.deliveries
    assert half.server.version == toy.server.receivers[name] == deliveries["image"].version
    expected = {f"{m}.{k}": v for m in kinds_of(ONE_EACH[name]) for k, v in deliveries[m].held.items()}
    assert same(expected, half.server.arrays)
    for m, site in half.server.models.items():
        assert same(weights_of(site.model), deliveries[m].held)


@pytest.mark.parametrize("sending", [{"encoders": "whole"}, {"encoders": "changes"}, {"encoder_share": 0.1}], ids=str)
def test_clients_hold_what_the_server_thinks_they_do_also_after_a_round_away(sending):
    toy = toy_of(**sending)
    for _ in (1, 2):
        toy.run(1)
        for name in ONE_EACH:
            assert_held(toy, name)
    half = toy.half("pair-0")
    learn, half.learn = half.learn, None  # round 3: away
    toy.run(1)
    assert "pair-0" not in toy.server.receivers
    half.learn = learn
    toy.run(1)
    for name in ONE_EACH:
        assert_held(toy, name)
    params = 3 * SIDE**2 * WIDTH + len(words()) * WIDTH + 2 * WIDTH
    whole = 4 * params
    if sending == {"encoders": "whole"}:
        assert {encoder_bytes(toy, t) for t in (1, 2, 4)} == {whole}
        exact = weights_of(toy.server.models["image"].model)  # as it was before the distillation
        assert exact.keys() == toy.server.deliveries["image"].held.keys()
        return
    assert encoder_bytes(toy, 1) == whole / 2
    assert encoder_bytes(toy, 4) == whole  # it is not known what it holds; nothing may be rounded again
    if "encoders" in sending:
        assert 0.45 * whole < encoder_bytes(toy, 2) <= whole / 2
    else:
        assert encoder_bytes(toy, 2) < 0.17 * whole
    for m, site in toy.server.models.items():
        for k, v in weights_of(site.model).items():
            assert np.abs(v - toy.server.deliveries[m].held[k]).max() < 0.1


def test_a_change_that_is_not_for_it_is_refused_and_the_next_is_whole():
    toy = toy_of()
    toy.run(1)
    toy.half("image-0").server.version = 7
    toy.run(2)
    assert [(m.round, m.client) for m in toy.federation.missing] == [(2, "image-0")]
    assert "holds version 7" in toy.federation.missing[0].detail
    assert_held(toy, "image-0")


def test_real_models_with_dropout_learn_resume_and_are_sent():
    """The smallest ViT, BERT and dual encoder, at the clients and at the server."""
    tiny = {"hidden": 16, "layers": 1, "heads": 2, "patch": 6, "width": WIDTH, "unit": True}

    def learner(arch, classes=1):
        torch.manual_seed(5)
        settings = ModelSettings(arch=arch, **(tiny | {"unit": "+" not in arch}))
        return build_client_model(settings, classes=classes, image_size=SIDE, tokenizer=words())

    def site(modality, unit=True, name="server"):
        found = server_learner(modality)
        found.model = learner({"image": "vit", "text": "bert"}[modality])
        return found

    states = []
    for torch_seed in (1, 2):
        toy = Toy(None, "fedafd", clients=ONE_EACH, tools={"models": site})
        archs = {"image-0": ("vit", CLASSES), "text-0": ("bert", 2), "pair-0": ("vit+bert", 1)}
        for name, (arch, classes) in archs.items():
            half = toy.half(name)
            s = half.context
            s.model, s.server = learner(arch, classes), site
            s.optimizer = torch.optim.AdamW(s.model.parameters(), lr=2e-3)
            half._join_fusion()
        torch.manual_seed(torch_seed)
        toy.run(2)
        assert toy.federation.missing == []
        for name in ONE_EACH:
            assert_held(toy, name)
        states.append((toy.server.state()[0], toy.clients()))
    assert same(states[0][0], states[1][0])
    assert all(same(states[0][1][name], states[1][1][name]) for name in ONE_EACH)


def test_a_model_of_another_shape_than_the_servers_is_refused():
    toy = toy_of()
    half = toy.half("image-0")
    made = half.context.server
    half.context.server = lambda m: made("text")
    toy.run(1)
    assert "another architecture than the server's" in toy.federation.missing[0].detail


def test_progress_is_the_share_of_rounds_that_are_done():
    toy, seen = toy_of(), []
    half = toy.half("image-0")
    learn = half.learn
    half.learn = lambda message, *, round: seen.append(message.progress) or learn(message, round=round)
    toy.run(3)
    assert seen == [0.0, 1 / 3, 2 / 3]


def test_bad_settings_are_named():
    with pytest.raises(BadInput, match="ratio 9"):
        client("image-0", "image", "fedafd", {"gff_ratio": 9})


def test_kinds_of_inputs():
    both = {"pixel_values": 1, "input_ids": 2, "attention_mask": 3, "picture": 4}
    assert of_kind(both, "image") == {"pixel_values": 1}
    assert of_kind(both, "text") == {"input_ids": 2, "attention_mask": 3}
