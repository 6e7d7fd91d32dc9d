"""Gates: whether judge, generator and captioner are good enough for a federated run to say anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedloom.config import Config
from fedloom.config.run import EvaluationSettings
from fedloom.data.containers import FederatedDataset, ImageSet, TextSet
from fedloom.errors import BadInput, FedloomError
from fedloom.experiment.begin import Prepared, prepare
from fedloom.experiment.build import pretrained_models, server_tools
from fedloom.experiment.datasets import cached_dataset
from fedloom.experiment.pretraining import Assets, Evaluators
from fedloom.experiment.scoring import Scorer
from fedloom.processes import settle_process
from fedloom.progress import Observer
from fedloom.tasks import ClientTask

if TYPE_CHECKING:
    from fedloom.methods.base import ServerContext

CAPTIONS = 500  # real test pictures that are described, at most


@dataclass(frozen=True)
class Gate:
    """A part of the server, how often it is right, and how often it has to be."""

    name: str
    what: str
    value: float
    wanted: float

    @property
    def passed(self) -> bool:
        return self.value >= self.wanted

    @property
    def text(self) -> str:
        """`judge: right on 0.913 of 400 real test pictures, wanted 0.55`."""
        return f"{self.name}: {self.what.format(f'{self.value:.3f}')}, wanted {self.wanted:g}"


def measured(config: Config, scene: FederatedDataset, scorer: Scorer, tools: ServerContext) -> list[Gate]:
    """The gates that `evaluation.gates` sets, each with its figure, of parts that this method and these data have."""
    wanted = config.evaluation.gates
    found: list[tuple[str, str, float | None, float]] = []
    if wanted is None:
        return []
    images = scene.test.get(ClientTask.IMAGE_CLASSIFICATION)
    if wanted.judge is not None:
        found.append(("judge", _real(images), scorer.real_accuracy, wanted.judge))
    if wanted.generator is not None:
        right = scorer.generator()[0]["t2i_accuracy"]
        drawn = scene.classes * config.evaluation.prompts_per_class
        what = f"the judge sees the class in {{}} of {drawn} pictures that are drawn for it"
        found.append(("generator", what, right, wanted.generator))
    if wanted.captions is not None:
        described = right_captions(scene, tools.captioner)
        what = "a classifier of real texts finds the class in {} of captions of real test pictures"
        found.append(("captions", what, described, wanted.captions))
    return [Gate(name, what, value, least) for name, what, value, least in found if value is not None]


def _real(images: Any) -> str:
    return f"right on {{}} of {len(images) if images is not None else 0} real test pictures"


def right_captions(scene: FederatedDataset, captioner: Any) -> float | None:
    """The share of captions of real test pictures by which a classifier of the clients' texts finds the class.

    The classifier, of words and pairs of words, is for this alone; no method sees it. None without captioner or texts.
    """
    texts, images = (scene.train.get(t) for t in (ClientTask.TEXT_CLASSIFICATION, ClientTask.IMAGE_CLASSIFICATION))
    test = scene.test.get(ClientTask.IMAGE_CLASSIFICATION)
    if captioner is None or not isinstance(texts, TextSet) or not isinstance(test, ImageSet) or images is None:
        return None
    names = [scene.names_of(t) for t in (ClientTask.TEXT_CLASSIFICATION, ClientTask.IMAGE_CLASSIFICATION)]
    if names[0] != names[1]:
        return None
    pick = np.unique(np.linspace(0, len(test) - 1, CAPTIONS).astype(np.int64))
    said = captioner.caption(test.images[pick])
    return float((_read(texts.texts, texts.labels, said) == test.labels[pick]).mean())


def _read(texts: Sequence[str], labels: NDArray[np.int64], asked: Sequence[str]) -> NDArray[np.int64]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    reader = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10.0))
    return reader.fit(list(texts), labels).predict(list(asked))  # type: ignore[no-any-return]


def check(found: Sequence[Gate], evaluation: EvaluationSettings, watch: Observer) -> None:
    """Say how each gate is, and which there is nothing to measure for.

    Raises:
        FedloomError: one is missed, and the run is not to go on without.
    """
    for gate in found:
        watch.filled(f"gate {'passed' if gate.passed else 'MISSED'}, {gate.text}")
    asked = evaluation.gates.model_dump(exclude_none=True) if evaluation.gates else {}
    there = {gate.name for gate in found}
    for name in (name for name in asked if name not in there):
        watch.filled(f"gate {name}: nothing to measure with this method and these data")
    missed = [gate.text for gate in found if not gate.passed]
    if missed and not evaluation.ungated:
        raise FedloomError(f"gate missed, {'; '.join(missed)}. What follows would say little; --ungated goes on")


def pretrained(config: Config, watch: Observer, seconds: float | None = None) -> dict[str, Path]:
    """The folders of the models that a run of a configuration begins with, pretrained now or before, by name.

    Raises:
        BadInput: the configuration is refused.
        OutOfTime: more `seconds` are needed; what is done is kept.
    """
    assets, evaluators = _begun(config, watch, seconds)[-2:]
    found = {"tokenizer": assets.tokenizer, "clip": assets.clip, "generator": assets.generator}
    found |= {"captioner": assets.captioner, **assets.backbones}
    found |= {"judge": evaluators.judge, "scoring-clip": evaluators.clip, "attributes": evaluators.attributes}
    return {name: folder for name, folder in found.items() if folder is not None}


def _begun(
    config: Config, watch: Observer, seconds: float | None = None
) -> tuple[Prepared, FederatedDataset, Assets, Evaluators]:
    """What comes before the first round of a run, without clients: a refused configuration raises BadInput."""
    prepared = prepare(config, None)
    prepared.check_weights()
    scene = cached_dataset(prepared.config.data)
    prepared = prepared.counted(scene)
    settle_process(prepared.config.engine.threads)
    had = (prepared.config, prepared.method, prepared.settings)
    return prepared, scene, *pretrained_models(*had, scene, watch, lambda line: None, seconds)


def gates_of(config: Config, watch: Observer) -> list[Gate]:
    """The gates of a configuration, without any client or round; what is pretrained for it stays in the cache.

    Raises:
        BadInput: it is refused, or none of its gates can be measured.
    """
    prepared, scene, assets, evaluators = _begun(config, watch)
    config, method, settings = prepared.config, prepared.method, prepared.settings
    tools = server_tools(config, method, settings, scene, assets)
    scorer = Scorer(config, scene, evaluators, tools.generator.synthesize if tools.generator else None)
    found = measured(config, scene, scorer, tools)
    if config.evaluation.gates is not None and not found:
        raise BadInput("evaluation.gates: none can be measured with this method and these data, allowed: null")
    return found
