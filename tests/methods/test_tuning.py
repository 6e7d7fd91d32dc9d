"""What keeps a generator wide while it is tuned on its own pictures, and what it hears of R."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_sites import PROMPTS, Toy, public_set, same

from fedloom.errors import BadInput
from fedloom.methods.tuning import class_means


def tuned(folder, rounds=2, **settings):
    toy = Toy(folder, **settings)
    toy.run(rounds)
    return toy


def generator(toy):
    return {k: v for k, v in toy.server.state()[0].items() if k.startswith("tuner/trained/")}


def test_public_pictures_take_a_share_of_each_batch(tiny_generator, monkeypatch):
    """Under their captions, and without a representation; of the batch's size nothing changes."""
    toy, heard = Toy(tiny_generator, public_share=0.5, tune_batch=4, omit=0.0, drop_text=0.0), []
    loss = toy.server.tuner.generator.loss

    def listen(images, texts, draws, r, leave_out):
        heard.append((len(images), list(texts), r, leave_out))
        return loss(images, texts, draws, r, leave_out)

    monkeypatch.setattr(toy.server.tuner.generator, "loss", listen)
    toy.run(1)
    assert heard
    for n, texts, r, leave_out in heard:
        assert (n, len(texts), len(r)) == (4, 4, 4)
        assert all(text in PROMPTS for text in texts[:2])
        assert set(texts[2:]) <= set(public_set().captions)
        assert leave_out.tolist() == [False, False, True, True]
        assert not r[2:].any()
    assert toy.settings.tools("generator") == {"generator", "public"}


def test_public_pictures_are_needed_where_they_are_asked_for(tiny_generator):
    with pytest.raises(BadInput, match=r"settings.public_share = 0.5: the data has no public part, allowed: 0"):
        Toy(tiny_generator, public_share=0.5, tools={"public": None})
    with pytest.raises(BadInput, match=r"public_share = 0.9 of settings.tune_batch = 4 leaves no synthetic sample"):
        Toy(tiny_generator, public_share=0.9, tune_batch=4)
    with pytest.raises(ValueError, match="finite number"):
        Toy(tiny_generator, pull=float("inf"))
    assert Toy(tiny_generator, tools={"public": None}).server.tuner.public_batch == 0
    assert Toy(tiny_generator).server.tuner.public_batch == Toy(tiny_generator).settings.tune_batch // 2


def test_public_captions_are_encoded_many_at_a_time(tiny_generator, monkeypatch):
    toy, asked = Toy(tiny_generator, public_share=0.5, tune_batch=4, drop_text=0.0), []
    inner, encode = toy.server.tuner.generator, toy.server.tuner.generator._encode
    monkeypatch.setattr(inner, "_encode", lambda texts: asked.append(list(texts)) or encode(texts))
    toy.run(2)
    together, *alone = asked
    assert together == list(dict.fromkeys(public_set().captions))
    assert {text for (text,) in alone} <= set(PROMPTS)
    inner.keep_texts = 1024  # what is forgotten and read anew, beside others, would have other bits after a resume
    inner._texts.clear()
    asked.clear()
    toy.server.tuner.tune(3)
    assert {len(texts) for texts in asked} == {1}


def test_parts_of_a_batch_have_their_part_of_public_pictures(tiny_generator, monkeypatch):
    toy, seen = Toy(tiny_generator, public_share=0.5, tune_batch=8, tune_accumulate=2), []
    loss = toy.server.tuner.generator.loss

    def listen(images, *more):
        seen.append(len(images))
        return loss(images, *more)

    monkeypatch.setattr(toy.server.tuner.generator, "loss", listen)
    toy.run(1)
    assert set(seen) == {4}  # two synthetic ones and two public ones


def test_a_pull_keeps_weights_near_where_they_began(tiny_generator):
    start = generator(Toy(tiny_generator))
    moved = [
        sum(
            float(np.abs(v - start[k]).sum())
            for k, v in generator(tuned(tiny_generator, pull=pull)).items()
            if "unet" in k
        )
        for pull in (0.0, 500.0, 1e6)
    ]
    assert moved[0] > moved[1] > moved[2] > 0  # the last step's gradient comes after the last pull


