"""The pretrained models that a run needs: which ones, and that they are there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedloom.config import Config
from fedloom.config.archs import spec_of
from fedloom.config.models import ModelSettings
from fedloom.data.captions import telling_words
from fedloom.data.containers import FederatedDataset
from fedloom.experiment.pretraining.builders import asset, present, tokenizer_folder
from fedloom.experiment.pretraining.keys import backbone_name
from fedloom.experiment.pretraining.processes import build_side_by_side
from fedloom.progress import Observer
from fedloom.registry import METRICS
from fedloom.tasks import CLIENT_TASKS, ClientTask

NOTHING_TO_LEARN = "{}: no word tells the public part's samples apart, so backbones begin with random weights"
NO_PUBLIC_PART = "{}: there is no public part to pretrain on, so backbones begin with random weights"


@dataclass(frozen=True)
class Assets:
    """Folders of what server and clients start from; None where the method or the data has no use for one."""

    tokenizer: Path | None
    backbones: Mapping[str, Path] = field(default_factory=dict)  # by `backbone_name`
    clip: Path | None = None
    generator: Path | None = None
    captioner: Path | None = None


@dataclass(frozen=True)
class Evaluators:
    """Folders of what scores a generator. It knows the true names: nothing that a method is given may hold it."""

    judge: Path | None = None
    clip: Path | None = None
    attributes: Path | None = None


def prepare(
    config: Config,
    scene: FederatedDataset,
    needs: frozenset[str],
    watch: Observer,
    log: Callable[[str], None],
    seconds: float | None = None,
) -> tuple[Assets, Evaluators]:
    """All models the run needs: given ones, and the others pretrained now or found in the cache.

    CLIP and generator learn one after the other (the generator speaks through CLIP's text tower); captioner, judge,
    scoring CLIP and backbones learn beside them in a second process.

    Args:
        needs: of "generator" (brings CLIP), "captioner", "evaluators", "backbones".
        seconds: to pretrain for; None: until all is done.

    Raises:
        OutOfTime: they were not enough; what is done is kept, and the next call goes on.
        BadInput: the scene lacks what a model would learn from, or given weights cannot be read.
        FedloomError: a model cannot be built or written. A bug in a building process is a RuntimeError.
    """
    backbones = sorted({backbone_name(x) for x in _random_models(config)}) if "backbones" in needs else []
    if backbones and (lack := _no_lesson(scene)):
        watch.filled(lack)
        log(lack)
        backbones = []
    public = bool(backbones) or _reads_texts(config, needs)
    tokenizer = tokenizer_folder(config, scene) if public else None
    chains: list[list[str]] = [
        [k for k in ("clip", "generator") if "generator" in needs],
        ["captioner"] * ("captioner" in needs) + _evaluators(config, scene, needs) + backbones,
    ]
    missing = [lacks for chain in chains if (lacks := [k for k in chain if not present(config, scene, k)])]
    if missing:
        log(f"learned first: {'; '.join(k for chain in missing for k in chain)}")
        build_side_by_side(config, missing, watch, seconds)
    folders = {kind: asset(config, scene, kind) for chain in chains for kind in chain}
    scoring = Evaluators(folders.pop("judge", None), folders.pop("scoring-clip", None), folders.pop("attributes", None))
    return Assets(tokenizer, {k: folders.pop(k) for k in backbones}, **folders), scoring


def _no_lesson(scene: FederatedDataset) -> str:
    """Why backbones can learn nothing from the public part; '' where they can."""
    if scene.public is None:
        return NO_PUBLIC_PART.format(scene.name)
    told = telling_words(scene.public.captions or scene.public.texts)
    return "" if told else NOTHING_TO_LEARN.format(scene.name)


def _evaluators(config: Config, scene: FederatedDataset, needs: frozenset[str]) -> list[str]:
    """What scores a generator; what sees attributes only where a metric needs it and the data set has some."""
    if "evaluators" not in needs:
        return []
    asked = any("attributes" in METRICS.find(name).needs for name in config.evaluation.metrics)
    return ["judge", "scoring-clip"] + ["attributes"] * bool(asked and scene.attributes)


def _reads_texts(config: Config, needs: frozenset[str]) -> bool:
    """Whether anybody reads texts by the public tokenizer: whoever has no weights of its own, whose words it knows.

    What silos bring themselves is not known here: of all but joint ones, which read by what the run says.
    """
    alone = config.clients.image or config.clients.text or config.clients.pair
    if alone and config.engine.name == "flower" and config.engine.mode == "deployment":
        return True
    server = config.server
    models: list[Any] = [server.clip] * ("generator" in needs)
    models += [server.captioner] * ("captioner" in needs and server.captioner.retrieve is None)
    every = [x for x in (server.image, server.text) if x is not None]
    every += [x for m in CLIENT_TASKS for x in config.clients.models(m)]
    readers = [tower for x in every if (tower := x.text_tower) is not None]
    return any(not x.pretrained for x in (*models, *readers))


def _random_models(config: Config) -> list[ModelSettings]:
    """The models that start from a public backbone: not those with weights of their own."""
    every = [x for x in (config.server.image, config.server.text) if x is not None]
    if config.clients.public_steps:
        every += [
            x for m in CLIENT_TASKS if m != ClientTask.MULTIMODAL_CLASSIFICATION for x in config.clients.models(m)
        ]
    elif not config.server.public_steps:
        return []
    parts = [tower for model in every for tower in model.towers()]
    return [x for x in parts if x.pretrained is None and not spec_of(x.arch).frozen]
