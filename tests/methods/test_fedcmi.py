"""FedCMI: what teaches what, whose parameters are averaged, what crosses, and that it reduces to FedAvg."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from joint import (
    BOTH,
    CLASSES,
    FEDAVG,
    MODALITIES,
    SAMPLES,
    SIGHT,
    SOUND,
    WIDTH,
    Joint,
    Tower,
    alone,
    client,
    learned,
    resumes,
    same,
)

from fedloom.errors import BadInput
from fedloom.federation.messages import Empty
from fedloom.functional.infiltration import infiltration_loss
from fedloom.methods.fedcmi import FedCMISettings, FedCMITargets, _Knowledge, _Objective, wrap_model
from fedloom.models.clients.multimodal import MultimodalClassifier, group_of
from fedloom.models.infiltration import Infiltrated, projector

FEDCMI = "fedloom.methods.fedcmi:METHOD"
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


# ---------------------------------------------------------------------------------------- dominance and temperature


def test_warm_up_has_no_lesson_and_says_nothing_of_dominance():
    half = client("a", method=FEDCMI, settings={"warmup": 2})
    for round in (1, 2):
        assert half.fit(Empty(), round=round).first is None
    said = half.fit(Empty(), round=3)
    assert 0 < said.first < 1
    assert 0 < said.second < 1
    assert 0 <= said.led <= 1
    assert 0 <= said.flips <= 1


def test_dominance_of_all_clients_overrules_a_client_s_own():
    half = client("a", method=FEDCMI, settings={"dominance": "global", "lambda_s": 0.0})
    half.fit(Empty(), round=1)
    parameters = half.parameters()
    own = half.fit(FedCMITargets(parameters), round=2)
    for rho, led in ((9.0, 1.0), (0.1, 0.0)):
        assert half.fit(FedCMITargets(parameters, rho), round=2).led == led
    assert own.led in (0.0, 1.0)  # by the client's own data, all batches alike


def test_the_server_s_dominance_is_the_mean_by_samples():
    toy = Joint(FEDCMI, {"a": BOTH, "b": BOTH, "c": SOUND}, {"a": {"n": 30}}, dominance="global")
    infos = toy.run(3)
    told = [toy.traffic[2, k][1] for k in ("a", "b")]
    first, second = (sum(u.samples * getattr(u, name) for u in told) for name in ("first", "second"))
    assert infos[1].facts["dominance"] == pytest.approx(first / second, rel=1e-6)
    assert toy.traffic[3, "a"][0].rho == infos[1].facts["dominance"]
    assert toy.traffic[2, "a"][0].rho is None
    assert toy.traffic[2, "c"][1].first is None


# ---------------------------------------------------------------------------------------------------- aggregation


def test_groups_are_averaged_over_their_owners_by_samples():
    toy = Joint(FEDCMI, {"a": BOTH, "b": SOUND, "c": SIGHT}, {"b": {"n": 9}})
    toy.run(1)
    sent = {k: toy.traffic[1, k][1] for k in "abc"}
    average = toy.server.groups["joint"]
    assert {group_of(n) for n in sent["b"].parameters} == {"audio", None}
    owners = {"audio": "ab", "image": "ac", None: "abc"}
    for name, value in average.items():
        own = [sent[k] for k in owners[group_of(name)]]
        total = sum(u.samples for u in own)
        wanted = sum(u.parameters[name].astype(np.float64) * u.samples for u in own) / total
        assert np.allclose(value, wanted, atol=1e-6), name


def test_clients_that_see_change_nothing_of_sound_and_the_other_way_round():
    for held, kept in ((SIGHT, "audio"), (SOUND, "image")):
        toy = Joint(FEDCMI, {"a": BOTH})
        toy.run(1)
        before = dict(toy.server.groups["joint"])
        only = Joint(FEDCMI, {"d": held, "e": held})
        only.server.load_state(*toy.server.state())
        only.federation.round = 1
        only.run(2)
        after = only.server.groups["joint"]
        assert after.keys() == before.keys()
        unlike = {name for name, value in after.items() if not np.array_equal(value, before[name])}
        assert not any(group_of(name) == kept for name in unlike)
        (learned_kind,) = held
        # Whoever holds one kind has no term of its own: that kind's classifier has nothing to learn from.
        weights = (f"bare.streams.{learned_kind}.body", f"infiltration.{learned_kind}.0", "bare.fusion.out")
        assert {f"{name}.weight" for name in weights} <= unlike
        assert not any(name.startswith("classifiers.") for name in unlike)


def test_a_client_is_sent_what_it_has_and_a_new_one_everything():
    toy = Joint(FEDCMI, {"a": BOTH, "b": SOUND})
    toy.run(2)
    down = {k: toy.traffic[2, k][0] for k in "ab"}
    assert isinstance(toy.traffic[1, "a"][0], Empty)
    assert {group_of(n) for n in down["b"].parameters} == {"audio", None}
    assert {group_of(n) for n in down["a"].parameters} == {"audio", "image", None}
    assert set(toy.server.message("stranger", "joint").parameters) == set(down["a"].parameters)


def test_personal_parts_never_leave():
    toy = Joint(FEDCMI, {"a": BOTH, "b": BOTH}, personal_infiltration=True)
    toy.run(3)
    personal = ("infiltration.", "classifiers.")
    for down, up in toy.traffic.values():
        for message in (down, up):
            names = getattr(message, "parameters", {})
            assert not any(n.startswith(personal) for n in names)
    a, b = (learned(toy.half(k)) for k in "ab")
    assert any(not np.array_equal(a[n], b[n]) for n in a if n.startswith(personal))


def test_bytes_by_hand():
    """Owned groups each way; the lesson's rho and what is told of dominance are numbers of 8 bytes."""
    toy = Joint(FEDCMI, {"a": BOTH, "b": SOUND}, {}, layers=3)
    toy.run(2)
    stream = {"audio": 3 * 4, "image": 3 * 4**2}
    groups = {
        kind: (n * WIDTH + WIDTH) + 4 * WIDTH + 2 * 3 * (WIDTH**2 + WIDTH) + (WIDTH + 1) * CLASSES
        for kind, n in stream.items()
    }  # body, norm with its statistics, two projectors of three layers, classifier
    head = (2 * WIDTH + 1) * CLASSES
    a, b = groups["audio"] + groups["image"] + head, groups["audio"] + head
    assert toy.ledger.totals(2) == (4 * (a + b) + 8 * (2 + 4) + 8 * 2, 4 * (a + b))


def test_same_bits_again_in_any_order_and_after_a_stop():
    resumes(FEDCMI)
    resumes(FEDCMI, {"a": BOTH, "b": BOTH}, dominance="global", personal_infiltration=True, share=0.5)


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
