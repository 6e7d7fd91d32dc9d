"""FedAvg by secure sums: the same average, and nothing but masked words on the wire."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toy_sites import CLIENTS, Toy

import fedloom
from fedloom.config import load_config
from fedloom.errors import BadInput
from fedloom.experiment.resolve import resolve
from fedloom.federation.engines.silo.gate import samples_of
from fedloom.methods.secure_average import SecureFit, SecureUpdate
from fedloom.privacy.secure_sum import SEALED_BYTES
from fedloom.reporting.health import warnings_of
from whole_runs import assert_equal

METHODS = ("fedavg", "fedprox", "lora-fl", "bias-fl")


@pytest.mark.parametrize("method", METHODS)
def test_the_same_average(method, tiny_generator):
    """Clients of two architectures over two rounds; 1e-7 in round 1, which training then carries on."""
    plain, secure = Toy(tiny_generator, method), Toy(tiny_generator, method, secure=True)
    for toy in (plain, secure):
        toy.infos = toy.run(2)
        assert toy.federation.missing == []
    assert plain.server.members == secure.server.members
    for kind, group in plain.server.groups.items():
        assert secure.server.groups[kind].keys() == group.keys()
        for name, value in group.items():
            assert secure.server.groups[kind][name].shape == value.shape
            assert np.allclose(secure.server.groups[kind][name], value, atol=1e-4), name
    assert secure.infos[-1].losses["clients"] == pytest.approx(plain.infos[-1].losses["clients"], abs=1e-3)


def test_no_parameters_cross_in_the_clear(tiny_generator):
    toy = Toy(tiny_generator, "fedavg", secure=True)
    kinds = {
        (direction, field, declared)
        for _, direction, message, field, declared in toy.federation.contract.rows()
        if message.startswith("Secure")
    }
    up = {declared for direction, _, declared in kinds if direction == "up"}
    assert up == {"uint8 (64,)", "str", "tuple of str", "uint8 (K, 132)", "uint8 (K, 52)", "uint64 (W,)"}
    assert "fit" not in toy.federation.contract.verbs
    seen = []
    ask = toy.federation.ask

    def heard(verb, said, **how):
        for reply in ask(verb, said, **how):
            if verb == "fit_masked":
                seen.append(reply.message.words)
            yield reply

    toy.federation.ask = heard
    toy.run(1)
    assert len(seen) == len(CLIENTS)
    for words in seen:  # uniform over 64 bits, whatever the parameters
        assert abs(words.astype(np.float64).mean() / 2.0**64 - 0.5) < 0.1


def test_who_fails_in_training_is_left_out(tiny_generator):
    clients = {**CLIENTS, "image-2": "image"}
    toy = Toy(tiny_generator, "fedavg", clients=clients, secure=True)
    half = toy.half("image-1")

    def lost(parameters, round):
        raise ValueError("out of memory")

    half.trained_from = lost
    toy.run(1)
    assert [(m.client, m.verb) for m in toy.federation.missing] == [("image-1", "fit_masked")]
    assert {*toy.server.members} == {*clients} - {"image-1"}
    kept = [toy.half(k) for k in ("image-0", "image-2")]
    group = toy.server.groups[toy.server.members["image-0"]]
    for name, value in group.items():
        mean = sum(half.parameters()[name].astype(np.float64) for half in kept) / 2  # as many samples each
        assert np.allclose(value, mean, atol=1e-5)


def test_a_group_that_has_become_too_small_keeps_its_average(tiny_generator, caplog):
    toy = Toy(tiny_generator, "fedavg", secure=True)
    toy.run(1)
    before = {k: {n: v.copy() for n, v in g.items()} for k, g in toy.server.groups.items()}

    def lost(parameters, round):
        raise ValueError("out of memory")

    toy.half("image-1").trained_from = lost
    toy.run(1)
    images = toy.server.members["image-0"]
    assert all(np.array_equal(before[images][n], v) for n, v in toy.server.groups[images].items())
    assert "round 2: no secure sum of image-0, image-1" in caplog.text
    texts = toy.server.members["text-0"]
    assert not all(np.array_equal(before[texts][n], v) for n, v in toy.server.groups[texts].items())


def test_a_mean_that_could_not_be_sent_is_none(tiny_generator, caplog):
    """Of whom it is nobody knows: the group keeps what it has, and everybody lives."""
    toy = Toy(tiny_generator, "fedavg", secure=True)
    half = toy.half("image-1")
    told = half.trained_from

    def huge(parameters, round):
        update = told(parameters, round)
        return replace(update, parameters={k: np.full_like(v, 1e8) for k, v in update.parameters.items()}, samples=1)

    half.trained_from = huge
    toy.run(2)
    assert "no secure sum of image-0, image-1: verb 'fit_masked' down: SecureFit.parameters" in caplog.text
    assert toy.federation.missing == []
    assert {*toy.server.members} == {"text-0", "text-1"}


def test_shares_without_names_are_left_out(tiny_generator):
    toy = Toy(tiny_generator, "fedavg", clients={**CLIENTS, "image-2": "image"}, secure=True)
    half = toy.half("image-1")
    told = half.share_secrets
    half.share_secrets = lambda message, *, round: replace(told(message, round=round), names=("image-0",) * 9)
    toy.run(1)
    assert [(m.client, m.verb) for m in toy.federation.missing] == [("image-1", "share_secrets")]
    assert {*toy.server.members} == {*CLIENTS, "image-2"} - {"image-1"}


def test_names_of_clients_are_no_samples():
    """A silo that answers no shared samples may take part."""
    shares = np.zeros((2, SEALED_BYTES), np.uint8)
    assert samples_of(SecureFit(("a", "b"), shares)) == samples_of(SecureUpdate(np.zeros(9, np.uint64))) == 0


def test_who_is_left_alone_waits_for_the_others(tiny_generator, caplog):
    """A client that does not answer must not end the run."""
    toy = Toy(tiny_generator, "fedavg", secure=True)

    def lost(message, round):
        raise ValueError("restarting")

    half = toy.half("image-1")
    half.open_sum = lost
    (info,) = toy.run(1)
    assert "round 1: no secure sum of image-0 alone" in caplog.text
    assert {*toy.server.members} == {"text-0", "text-1"}
    assert info.facts == {"summed": 2.0}
    del half.open_sum
    toy.run(1)
    assert {*toy.server.members} == {*CLIENTS}


def test_a_round_without_any_sum_says_so(tiny_generator):
    """Clients that are away leave one of each architecture: nobody learns, which `sums-missing` warns of."""
    toy = Toy(tiny_generator, "fedavg", secure=True)
    with toy.federation.among(("image-0", "text-0")):
        (info,) = toy.run(1)
    assert toy.server.members == {}
    rows = [{"round": 0}, {"round": 1, "losses": info.losses, "facts": info.facts}]
    (found,) = [w for w in warnings_of({}, rows, {}) if w.name == "sums-missing"]
    assert found.level == "serious"
    rows.append({"round": 2, "facts": {"summed": 4.0}})
    (found,) = [w for w in warnings_of({}, rows, {}) if w.name == "sums-missing"]
    assert found.level == "caution"
    assert found.message.startswith(
        "no secure sum was made in 1 of 2 rounds, so nobody learned anything in them (round 1)"
    )


def test_clients_each_alone_are_refused(tiny_generator):
    toy = Toy(tiny_generator, "fedavg", clients={"image-0": "image", "text-0": "text"}, secure=True)
    with pytest.raises(BadInput, match="image-0 is the only client of its architecture"):
        toy.run(1)


@pytest.mark.parametrize("layout", ["mine", "[" * 100_000, '[["w", [1e999]]]'])
def test_who_claims_a_layout_of_its_own_is_left_out(layout, tiny_generator):
    """In each round, with a note; the others go on to the same average as without it."""
    toy = Toy(tiny_generator, "fedavg", clients={**CLIENTS, "image-2": "image"}, secure=True)
    half = toy.half("image-2")
    told = half.open_sum
    half.open_sum = lambda message, *, round: replace(told(message, round=round), layout=layout)
    toy.run(2)
    left = [(m.round, m.client, m.verb) for m in toy.federation.missing]
    assert left == [(1, "image-2", "open_sum"), (2, "image-2", "open_sum")]
    assert "only client of its architecture" in toy.federation.missing[0].detail
    assert {*toy.server.members} == {*CLIENTS}
    alone = Toy(tiny_generator, "fedavg", secure=True)
    alone.run(2)
    for kind, group in alone.server.groups.items():
        assert all(np.array_equal(toy.server.groups[kind][name], value) for name, value in group.items())


@pytest.mark.parametrize("method", ["scaffold", "fedproto", "fedcmi", "fedmsplit", "feddat"])
def test_methods_that_need_more_than_sums_refuse_it(method):
    with pytest.raises(BadInput, match=r"settings\.secure"):
        resolve(load_config(values={"method": method, "settings": {"secure": True}}))


def test_engines_agree_to_the_bit(fedloom_cache, tmp_path):
    """Masks cancel exactly, so that no figure depends on keys."""
    clients = {"image": [{"arch": "resnet", "hidden": 8, "count": 2}], "text": []}
    steps = {"secure": True, "private_steps": 1, "extra_steps": 0}
    runs = [
        fedloom.run(
            preset="smoke",
            method="fedavg",
            clients=clients,
            settings=steps,
            engine={"workers": workers},
            out=tmp_path / str(workers),
        )
        for workers in (0, 2)
    ]
    assert_equal(*runs)


def test_what_looks_at_single_clients_is_refused():
    for setting in ({"aggregate": "median"}, {"norm_bound": 2.0}, {"leave_out_after": 2}, {"weighting": "equal"}):
        with pytest.raises(BadInput, match=f"{next(iter(setting))} looks at what each client sends"):
            resolve(load_config(values={"method": "fedavg", "settings": {"secure": True, **setting}}))
