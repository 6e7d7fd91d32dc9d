"""FedCMI at a client: that it reduces to FedAvg, what teaches what, symmetry, and its model."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from joint import CLASSES, FEDAVG, FEDCMI, MODALITIES, SAMPLES, SIGHT, SOUND, Joint, Tower, alone, client, learned, same

from fedloom.errors import BadInput
from fedloom.functional.infiltration import infiltration_loss
from fedloom.methods.fedcmi import FedCMISettings, _Knowledge, _Objective, wrap_model
from fedloom.models.clients.multimodal import MultimodalClassifier, group_of
from fedloom.models.infiltration import Infiltrated, projector

PLAIN = {"lambda_s": 0.0, "lambda_d": 0.0, "mu": 0.0, "layers": 0}
OFF = {"lambda_s": 0.0, "lambda_d": 0.0, "mu": 0.0}


def gradients(learner: torch.nn.Module) -> dict[str, float]:
    """Largest absolute gradient of each parameter; 0 where it has none."""
    return {name: 0.0 if p.grad is None else float(p.grad.abs().max()) for name, p in learner.named_parameters()}


def objective_of(half, rho: float | None = None, tau: torch.Tensor | None = None) -> _Objective:
    known = _Knowledge(torch.ones(CLASSES) if tau is None else tau, torch.ones(CLASSES), (0.5, 0.25))
    found = _Objective(half, known, None)
    found.rho = rho
    return found


def batch(half, n: int = SAMPLES):
    return half.context.ready({k: v[:n] for k, v in half.context.private.items()}), torch.arange(n)


# ------------------------------------------------------------------------------------------ reduction and gradients


def test_without_its_terms_and_projectors_a_round_is_fedavg_s():
    """Same batches, same steps: all that FedAvg has is the same to the last bit but for the order of sums."""
    plain, reduced = alone(FEDAVG, rounds=2), alone(FEDCMI, PLAIN, rounds=2)
    wanted = learned(plain)
    got = {k.removeprefix("bare."): v for k, v in learned(reduced).items()}
    assert wanted.keys() <= got.keys()
    for name, value in wanted.items():
        assert np.allclose(value, got[name], atol=1e-6), name


@pytest.mark.parametrize(("rho", "weak", "strong"), [(2.0, "image", "audio"), (0.5, "audio", "image")])
def test_the_lesson_reaches_the_weak_kind_s_stream_projector_and_classifier_only(rho, weak, strong):
    half = client("a", method=FEDCMI, settings={**OFF, "lambda_d": 1.0})
    objective, (inputs, index) = objective_of(half, rho), batch(half)
    learner: Infiltrated = half.context.model.train()
    h = learner.features(**inputs)
    total = objective._imbalance(
        inputs,
        h,
        learner.project(h).infiltrated,
        half.context.private_labels,
        torch.ones(len(index), dtype=torch.bool),
    )
    total.backward()
    for name, size in gradients(learner).items():
        taught = group_of(name) == weak and not name.startswith("self_projectors.")
        assert (size > 0) == taught, name
    assert strong != weak


def test_without_the_lesson_no_infiltration_projector_learns_at_a_client_with_both():
    half = client("a", method=FEDCMI, settings={**OFF, "lambda_s": 2.0})
    inputs, index = batch(half)
    objective_of(half)(inputs, index).backward()
    sizes = gradients(half.context.model)
    assert all((size > 0) == (not name.startswith("infiltration.")) for name, size in sizes.items())


@pytest.mark.parametrize(("held", "missing"), [(SOUND, "image"), (SIGHT, "audio")])
def test_a_client_of_one_kind_has_no_own_term_and_trains_its_stand_in(held, missing):
    half = client("a", method=FEDCMI, settings={"mu": 0.0}, owned=held)
    inputs, index = batch(half)
    objective = objective_of(half)
    loss = objective(inputs, index)
    learner: Infiltrated = half.context.model
    (own,) = held
    p = learner.project(learner.features(**inputs))
    slots = {own: p.own[own], missing: p.infiltrated[own]}  # sound in the first half, whoever it comes from
    logits = learner.bare.fusion(slots["audio"], slots["image"])
    assert torch.allclose(loss, torch.nn.functional.cross_entropy(logits, half.context.private_labels))
    loss.backward()
    for name, size in gradients(learner).items():
        learns = group_of(name) in (own, None) and not name.startswith("classifiers.")
        assert (size > 0) == learns, name
    assert objective.dominant == []


def test_of_samples_that_lack_a_kind_only_the_whole_ones_have_own_terms_and_lessons():
    half = client("a", method=FEDCMI, settings={"mu": 0.0}, blanks=4)
    inputs, index = batch(half)
    objective = objective_of(half, rho=2.0)
    got = objective(inputs, index)
    both = inputs["present"].all(1)
    assert int(both.sum()) == SAMPLES - 8
    learner: Infiltrated = half.context.model
    h = learner.features(**inputs)
    p = learner.project(h)
    y = half.context.private_labels
    ce = torch.nn.functional.cross_entropy
    wanted = ce(learner.classify(learner.fuse(p, inputs["present"])), y)
    for kind in MODALITIES:
        wanted = wanted + 2 * ce(learner.own(kind, h[kind][both]), y[both])
    teacher = objective.teacher
    seen = {k: v[both] for k, v in inputs.items()}
    lesson = teacher.own("audio", teacher.features(**seen)["audio"])
    student = learner.classifiers["image"](p.infiltrated["image"][both])
    wanted = wanted + infiltration_loss(student, lesson, y[both], torch.ones(CLASSES))
    assert torch.allclose(got, wanted, atol=1e-4)


def test_the_teacher_stays_as_it_was_sent_and_the_distance_pulls_back_to_it():
    half = client("a", method=FEDCMI, settings={**OFF, "mu": 3.0, "lambda_d": 1.0})
    objective = objective_of(half)
    before = {k: v.clone() for k, v in objective.teacher.state_dict().items()}
    assert objective.distance is not None
    objective.distance().backward()
    assert max(gradients(half.context.model).values()) == 0  # at the first step nothing has moved
    with torch.no_grad():
        for p in half.context.model.parameters():
            p.add_(0.5)
    half.context.model.zero_grad()
    objective.distance().backward()
    assert all(size == pytest.approx(3.0 * 0.5, rel=1e-4) for size in gradients(half.context.model).values())
    half.context.fit(half.context.private, 3, objective, 1, "private")
    assert all(torch.equal(v, before[k]) for k, v in objective.teacher.state_dict().items())


# ------------------------------------------------------------------------------------------------------- symmetry


def symmetric(exchanged: bool) -> Infiltrated:
    """A learner of two streams with the same shapes; exchanged: the first has the second's weights, everywhere."""
    torch.manual_seed(0)
    n = 3 * 4**2
    whole = Infiltrated(MultimodalClassifier((Tower(n), Tower(n)), MODALITIES, CLASSES))
    with torch.no_grad():
        for p in whole.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    if not exchanged:
        return whole
    other = copy.deepcopy(whole)
    swap = dict(zip(MODALITIES, reversed(MODALITIES)))
    state = {}
    for name, value in whole.state_dict().items():
        kind = group_of(name)
        state[name if kind is None else name.replace(kind, swap[kind])] = value
    state["bare.fusion.out.weight"] = torch.cat(list(reversed(state["bare.fusion.out.weight"].chunk(2, 1))), 1)
    other.load_state_dict(state)
    return other


