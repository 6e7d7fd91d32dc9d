"""The server's side of a small run."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from fedloom.config import load_config
from fedloom.experiment.datasets import cached_dataset
from fedloom.experiment.pretraining import prepare
from fedloom.experiment.silo_client import pack_public, unpack_public
from fedloom.experiment.silo_offer import make_offer
from fedloom.progress import Observer
from small_silos import SIDE


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The server's side: configuration, scene, offer, and its public files as a silo has them."""
    config = load_config(preset="smoke", values={"data": {"partition": "iid", "minimum": 1}})
    scene = cached_dataset(config.data)
    assets = prepare(config, scene, frozenset({"backbones"}), Observer(), lambda line: None)[0]
    public = tmp_path_factory.mktemp("silo") / "runs" / "r1" / "public"
    files = pack_public(assets)
    unpack_public(files, public)
    offer = json.loads(json.dumps(make_offer(config, scene.class_names, SIDE)))
    return SimpleNamespace(config=config, scene=scene, assets=assets, public=public, files=files, offer=offer)
