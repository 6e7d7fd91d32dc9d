"""FedProto: prototypes by kind and class, whom they draw, and that nothing else crosses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from joint import (
    BOTH,
    CLASSES,
    CLIENTS,
    FEDAVG,
    SIGHT,
    SOUND,
    WIDTH,
    Joint,
    alone,
    client,
    learned,
    resumes,
    same,
)

from fedloom.federation.messages import Empty
from fedloom.methods.fedproto import (
    FedProtoSettings,
    FedProtoTargets,
    FedProtoUpdate,
    class_prototypes,
    prototype_loss,
)

FEDPROTO = "fedloom.methods.fedproto:METHOD"


def update(prototypes, classes, counts, kind="joint audio") -> FedProtoUpdate:
    rows = {kind: np.array(prototypes, np.float32)}
    ids, n = ({kind: np.array(v, np.int32)} for v in (classes, counts))
    return FedProtoUpdate(rows, ids, n, {}, sum(counts), 0.0)


def lesson(value: float, classes=range(CLASSES), kinds=("joint audio", "joint image")) -> FedProtoTargets:
    rows = np.full((len(classes), WIDTH), value, np.float32)
    ids = np.array(list(classes), np.int32)
    return FedProtoTargets(dict.fromkeys(kinds, rows), dict.fromkeys(kinds, ids), {})


# ------------------------------------------------------------------------------------------------- by hand


def test_prototypes_by_hand():
    h = torch.tensor([[1.0, 0.0], [3.0, 2.0], [5.0, 5.0]])
    means, counts = class_prototypes(h, torch.tensor([2, 2, 0]), 4)
    assert counts.tolist() == [1, 0, 2, 0]
    assert means[[0, 2]].tolist() == [[5.0, 5.0], [2.0, 1.0]]
    assert means[[1, 3]].isnan().all()


def test_the_distance_by_hand():
    h = torch.tensor([[1.0, 0.0], [3.0, 2.0], [9.0, 9.0]], requires_grad=True)
    c = torch.tensor([[0.0, 0.0], [torch.nan] * 2, [3.0, 0.0]])
    loss = prototype_loss(h, torch.tensor([0, 2, 1]), c)
    assert loss.item() == pytest.approx((1 / 2 + 4 / 2) / 3)
    loss.backward()
    assert torch.allclose(h.grad, torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]]) / 3)
    nobody = prototype_loss(h, torch.tensor([1, 1, 1]), c)
    assert nobody.item() == 0


@pytest.mark.parametrize(("weigh", "mean"), [("clients", 3.0), ("samples", 2.0)])
def test_who_weighs_what_and_a_silent_class_stays(weigh, mean):
    server = Joint(FEDPROTO, weigh=weigh).server
    server.observe({"a": update([[1.0, 1.0], [5.0, 5.0]], [0, 2], [3, 1]), "b": update([[5.0, 1.0]], [0], [1])})
    assert server.prototypes["joint audio"][0].tolist() == [mean, 1.0]
    assert server.prototypes["joint audio"][2].tolist() == [5.0, 5.0]
    facts = server.observe({"b": update([[7.0, 7.0]], [0], [4])})
    assert server.prototypes["joint audio"][0].tolist() == [7.0, 7.0]
    assert server.prototypes["joint audio"][2].tolist() == [5.0, 5.0]
    assert facts == {"prototypes": 2.0}


def test_an_average_that_is_not_made_cannot_hold():
    with pytest.raises(ValueError, match=r"mu = 0\.1 .* parameters = False"):
        FedProtoSettings(mu=0.1)
    FedProtoSettings(mu=0.1, parameters=True)


# ------------------------------------------------------------------------------------------------- clients


def test_without_weight_it_is_standalone_or_fedavg():
    toy, plain, both = (
        Joint(FEDPROTO, lambda_p=0),
        Joint(FEDAVG),
        Joint(FEDPROTO, lambda_p=0, parameters=True),
    )
    for x in (toy, plain, both):
        x.run(2)
    assert same(learned(toy.half("a")), learned(alone(FEDAVG, rounds=2)))
    assert same(plain.server.groups["joint"], both.server.groups["joint"])


def test_prototypes_of_classes_that_the_client_lacks_change_nothing():
    known, unknown = client("a", method=FEDPROTO, classes=2), client("a", method=FEDPROTO, classes=2)
    unknown.fit(lesson(3.0, [2]), round=1)
    known.fit(Empty(), round=1)
    assert same(learned(known), learned(unknown))


def test_features_go_where_prototypes_are():
    def away(weight: float) -> float:
        half = client("a", method=FEDPROTO, settings={"lambda_p": weight, "private_steps": 60})
        half.fit(lesson(2.0), round=1)
        return sum(float((h - 2).square().mean()) for h in half.context.stream_features(half.context.private).values())

    assert away(10.0) < 0.5 * away(0.01)


def test_a_kind_without_prototypes_is_not_drawn():
    """Of the sounds' prototypes only their stream has a gradient; the fusion head has none either."""
    half = client("a", method=FEDPROTO)
    drawn = {"joint audio": torch.zeros(CLASSES, WIDTH)}
    index = torch.arange(6)
    inputs = {"present": half.context.private["present"][index]} | {
        "spectrogram": half.context.private["spectrogram"][index].float()[:, None],
        "frames": half.context.private["frames"][index].permute(0, 1, 4, 2, 3).float() / 255,
    }
    gradients = []
    for given in ({}, drawn):
        half.context.model.zero_grad()
        half._near(given)(inputs, index).backward()
        gradients.append({n: p.grad.clone() for n, p in half.context.model.named_parameters()})
    changed = {n for n, g in gradients[0].items() if not torch.allclose(g, gradients[1][n], atol=1e-7)}
    assert changed
    assert all("audio" in n for n in changed)


