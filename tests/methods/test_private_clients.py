"""Clients under a privacy budget: no way around it, what leaves, what is spent, and what ends."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from toy_sites import CLASSES, SIDE, Linear, private_of, words

from fedloom.config.privacy import PrivacyPlan
from fedloom.data.containers import ImageSet
from fedloom.errors import BadInput, FedloomError
from fedloom.federation.messages import Empty
from fedloom.methods.base import TrainOrder, load_method
from fedloom.methods.catalogue import CATALOGUE
from fedloom.methods.private_context import PrivateClientContext
from fedloom.methods.shared_messages import SharedPictures
from fedloom.models.per_example import per_example_gradients
from fedloom.privacy.accounting import TERMS, spent
from fedloom.seeding import numpy_stream

SETTINGS = {"samples": 12, "private_steps": 2, "retrain_steps": 2, "replay_rounds": 1}
PICTURES = numpy_stream(0, "shared").integers(0, 256, (12, SIDE, SIDE, 3), dtype=np.uint8)


def half(method: str = "fedmd", private: Any = None, settings: Any = None, book: Any = None, **plan: Any) -> Any:
    """A client half over 20 pictures, all of which are in every step; `plan` of its budget."""
    torch.manual_seed(0)
    kind, fixed = load_method(method)
    context = PrivateClientContext(
        name="image-0",
        modality="image",
        model=Linear("image"),
        tokenizer=words(),
        private=private_of("image-0", "image", "private") if private is None else private,
        test=private_of("image-0", "image", "test"),
        seed=0,
        batch=32,
        optimizer="sgd",
        rate=0.1,
        momentum=0.0,
        decay=0.0,
        augment=False,
        privacy=PrivacyPlan(**({"epsilon": 3.0, "steps": 6} | plan)),
        book=book,
    )
    return kind.client(context, kind.settings(**{**(SETTINGS if settings is None else settings), **fixed}))


def answers(**more: Any) -> dict[str, Any]:
    said = {"epsilon": 4.0, "delta": 1e-5, "clip": 1.0}
    return {"answers": said, "answered": 2, "labels": 1, "rows": 1, **more}


def told(client: Any) -> dict[str, float]:
    return dict(zip(TERMS, client.evaluate(Empty(), round=1).privacy))


def weights(client: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in client.context.model.parameters()])


def test_one_sample_moves_a_private_step_by_no_more_than_the_clip() -> None:
    """The attack that all is measured by: two clients that differ in one sample, however large, with equal noise.

    A step of rate 0.1 is of a sum of clipped gradients over 20 expected samples: one taken away is at most clip / 20.
    """
    held = private_of("image-0", "image", "private")
    other = ImageSet(np.concatenate([held.images[:-1], 255 - held.images[-1:]]), np.append(held.labels[:-1], 0))
    one, two = half(private=held, clip=0.5), half(private=other, clip=0.5)
    start = weights(one)
    for client in (one, two):
        client.context.noise = 1e-9
        client.context.history = [(1e9, 1.0, 1)]
        client.context._reserved = lambda steps: steps  # so little noise is in no budget
        client.train(TrainOrder(1), round=1)
    assert 0 < (weights(one) - weights(two)).norm() <= 2 * 0.1 * 0.5 / 20 * 1.001
    assert (weights(one) - start).norm() <= 0.1 * 0.5 * 1.001


def test_private_steps_tell_no_loss_and_count() -> None:
    client = half()
    before = weights(client)
    assert client.train(TrainOrder(4), round=1).loss == 0.0
    assert not torch.equal(weights(client), before)
    context = client.context
    assert context.history == [(context.noise, 1.0, 4)]
    found = told(client)
    assert found["epsilon"] == pytest.approx(spent(context.history, context.delta))
    assert (found["budget"], found["steps"], found["refused"]) == (3.0, 4, 0)
    assert found["delta"] == pytest.approx(0.01)  # the power of ten below 20^-1.1 = 0.037
    assert np.isnan(found["answers"])


def test_a_spent_budget_ends_private_training_once_said(caplog: pytest.LogCaptureFixture) -> None:
    client = half()
    client.train(TrainOrder(4), round=1)
    client.train(TrainOrder(4), round=2)
    after = weights(client)
    client.train(TrainOrder(4), round=3)
    assert torch.equal(weights(client), after)
    found = told(client)
    assert (found["steps"], found["refused"]) == (6, 6)
    assert found["epsilon"] <= 3.0
    assert [r.message for r in caplog.records] == ["client image-0: its privacy budget is spent: no more private steps"]


def shared_round(client: Any, message: Any, round: int = 1) -> Any:
    """A round of a method on shared pictures."""
    answer = client.infer(SharedPictures(PICTURES), round=round)
    client.learn(message, round=round)
    return answer


def to_mean() -> Any:
    from fedloom.methods.fedmekt import FedMEKTMean

    return FedMEKTMean(np.ones(12, dtype=np.bool_), np.zeros((12, 8), dtype=np.float32))


def test_a_private_batch_beside_shared_ones_is_a_private_step() -> None:
    """FedMEKT: two steps with a private batch, then two private ones; when the budget is spent shared ones go on."""
    client = half("fedmekt", steps=5)
    shared_round(client, to_mean())
    assert told(client)["steps"] == 4
    before = weights(client)
    shared_round(client, to_mean(), 2)
    assert (told(client)["steps"], told(client)["refused"]) == (5, 3)
    assert not torch.equal(weights(client), before)
    private = weights(client)
    shared_round(client, to_mean(), 3)
    assert told(client)["steps"] == 5
    assert not torch.equal(weights(client), private)  # on shared samples alone


def test_without_noise_it_is_the_same_step_beside_shared_samples() -> None:
    """Hardly any noise and no clipping: the gradient of both losses, as without privacy."""
    from toy_sites import client as plain_client

    private, plain = half("fedmekt", clip=1e6, steps=9), plain_client("image-0", "image", "fedmekt", SETTINGS)
    torch.manual_seed(0)
    plain.context.model.load_state_dict(private.context.model.state_dict())
    objective = private.task_loss
    index = torch.arange(20)
    loss = plain.context.task_loss(plain.context.private, index)
    loss.backward()
    context = private.context
    context.noise = 1e-12
    context.optimizer.zero_grad()
    context.history = [(1e9, 1.0, 1)]
    context._add(objective, 1)
    for a, b in zip(context.model.parameters(), plain.context.model.parameters()):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5)


def test_a_resumed_client_knows_what_is_spent_and_draws_the_same_noise() -> None:
    whole, first = half(), half()
    for r in (1, 2):
        whole.train(TrainOrder(2), round=r)
    first.train(TrainOrder(2), round=1)
    second = half()
    second.load_state(*first.state())
    second.train(TrainOrder(2), round=2)
    assert torch.equal(weights(second), weights(whole))
    assert second.context.history == whole.context.history


def test_attack_a_silo_that_is_set_back_spends_what_it_has_spent(tmp_path: Any) -> None:
    """A server makes a silo take up its first state again and again; the book counts on, and noise is new."""
    book = tmp_path / "privacy" / "image-0.json"
    client = half(book=book)
    start, seen = client.state(), []
    for _ in range(3):
        client = half(book=book)
        client.load_state(*start)
        client.train(TrainOrder(4), round=1)
        seen.append(weights(client))
    assert client.context.history[0][2] == 6
    assert not torch.equal(seen[0], seen[1])
    assert client.context.refused == 4  # of the last client: nothing was left


def test_answers_leave_with_noise_and_end_with_their_budget(tmp_path: Any) -> None:
    from fedloom.methods.fedmmkt import FedMMKTPictures

    client, bare = half("fedmmkt", **answers()), half("fedmmkt")
    message = FedMMKTPictures(PICTURES, 1)
    noisy, plain = client.infer(message, round=1), bare.infer(message, round=1)
    assert not np.array_equal(noisy.representations, plain.representations)
    assert np.isfinite(noisy.representations).all()
    assert len(set(noisy.entropies.tolist())) == 1  # what is known of the mechanism, not of the sample
    assert ((noisy.labels >= 0) & (noisy.labels < CLASSES)).all()
    first = told(client)
    assert 0 < first["answers_epsilon"] < 4.0
    again = client.infer(message, round=1)
    assert not np.array_equal(again.representations, noisy.representations)
    assert 3.9 < told(client)["answers_epsilon"] <= 4.0
    with pytest.raises(FedloomError, match=r"its budget of answers is spent, epsilon = 4.0, 2 answers"):
        client.infer(message, round=2)
    with pytest.raises(FedloomError, match="there is no noise for known"):
        half("fedmmkt", **answers()).context.release(dataclasses.replace(plain, known=np.ones(3, dtype=np.bool_)), 3)


def test_answers_alone_leave_training_as_it_is() -> None:
    client = half("fedmekt", epsilon=None, **answers(labels=1))
    answer = shared_round(client, to_mean())
    assert answer.labels.dtype == np.int32
    assert np.isnan(told(client)["epsilon"])
    assert client.context.told(1.0) == 0.0
    assert half("fedmekt").context.told(1.0) == 1.0


def test_a_methods_own_private_loss_is_taken_sample_by_sample() -> None:
    """CreamFL's has a margin, and a term of the head's own weights: the mean of single gradients is the batch's."""
    client = half("creamfl")
    context, index = client.context, torch.arange(20)
    each = per_example_gradients(context.model, client.task_loss, context.private, index)
    client.task_loss(context.private, index).backward()
    for name, p in context.model.named_parameters():
        torch.testing.assert_close(each[name].mean(0), p.grad, rtol=1e-3, atol=1e-5)