@pytest.mark.parametrize("settings", [{}, {"class_wise": "weight"}, {"self_ce": "weak"}, {"dominance": "client"}])
def test_exchanging_the_kinds_exchanges_all_results(settings):
    x, y = torch.randn(8, 3, 4, 4), torch.randn(8, 3, 4, 4)
    present = torch.ones(8, 2, dtype=torch.bool)
    present[0, 0] = present[1, 1] = False
    labels = torch.arange(8) % CLASSES
    losses = []
    for first, second, mask, turned in ((x, y, present, False), (y, x, present.flip(1), True)):
        half = client("a", method=FEDCMI, settings={"ratio_mean": "geometric", "mu": 0.0, **settings})
        half.context.model = symmetric(turned)
        half.context.private = {"spectrogram": first.reshape(8, 12, 4), "present": mask}
        half.context.private_labels = labels
        inputs = {"spectrogram": first.reshape(8, 1, 12, 4), "frames": second[:, None], "present": mask}
        means = (0.6, 0.3) if not turned else (0.3, 0.6)
        tau = torch.tensor([0.5, 1.0, 0.7])
        objective = _Objective(half, _Knowledge(tau, torch.tensor([2.0, 1, 1]), means), None)
        loss = objective(inputs, torch.arange(8))
        loss.backward()
        losses.append((loss.item(), gradients(half.context.model), objective.dominant))
    (one, grads, led), (two, turned_grads, turned_led) = losses
    assert one == pytest.approx(two, rel=1e-5)
    swap = dict(zip(MODALITIES, reversed(MODALITIES)))
    assert [swap[k] for k in led] == turned_led
    for name, size in grads.items():
        kind = group_of(name)
        if kind is not None:
            assert turned_grads[name.replace(kind, swap[kind])] == pytest.approx(size, rel=1e-3, abs=1e-6), name