def test_samples_that_lack_a_kind_are_not_in_its_prototypes():
    half = client("a", method=FEDPROTO, blanks=4, classes=2)
    said = half.fit(Empty(), round=1)
    h, present = half.context.stream_features(half.context.private), half.context.private["present"]
    for i, kind in enumerate(("audio", "image")):
        rows, labels = h[kind][present[:, i]], half.context.private_labels[present[:, i]]
        assert said.classes[f"joint {kind}"].tolist() == [0, 1]
        assert said.counts[f"joint {kind}"].sum() == 14
        for c, row in enumerate(said.prototypes[f"joint {kind}"]):
            assert np.allclose(row, rows[labels == c].mean(0), atol=1e-6)


# ------------------------------------------------------------------------------------------------- what crosses


def test_only_prototypes_cross():
    toy = Joint(FEDPROTO, {**CLIENTS, "a": BOTH}, {"b": {"classes": 2}})
    toy.run(2)
    up = down = 0
    for name, owned in CLIENTS.items():
        classes = 2 if name == "b" else CLASSES
        assert isinstance(toy.traffic[1, name][0], Empty)
        sent, reply = toy.traffic[2, name]
        for message, n in ((sent, CLASSES), (reply, classes)):
            assert set(message.prototypes) == {f"joint {k}" for k in owned}
            assert {v.shape for v in message.prototypes.values()} == {(n, WIDTH)}
            assert not message.parameters
        down += len(owned) * CLASSES * 4 * (WIDTH + 1)
        up += len(owned) * classes * 4 * (WIDTH + 2) + 16
    assert toy.ledger.totals() == (2 * up, down)
    assert toy.server.shared_model() is None


def test_with_parameters_a_model_is_shared():
    toy = Joint(FEDPROTO, parameters=True)
    toy.run(2)
    sent, _ = toy.traffic[2, "c"]
    assert set(sent.parameters) == set(toy.half("c").parameters())
    model = toy.server.shared_model().model.state_dict()
    assert all(np.array_equal(model[k], v) for k, v in toy.server.groups["joint"].items())


def test_clients_without_a_kind_change_nothing_of_it():
    whole, without = Joint(FEDPROTO), Joint(FEDPROTO, {k: v for k, v in CLIENTS.items() if v != SIGHT})
    whole.run(1)
    without.run(1)
    one, two = whole.server.prototypes, without.server.prototypes
    assert same(one["joint audio"], two["joint audio"])
    assert not same(one["joint image"], two["joint image"])


def test_who_comes_late_gets_both_kinds_and_a_client_of_sounds_never_frames():
    toy = Joint(FEDPROTO, {"a": BOTH, "b": BOTH, "c": SOUND}, {"b": {"fault": "fit"}})
    toy.run(1)
    assert set(toy.server.message("b", "joint").prototypes) == {"joint audio", "joint image"}
    assert set(toy.server.message("c", "joint").prototypes) == {"joint audio"}


@pytest.mark.parametrize("parameters", [False, True])
def test_clients_of_one_modality_share_among_themselves(parameters):
    clients = {"image-0": "image", "image-1": "image", "text-0": "text", "a": BOTH}
    toy = Joint(FEDPROTO, clients, parameters=parameters)
    toy.run(2)
    assert toy.federation.missing == []
    assert set(toy.server.prototypes) == {"image", "text", "joint audio", "joint image"}
    assert set(toy.traffic[2, "image-0"][0].prototypes) == {"image"}
    ups = [toy.traffic[2, k][1] for k in ("image-0", "image-1")]
    mean = sum(u.counts["image"][0] * u.prototypes["image"][0] for u in ups) / sum(u.counts["image"][0] for u in ups)
    assert np.allclose(toy.server.prototypes["image"][0], mean, atol=1e-6)


@pytest.mark.parametrize("parameters", [False, True])
def test_a_client_of_pictures_may_come_late(parameters):
    clients = {"image-0": "image", "image-1": "image"}
    toy = Joint(FEDPROTO, clients, {"image-1": {"fault": "fit"}}, parameters=parameters)
    toy.run(1)
    late = client("image-1", "image", FEDPROTO, {"parameters": parameters})
    message = toy.server.message("image-1", "image")
    assert (set(message.prototypes), dict(message.parameters)) == ({"image"}, {})
    assert late.fit(message, round=2).samples == 20


@pytest.mark.parametrize("parameters", [False, True])
def test_same_bits_in_any_order_and_after_a_stop(parameters):
    resumes(FEDPROTO, parameters=parameters)