def test_in_an_average_all_weigh_the_same() -> None:
    steps = {"private_steps": 1, "extra_steps": 0}
    assert half("fedavg", settings=steps).fit(Empty(), round=1).samples == 1


def test_what_would_be_told_besides_is_refused() -> None:
    kind, _ = load_method("fedmmkt")
    with pytest.raises(BadInput, match=r"quorum_of = 'knowing'.*allowed: 'all'"):
        kind.private_work(kind.settings(quorum_of="knowing"), 32)
    kind, _ = load_method("fedprox")
    with pytest.raises(BadInput, match=r"settings.mu = 0.01"):
        kind.private_work(kind.settings(), 32)
    whole = {name for name in CATALOGUE if load_method(name)[0].private_work is not None}
    others = {"fedmmkt", "u-fedmmkt", "l-fedmmkt", "fedmmkt-pate", "oracle-vote", "standalone", "fedavg", "fedprox"}
    assert whole == {"fedmd", "fedgems", "fed-et", "creamfl", "fedmekt"} | others


def test_attack_a_client_of_ones_own_does_not_inherit_the_declaration() -> None:
    """A method derived from a whole one may do other things with private samples."""
    kind, _ = load_method("fedmmkt")
    assert dataclasses.replace(kind, client=type("Curious", (kind.client,), {})).private_work is None


@pytest.mark.parametrize("method", ["fedmmkt", "fedmd", "creamfl", "fedmekt", "standalone", "fedavg"])
def test_steps_are_counted_as_they_are_taken(method: str) -> None:
    """What a method declares is no less than its clients take."""
    kind, _ = load_method(method)
    known = {k: v for k, v in SETTINGS.items() if k in kind.settings.model_fields}
    steps = kind.private_work(
        kind.settings(**known, **({"extra_steps": 0} if "extra_steps" in kind.settings.model_fields else {})), 32
    )
    assert steps == {"creamfl": 4, "fedmekt": 4}.get(method, 2)
