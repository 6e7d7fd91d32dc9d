"""No model of the server knows the classes better than the clients do, and none can reach what scores.

What the server learns, it learns from the public part; that has no true labels (`PublicData` has no such field). The
long test states in figures what each model knows at full size.
"""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fedloom
from fedloom.config import Config, load_config
from fedloom.data.containers import FederatedDataset, ImageSet, PublicData
from fedloom.experiment.build import pretrained_models, server_tools
from fedloom.experiment.datasets import cached_dataset
from fedloom.experiment.pretraining import builders
from fedloom.experiment.scoring import Scorer
from fedloom.methods.base import ServerContext, load_method
from fedloom.methods.catalogue import CATALOGUE
from fedloom.models.evaluators.clip import Clip, load_clip
from fedloom.progress import Observer
from fedloom.tasks import ClientTask


def built(config: Config, scene: FederatedDataset, method: str) -> tuple[ServerContext, Scorer]:
    kind, fixed = load_method(method)
    settings = kind.settings(**fixed)
    assets, evaluators = pretrained_models(config, kind, settings, scene, Observer(), lambda line: None)
    tools = server_tools(config, kind, settings, scene, assets)
    return tools, Scorer(config, scene, evaluators, tools.generator.synthesize if tools.generator else None)


def reachable(root: object) -> Iterator[object]:
    """Whatever an object holds, directly or not; modules, classes and functions' globals aside."""
    seen, stack = {id(root)}, [root]
    while stack:
        yield (at := stack.pop())
        for held in gc.get_referents(at):
            if (
                id(held) not in seen
                and not isinstance(held, type)
                and type(held).__name__ not in ("module", "function")
            ):
                if isinstance(held, dict) and "__builtins__" in held:
                    continue
                seen.add(id(held))
                stack.append(held)


def test_public_data_say_nothing_of_the_truth() -> None:
    assert {f.name for f in dataclasses.fields(PublicData)} == {"images", "captions", "names", "texts", "words"}


@pytest.mark.parametrize("method", ["fedmmkt", "self-finetune", "fedgems"])
def test_nothing_that_scores_is_in_reach_of_a_server(method: str) -> None:
    """Nor are test and reference pictures. But for bounds, which say that they are: `Method.oracle`."""
    config = load_config(preset="smoke")
    scene = cached_dataset(config.data)
    tools, scorer = built(config, scene, method)
    assert scorer.judge is not None
    assert scorer.clip is not None
    held = {id(x) for x in reachable(tools)}
    for hidden in (scorer.judge, scorer.clip, scene.reference, scene.test[ClientTask.IMAGE_CLASSIFICATION], scene):
        assert id(hidden) not in held
    assert tools.truth is None
    own = [x for x in reachable(tools) if isinstance(x, Clip)]
    assert all(mine is not scorer.clip for mine in own)
    assert scorer.clip.model.state_dict()["visual_projection.weight"].data_ptr() not in {
        mine.model.state_dict()["visual_projection.weight"].data_ptr() for mine in own
    }


def test_only_bounds_are_told_the_truth() -> None:
    told = {name for name in CATALOGUE if load_method(name)[0].oracle}
    assert "oracle-vote" in told
    assert all("bound" in CATALOGUE[name].summary for name in told)


def test_who_learns_what(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """The server's CLIP is given the public names, the scoring CLIP the true ones of pictures that nobody else sees."""
    config = load_config(preset="smoke")
    scene = cached_dataset(config.data)
    assert scene.public is not None
    assert isinstance(scene.reference, ImageSet)
    given: dict[str, Any] = {}

    def note(kind: str, *arguments: Any) -> None:
        given[kind] = arguments[3]

    monkeypatch.setattr(builders, "_learn_clip", note)
    builders._clip(config, scene, tmp_path, None)
    builders._scoring_clip(config, scene, tmp_path, None)
    assert given["clip"][0] is scene.public.images
    assert given["clip"][2] is scene.public.names
    assert given["scoring-clip"][0] is scene.reference.images
    assert given["scoring-clip"][2] is scene.reference.labels


@pytest.mark.conformance
@pytest.mark.parametrize("seed", [0, 1])
def test_no_model_of_the_server_knows_more_than_the_clients(
    seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """flora at full size. Right on real test pictures: the server's CLIP, zero-shot; the clients after their warm
    start. And the generator on its own prompts; and who scores must know better than all of them."""
    config = Config(data={"options": {"seed": seed}}, server={"seed": seed}, seed=seed, rounds=0)
    summary = fedloom.run(config, out=tmp_path / "run", keep=False).summary
    scene = cached_dataset(config.data)
    test = scene.test[ClientTask.IMAGE_CLASSIFICATION]
    assert isinstance(test, ImageSet)
    clip = load_clip(builders.asset(config, scene, "clip"))
    found = clip.classify(test.images, scene.prompts).argmax(1).numpy()
    server = float((found == test.labels).mean())
    clients = summary["image_accuracy"]["before"]
    drawn = summary["t2i_accuracy"]["before"]
    judge, scorer = summary["judge"]["real_test_accuracy"], summary["clip"]["real_test_accuracy"]
    with capsys.disabled():
        print(f"\nseed {seed}: server's CLIP {server:.3f}, generator {drawn:.3f}, clients {clients:.3f}, ", end="")
        print(f"judge {judge:.3f}, scoring CLIP {scorer:.3f}")
    assert np.isfinite([server, drawn, clients]).all()
    assert max(server, drawn) < clients < min(judge, scorer)
