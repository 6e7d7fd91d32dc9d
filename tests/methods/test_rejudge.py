"""Answers of several rounds judged together: what becomes of earlier labels, at the server and at every client."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_sites import Toy, same

from fedloom.functional.confusion import learned_vote
from fedloom.methods.replies import Ballots, Rejudged

CLASSES, SAMPLES = 4, 40


def ballots(t: int, answers: dict[str, torch.Tensor], drawn: torch.Tensor) -> Ballots:
    return Ballots(t, tuple(answers), torch.stack(list(answers.values())), torch.ones(len(drawn), CLASSES), drawn)


def test_what_few_could_not_tell_is_told_when_others_have_answered() -> None:
    generator = torch.Generator().manual_seed(1)
    truth = [torch.randint(0, CLASSES, (SAMPLES,), generator=generator) for _ in range(3)]
    prompt = [(t + 1) % CLASSES for t in truth]  # each class is drawn under the next one's name
    wrong = [(t + 2) % CLASSES for t in truth]
    past = Rejudged(4, absent=-1)
    past.together(ballots(1, {"liar": wrong[0]}, prompt[0]))
    past.together(ballots(2, {"a": truth[1], "b": truth[1], "liar": wrong[1]}, prompt[1]))
    judged = past.together(ballots(3, {"a": truth[2], "c": truth[2]}, prompt[2]))
    assert judged.voters == ("a", "b", "c", "liar")
    assert judged.answers.shape == (4, 3 * SAMPLES)
    assert (judged.answers[1, :SAMPLES] == -1).all()
    counted = torch.nn.functional.one_hot(judged.answers.clamp(min=0), CLASSES) * (judged.answers >= 0)[..., None]
    found = past.by_round(learned_vote(judged.answers, counted.sum(0), judged.drawn).labels)
    assert torch.equal(found[2], truth[1])
    assert torch.equal(found[3], truth[2])
    assert torch.equal(found[1], truth[0])  # of which only the liar had said something


def test_a_round_that_is_taken_up_again_replaces_itself() -> None:
    past = Rejudged(2, absent=-1)
    for t in (1, 1, 2, 3):
        past.together(ballots(t, {"a": torch.zeros(SAMPLES, dtype=torch.long)}, torch.zeros(SAMPLES)))
    assert [b.round for b in past.ballots] == [2, 3]


@pytest.mark.parametrize(
    ("method", "settings"),
    [("fedmmkt", {}), ("fedmmkt", {"variant": "l"}), ("fedloom", {}), ("fedloom", {"codes": 4, "soft": True})],
)
def test_all_hold_the_newest_labels_of_every_round(method, settings, tiny_generator) -> None:
    """Clients that were there, one that comes back, and the generator."""
    toy = Toy(tiny_generator, method, catch_up=True, rejudge=True, **settings)
    for _ in range(2):
        with toy.federation.among(("image-0", "text-0", "text-1")):
            toy.run(1)
    toy.run(1)
    assert toy.federation.missing == []
    key = "posterior" if method == "fedloom" else "labels"
    pools = [toy.half(name).pool for name in ("image-0", "image-1", "text-0")]
    assert [list(pool.rounds) for pool in pools] == [[1, 2, 3]] * 3
    for parts in zip(*(pool.parts for pool in pools)):
        assert all(torch.equal(part[key], parts[0][key]) for part in parts)
    drawn = toy.server.tuner.pool
    for own, part in zip(pools[0].parts, drawn.parts):
        there = torch.isin(own["place"], part["place"])
        assert torch.equal(own[key].argmax(1) if own[key].ndim > 1 else own[key], part["labels"][there])
    rows = [r for r in toy.ledger.rows() if r["verb"] == toy.server.learn_verb and r["direction"] == "down"]
    assert any(f["name"].startswith(("revised", "new_classes")) for f in rows[-1]["fields"])


def test_without_it_votes_are_of_the_round_alone(tiny_generator) -> None:
    both = [Toy(tiny_generator, "fedmmkt", rejudge=on) for on in (None, False)]
    for toy in both:
        toy.run(2)
        assert not toy.server.vote.past.ballots
    assert all(same(*(toy.half(name).state()[0] for toy in both)) for name in both[0].federation.clients)
    assert np.array_equal(*(toy.half("image-0").pool.parts[0]["labels"].numpy() for toy in both))