# ---------------------------------------------------------------------------------------------------------- model


def test_projectors():
    assert isinstance(projector(4, 0), torch.nn.Identity)
    assert [type(m).__name__ for m in projector(4, 3)] == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]


def test_pure_imitation_has_one_projector_a_kind():
    half = client("a", method=FEDCMI, settings={"self_projector": False})
    learner: Infiltrated = half.context.model
    assert not any(n.startswith("self_projectors.") for n, _ in learner.named_parameters())
    p = learner.project(learner.features(**batch(half)[0]))
    assert all(torch.equal(p.own[k], p.infiltrated[k]) for k in MODALITIES)


def test_missing_kinds_are_filled_by_the_other_or_with_zeros():
    half = client("a", method=FEDCMI)
    learner: Infiltrated = half.context.model.eval()
    inputs, _ = batch(half, 6)
    h = learner.features(**inputs)
    p = learner.project(h)
    lost = torch.tensor([[True, False]] * 6)
    d = learner.width
    assert torch.equal(learner.joined(h, lost)[:, d:], p.infiltrated["audio"])
    assert torch.equal(learner.joined(h, lost, fill=False)[:, d:], torch.zeros(6, d))
    assert torch.equal(learner.joined(h, lost)[:, :d], p.own["audio"])
    assert torch.equal(learner.joined(h, ~lost)[:, :d], p.infiltrated["image"])
    assert torch.equal(learner.joined(h, ~lost)[:, d:], p.own["image"])


def test_the_server_scores_the_model_that_clients_are_sent():
    toy = Joint(FEDCMI)
    start = toy.server.shared_model()
    first = {k: v.clone() for k, v in start.model.state_dict().items() if v.dtype == torch.float32}
    fresh = learned(client("z", method=FEDCMI))
    assert same({k: v.numpy() for k, v in first.items()}, fresh)  # round 0: what all begin with
    toy.run(2)
    shared = {k: v.numpy() for k, v in toy.server.shared_model().model.state_dict().items()}
    assert same({k: shared[k] for k in toy.server.groups["joint"]}, toy.server.groups["joint"])


def test_dress_draws_the_same_weights_wherever_it_is():
    one, two = (wrap_model(copy.deepcopy(client("a").context.model), FedCMISettings()) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters()))


def test_wrong_settings_are_one_line():
    from fedloom.config.trees import validate

    for key, value in (("layers", 2), ("dominance", "server"), ("lambda_d", -1), ("temperature", 0)):
        with pytest.raises(BadInput, match=key):
            validate(FedCMISettings, {key: value}, "settings")