def test_lora_factors_alone_are_tuned_and_merged_when_saved(tiny_generator, tmp_path):
    toy = tuned(tiny_generator, lora_rank=2)
    names = {k.removeprefix("tuner/trained/") for k in generator(toy)}
    assert all("lora_" in name or name == "bridge.weight" for name in names)
    assert len(names) > 2
    made = toy.server.tuner.generator
    made.save(tmp_path / "saved")
    from fedloom.models.generators.pixel import load_generator

    again = load_generator(tmp_path / "saved", made.bridge.in_features)
    pictures = [g.synthesize(["a picture of a rose"] * 2, torch.Generator().manual_seed(0)) for g in (made, again)]
    assert np.abs(pictures[0].astype(int) - pictures[1].astype(int)).max() <= 1  # merging rounds
    made.check_finite(torch.zeros(1))
    with pytest.raises(BadInput, match=r"settings.lora_rank = 2: this generator is tuned by LoRA already"):
        made.only_lora(2, 0)


def test_samples_of_the_untouched_generator_are_those_of_before_round_1(tiny_generator):
    """Whatever it has learned meanwhile, which it keeps."""
    toy, draws = Toy(tiny_generator, drawn_by="untouched"), lambda: torch.Generator().manual_seed(0)
    tuner = toy.server.tuner
    first = tuner.draw(PROMPTS, draws())
    source = tuner.generator.origin
    toy.run(2)
    learned = generator(toy)
    assert np.array_equal(tuner.draw(PROMPTS, draws()), first)
    assert not np.array_equal(tuner.generator.synthesize(PROMPTS, draws()), first)
    assert same(generator(toy), learned)
    assert tuner.source == source
    assert tuner.generator.origin is None  # what it draws from here on is its own


def test_samples_may_be_drawn_in_more_steps(tiny_generator, monkeypatch):
    toy, taken = Toy(tiny_generator, draw_steps=3), []
    pipe = type(toy.server.tuner.generator.pipe)
    call = pipe.__call__
    monkeypatch.setattr(pipe, "__call__", lambda *a, **k: taken.append(k["num_inference_steps"]) or call(*a, **k))
    toy.server.tuner.draw(PROMPTS, torch.Generator().manual_seed(0))
    assert set(taken) == {3}


def test_w_r_may_learn_faster_than_the_rest(tiny_generator):
    slow, fast = (generator(tuned(tiny_generator, bridge_rate=rate, omit=0.0)) for rate in (1.0, 100.0))
    size = [float(np.abs(g["tuner/trained/bridge.weight"]).sum()) for g in (slow, fast)]
    assert size[1] > 10 * size[0] > 0


def test_within_class_what_r_says_of_the_class_is_gone():
    z, labels = torch.randn(30, 4), torch.arange(30) % 3
    left = z - class_means(z, labels)
    for c in range(3):
        torch.testing.assert_close(left[labels == c].mean(0), torch.zeros(4), rtol=0, atol=1e-6)
        torch.testing.assert_close(class_means(z, labels)[labels == c][0], z[labels == c].mean(0))


@pytest.mark.parametrize(
    "settings",
    [
        {"public_share": 0.5},
        {"pull": 10.0},
        {"lora_rank": 2},
        {"heard": "within-class"},
        {"drawn_by": "tuned"},
        {"rollback": 0.01},
    ],
    ids=lambda s: next(iter(s)),
)
def test_resumed_to_the_same_bits(settings, tiny_generator):
    whole, first = tuned(tiny_generator, 3, **settings), tuned(tiny_generator, 1, **settings)
    second = Toy(tiny_generator, **settings)
    second.server.load_state(*first.server.state())
    for name in second.federation.clients:
        second.half(name).load_state(*first.half(name).state())
    second.federation.round = 1
    second.run(2)
    assert same(generator(whole), generator(second))


def test_diagnostics_are_reported_and_change_nothing(tiny_generator):
    plain, watched = Toy(tiny_generator), Toy(tiny_generator, diagnostics=True)
    infos = [plain.run(2), watched.run(2)]
    assert same(plain.server.state()[0], watched.server.state()[0])
    keys = {"alignment_error", "client_drift", "gradient_variance"}
    assert not keys & set(infos[0][-1].facts)
    facts = infos[1][-1].facts
    assert set(facts) == keys | {"weight_entropy"}
    assert all(facts[key] > 0 for key in keys)
    norms = watched.server.tuner.norms
    assert len(norms) > 1
    assert facts["gradient_variance"] == pytest.approx(np.var(norms))


def test_diagnostics_of_logits_alone(tiny_generator):
    """Nothing to take distances of; the generator's gradients are there, with a pull too."""
    facts = Toy(tiny_generator, variant="l", diagnostics=True, pull=1.0).run(1)[-1].facts
    assert (facts["alignment_error"], facts["client_drift"]) == (None, None)
    assert facts["gradient_variance"] > 0
