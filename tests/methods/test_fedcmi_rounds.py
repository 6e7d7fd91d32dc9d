"""FedCMI's rounds: dominance, whose parameters are averaged, and what crosses."""

from __future__ import annotations

import numpy as np
import pytest
from joint import BOTH, CLASSES, FEDCMI, SIGHT, SOUND, WIDTH, Joint, client, learned, resumes

from fedloom.federation.messages import Empty
from fedloom.methods.fedcmi import FedCMITargets
from fedloom.models.clients.multimodal import group_of

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
