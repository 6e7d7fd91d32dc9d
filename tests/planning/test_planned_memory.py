"""Memory and work of a hand-made inventory, added up by hand; rates."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fedloom.config import load_config
from fedloom.data.sizes import DataSizes
from fedloom.errors import BadInput
from fedloom.methods.base import load_method
from fedloom.methods.workload import Workload
from fedloom.planning.load import Load
from fedloom.planning.memory import activation_bytes, checkpoint_bytes, device_lines, weight_bytes
from fedloom.planning.model_inventory import Member, ModelInventory
from fedloom.planning.rates import PEAKS, rate_of
from fedloom.planning.server import GeneratorCost, ModelCost
from fedloom.planning.work import phases

UNET = ModelCost("generator: UNet", "UNet", 1000, 1000, "x", Load(100, 300, 50), blocks=10)
VAE = ModelCost("generator: VAE", "VAE", 100, 0, "x", exact=True)
TEXT = ModelCost("generator: text encoder", "CLIP", 10, 0, "x")
GENERATOR = GeneratorCost((UNET, VAE, TEXT), drawing=5000, tuning=300, side=64)
JUDGE = ModelCost("judge", "ViT", 0, 0, "x", Load(7, 21, 0), exact=True)
CLIENT = ModelCost("image client", "ViT", 500, 400, "x", Load(10, 30, 20), blocks=4)
WORK = Workload(generator_batch=16)


def config(**more: object):
    keys = {
        "server.device": "cuda:0",
        "server.precision": "bf16",
        "clients.devices": "[cuda:0, cuda:1]",
        "evaluation.judge.steps": 0,
        **more,
    }
    return load_config(overrides=[f"{k}={v}" for k, v in keys.items()])


def members(*devices: str) -> tuple[Member, ...]:
    return tuple(Member(f"image-{i}", "image", CLIENT, d) for i, d in enumerate(devices))


def test_bytes_of_weights():
    assert weight_bytes(UNET, "bf16") == 4000  # what is trained stays fp32
    assert weight_bytes(VAE, "bf16") == 400
    assert weight_bytes(TEXT, "bf16") == 20
    assert weight_bytes(ModelCost("", "", 100, 30, None), "bf16") == 4 * 30 + 2 * 70


def test_bytes_of_activations():
    assert activation_bytes(UNET, 16, "fp32", False) == 50 * 16
    assert activation_bytes(UNET, 16, "bf16", False) == 0.7 * 50 * 16 + 2 * 1000
    assert activation_bytes(UNET, 16, "fp32", True) == 50 * 16 * 2 / 10


def test_two_devices_add_up():
    """A server and two clients on one device, one client on the other, which has two workers' worth of them."""
    inventory = ModelInventory(members("cuda:0", "cuda:1", "cuda:0"), generator=GENERATOR)
    first, second = device_lines(config(), WORK, inventory)
    assert first.device == "cuda:0"
    assert first.weights == 4000 + 400 + 20 + 2 * 2000
    assert first.gradients == 4000 + 2 * 1600
    assert first.moments == 2 * first.gradients
    tuning, training = 0.7 * 50 * 16 + 2 * 1000, 20 * 32
    assert first.activations == tuning + training
    assert first.total == first.weights + first.gradients + first.moments + first.activations
    assert (second.weights, second.gradients, second.moments) == (2000, 1600, 3200)
    assert second.activations == training


def test_an_untouched_generator_is_kept_beside_the_tuned_one():
    inventory = ModelInventory(members("cuda:0"), generator=GENERATOR)
    (plain,), (kept,) = (device_lines(config(), replace(WORK, untouched=u), inventory) for u in (False, True))
    assert kept.weights == plain.weights + 4000  # fp32, of what is trained


def test_samples_to_learn_from_may_take_more_sampling_steps():
    cost = replace(GENERATOR, drawing=5000, steps=8, step=600)
    assert cost.sample(None) == 5000
    assert cost.sample(10) == 5000 + 2 * 600
    assert replace(cost, steps_to_learn_from=24).sample(None) == 5000 + 16 * 600


def test_checkpoints_hold_weights_and_moments():
    inventory = ModelInventory(members("cuda:0", "cuda:1"), generator=GENERATOR)
    assert checkpoint_bytes(config(), inventory) == 2 * (2000 + 3200) + 12_000
    sgd = config(**{"clients.optimizer": "sgd", "clients.momentum": 0})
    assert checkpoint_bytes(sgd, inventory) == 2 * 2000 + 12_000


def test_less_memory():
    inventory = ModelInventory(members("cpu", "cpu"))
    (plain,) = device_lines(config(), WORK, inventory)
    (parts,) = device_lines(config(**{"clients.accumulate": 4}), WORK, inventory)
    assert parts.activations == plain.activations / 4
    (twice,) = device_lines(config(**{"clients.checkpointing": "true"}), WORK, inventory)
    assert twice.activations == plain.activations * 2 / 4
    (workers,) = device_lines(config(**{"engine.workers": 2}), WORK, inventory)
    assert workers.activations == 2 * plain.activations
    (sgd,) = device_lines(config(**{"clients.optimizer": "sgd"}), WORK, inventory)
    assert sgd.moments == plain.moments / 2


def test_work_of_a_run():
    run = config(**{"rounds": 4, "evaluation.every": 2, "evaluation.prompts_per_class": 3})
    method, _ = load_method("fedmmkt")
    settings = method.settings(samples=10, replay_rounds=1, passes=1, private_steps=2)
    scene = DataSizes(classes=5, side=64, samples={"image": (100, 8)})
    inventory = ModelInventory(members("cuda:0"), generator=GENERATOR, judge=JUDGE)
    found = {
        p.name: (p.device, p.times, p.flop) for p in phases(run, method.server.workload(settings, 32), inventory, scene)
    }
    warm = run.clients.warm_steps
    assert found["warm start"] == ("cuda:0", 1, warm * 32 * 30)
    assert found["synthesis"] == ("cuda:0", 4, 10 * 5000)
    assert found["clients' answers"] == ("cuda:0", 4, 10 * 10)
    assert found["generator tuning"] == ("cuda:0", 4, 1 * 24 * 300)  # one pass over ten samples
    assert found["re-training"] == ("cuda:0", 4, 1 * 32 * 30)
    assert found["private training"] == ("cuda:0", 4, 2 * 32 * 30)
    assert found["scoring the clients"] == ("cuda:0", 3, 8 * 10)  # rounds 0, 2 and 4
    assert found["scoring: pictures"] == ("cuda:0", 3, 15 * 5000)
    assert found["scoring: judge, CLIP, FID"] == ("cuda:0", 3, 15 * 7)
    assert "captions" not in found
    u = method.settings(variant="u", samples=10)
    views = {p.name: p.flop for p in phases(run, method.server.workload(u, 32), inventory, scene)}
    assert views["clients' answers"] == 2 * 10 * 10


def test_rates():
    assert rate_of("cuda", "bf16", "H200") == (989e12, "H200's data sheet, bf16")
    assert rate_of("cuda:1", "fp32", "A100")[0] == 19.5e12
    assert rate_of("cuda:77", "bf16") is None
    rate, said = rate_of("cpu", "fp32", "H200")  # the CPU is here, whatever is asked of others
    assert rate > 1e8
    assert said.startswith("measured here")
    assert all(peak.half > peak.full for peak in PEAKS.values())
    with pytest.raises(BadInput, match=r"unknown accelerator 'H20'.*Did you mean 'H200'"):
        rate_of("cuda", "bf16", "H20")
