"""Captions by nearest neighbours: what is said, what is kept, what is refused, and a run with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fedloom
import given_models
from fedloom.config import load_config
from fedloom.config.models import CaptionerSettings
from fedloom.data.containers import PublicData
from fedloom.errors import BadInput
from fedloom.models.evaluators.retrieval_captioner import build_retrieval, load_retrieval
from fedloom.weights.needs import named_weights

CAPTIONS = ("all black", "all white", "red above blue")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(given_models.resnet(tmp_path_factory.mktemp("resnet")))


@pytest.fixture(scope="module")
def public() -> PublicData:
    images = np.zeros((3, 16, 16, 3), dtype=np.uint8)
    images[1] = 255
    images[2, :8, :, 0], images[2, 8:, :, 2] = 255, 255
    return PublicData(images, CAPTIONS, np.array([0, 1, 0]))


def test_the_caption_of_what_looks_most_alike(network: str, public: PublicData, tmp_path: Path) -> None:
    settings = CaptionerSettings(retrieve=network, side=32)
    made = build_retrieval(settings, public)
    noise = np.random.default_rng(0).integers(0, 20, public.images.shape)
    near = np.abs(public.images.astype(int) - noise).astype(np.uint8)
    assert made.caption(public.images) == CAPTIONS
    assert made.caption(near[[2, 0, 1]]) == ("red above blue", "all black", "all white")
    assert made.caption(near, batch=1) == CAPTIONS
    assert made.caption(public.images[:0]) == ()
    made.save(tmp_path)
    assert load_retrieval(settings, tmp_path).caption(near) == CAPTIONS


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(BadInput, match="pretrained names a captioner and retrieve an image model, allowed: one"):
        load_config(values={"server": {"captioner": {"retrieve": "a/b", "pretrained": "c/d"}}})
    with pytest.raises(BadInput, match="side is for retrieve"):
        load_config(values={"server": {"captioner": {"side": 64}}})
    named = named_weights(load_config(values={"server": {"captioner": {"retrieve": "a/b"}}}))
    assert named == {"a/b": ["server.captioner.retrieve"]}


def test_a_model_without_classifier_sees_its_own_side(tmp_path: Path, public: PublicData) -> None:
    folder = given_models.vit(tmp_path / "vit", kind="ViTModel")
    with pytest.raises(BadInput, match=r"server\.captioner\.retrieve\.side = 32: a vit without classifier"):
        build_retrieval(CaptionerSettings(retrieve=str(folder), side=32), public)
    assert build_retrieval(CaptionerSettings(retrieve=str(folder)), public).caption(public.images) == CAPTIONS


def test_a_run_with_it(network: str, tmp_path: Path) -> None:
    """Every caption is one of the public part's; another image model is another asset."""
    keys = {"server.captioner.retrieve": network, "server.captioner.side": 32, "rounds": 1}
    run = fedloom.run(preset="smoke", out=tmp_path / "run", **keys)
    assert run.rounds[-1]["round"] == 1


def test_the_caption_that_neighbours_have_in_common(network: str, tmp_path: Path) -> None:
    """Of three look-alikes, the one in the middle is said, though another one looks nearest; ties go to the nearest."""
    images = np.zeros((4, 16, 16, 3), dtype=np.uint8)
    images[1], images[2], images[3] = 2, 4, 255
    said = ("sugar apple", "apple cinnamon crust", "cinnamon crust pie", "rice and beans")
    public = PublicData(images, said, np.zeros(4, dtype=np.int64))
    settings = CaptionerSettings(retrieve=network, side=32, neighbours=3)
    made = build_retrieval(settings, public)
    assert made.caption(images[:1]) == ("apple cinnamon crust",)
    made.save(tmp_path)
    assert load_retrieval(settings, tmp_path).caption(images[:1]) == ("apple cinnamon crust",)
    alone = build_retrieval(settings.model_copy(update={"neighbours": 1}), public)
    assert alone.caption(images[:1]) == ("sugar apple",)
    two = build_retrieval(settings.model_copy(update={"neighbours": 2}), public)
    assert two.caption(images[:1]) == ("sugar apple",)
    many = build_retrieval(settings.model_copy(update={"neighbours": 99}), public)  # all there are
    assert many.caption(images[3:]) == ("apple cinnamon crust",)
    with pytest.raises(BadInput, match="neighbours is for retrieve"):
        load_config(values={"server": {"captioner": {"neighbours": 4}}})
