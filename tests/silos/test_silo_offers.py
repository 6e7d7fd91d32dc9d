"""What a silo's bounds say of an offer, before anything of it is used."""

from __future__ import annotations

import json

import pytest

from fedloom.config import load_config
from fedloom.config.silo import SiloSettings
from fedloom.deployment.silo import worker_settings
from fedloom.errors import BadInput
from fedloom.experiment.silo_offer import check_bounds, make_offer
from fedloom.federation.messages import BoundBreach
from small_silos import MODELS, silo


@pytest.fixture(scope="module")
def offer():
    config = load_config(preset="smoke", values={"method": "fedmmkt"})
    return json.loads(json.dumps(make_offer(config, ("poppy", "lily"), 12)))


def bounded(**bounds):
    return {**silo("image"), "bounds": bounds}


def test_an_offer_within_bounds(offer):
    check_bounds(offer, silo=silo("image"))
    check_bounds(offer, silo=bounded(methods=["fedavg", "fedmmkt"], batch=2, parameters=10_000))


def test_a_method_that_is_not_allowed(offer):
    with pytest.raises(BoundBreach) as error:
        check_bounds(offer, silo=bounded(methods=["fedmd"]))
    assert str(error.value) == "beyond this silo's bounds: the run's method is 'fedmmkt'; bounds.methods = fedmd"
    with pytest.raises(BoundBreach, match=r"bounds\.methods = fedmd$"):
        check_bounds({"method": "os:system\n" * 500}, silo=bounded(methods=["fedmd"]))


def test_a_private_batch_that_is_too_small(offer):
    small = {**offer, "training": {**offer["training"], "batch": 1}}
    with pytest.raises(BoundBreach, match=r"the run's private batch is 1; bounds\.batch = 2"):
        check_bounds(small, silo=silo("image"))


@pytest.mark.parametrize(
    "sizes", [{"layers": 500_000, "hidden": 8}, {"hidden": 65_536}, {"stages": [10**6], "arch": "resnet"}]
)
def test_a_model_that_is_too_large(offer, sizes):
    model = {**MODELS["image"], "heads": 1, **sizes}
    with pytest.raises(BoundBreach, match=r"beyond this silo's bounds: model\..*; bounds\.parameters = 400000000"):
        check_bounds({**offer, "server": {"image": model}}, silo=silo("image"))


def test_what_is_no_offer_is_none(offer):
    with pytest.raises(BadInput, match=r"offer\.seed"):
        check_bounds({**offer, "seed": -1}, silo=silo("image"))


def test_a_method_that_nobody_knows_is_told_before_the_silo_is_up(tmp_path):
    own = SiloSettings.model_validate({**bounded(methods=["fedmkt"]), "data": {"root": str(tmp_path)}})
    with pytest.raises(BadInput, match=r"unknown method 'fedmkt'\. Did you mean 'fedmmkt'"):
        worker_settings(own)
