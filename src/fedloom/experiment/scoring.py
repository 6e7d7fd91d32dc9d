"""The scores of a run: clients on their test sets, the generator before a judge, CLIP, and two distances.

The feature network of FID and IS is the judge, unless another is given: a classifier trained on real pictures of the
same data set, whose numbers compare runs of one data set with one another and with nothing else. Everything here is
computed in fp32, a batch of pictures at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedloom.config import Config
from fedloom.data.containers import FederatedDataset, ImageSet
from fedloom.data.pairs import ImageTextPairs
from fedloom.errors import FedloomError
from fedloom.experiment.arrivals import by_group, class_groups, group_names
from fedloom.experiment.attributes import AttributeScores
from fedloom.experiment.checks import own_data
from fedloom.experiment.pretraining import Evaluators
from fedloom.federation.base import Federation
from fedloom.federation.messages import Empty
from fedloom.methods.retrieval_context import figures, scored
from fedloom.metrics.base import Evaluation, Metric
from fedloom.metrics.clip_score import clip_score
from fedloom.metrics.frechet import frechet_distance, moments
from fedloom.metrics.inception import inception_score
from fedloom.metrics.labels import class_counts, class_quality, label_report
from fedloom.metrics.retrieval import TERMS
from fedloom.metrics.streams import probe_accuracy, stream_scores
from fedloom.models.device import device_of
from fedloom.models.evaluators.clip import Clip
from fedloom.models.evaluators.feature_extractor import FeatureExtractor
from fedloom.models.evaluators.features import load_features
from fedloom.models.evaluators.frozen_towers import FrozenTowers, load_scoring_clip
from fedloom.models.evaluators.judge import load_judge
from fedloom.privacy.accounting import as_row
from fedloom.registry import METRICS
from fedloom.seeding import numpy_stream, torch_stream
from fedloom.tasks import CLIENT_TASKS, SINGLE_MODALITY, ClientTask, Modality

CLIP_TRIALS = 128  # real pictures that CLIP is tried on: enough to tell it from chance, cheap with a large one


class Scorer:
    """Scores a generator and a federation; never trains, never sees what it scores before it scores it."""

    def __init__(
        self, config: Config, scene: FederatedDataset, folders: Evaluators, synthesize: Callable[..., Any] | None
    ) -> None:
        self.config, self.scene, self.synthesize = config, scene, synthesize
        self.prompts = scene.prompts
        self.judge: FeatureExtractor | None = None
        self.viewer: FeatureExtractor | None = None  # the feature network of FID
        self.networks: dict[str, str] = {}  # what FID and Inception score are taken on
        self.clip: Clip | FrozenTowers | None = None
        self.real_accuracy: float | None = None
        self.clip_accuracy: tuple[float, int] | None = None  # on real test pictures, and on how many
        self.generic_features: Any = None
        self.joint: Any = None  # multimodal samples of training and test part, as a site stores them
        self.metrics: list[Metric] = [METRICS.find(name) for name in config.evaluation.metrics]
        self.attributes: AttributeScores | None = None
        self.drawn_by_group: dict[str, float | None] = {}  # T2I accuracy on old and new classes
        if folders.attributes is not None:
            self.attributes = AttributeScores(config.evaluation.judge, scene, folders.attributes)
        if folders.judge is not None:
            self._meet(folders.judge)
        if folders.clip is not None and synthesize is not None:
            self.clip = load_scoring_clip(config.evaluation.clip, folders.clip, device_of(config.server.device))
            if isinstance(self.clip, FrozenTowers):
                self.networks["clip_score"] = self.clip.name
            with torch.no_grad():
                self.prompt_vectors = self.clip.embed_texts(self.prompts)
            self._try_clip()

    @torch.no_grad()
    def _try_clip(self) -> None:
        """How often CLIP finds the class of a real test picture by the prompts: of a few, as it may be large."""
        assert self.clip is not None
        test = self.scene.test.get(ClientTask.IMAGE_CLASSIFICATION)
        if not isinstance(test, ImageSet) or not len(test):
            return
        pick = np.unique(np.linspace(0, len(test) - 1, CLIP_TRIALS).astype(np.int64))
        found = (self.clip.embed_pictures(test.images[pick]) @ self.prompt_vectors.T).argmax(1)
        self.clip_accuracy = float((found.numpy() == test.labels[pick]).mean()), len(pick)

    def _meet(self, judge: Path) -> None:
        """Load judge and feature network; what they see in the real test pictures."""
        evaluation, device = self.config.evaluation, device_of(self.config.server.device)
        self.judge = self.viewer = load_judge(evaluation.judge, self.scene.classes, judge, device)
        test = self.scene.test[ClientTask.IMAGE_CLASSIFICATION]
        assert isinstance(test, ImageSet)
        features, p = self.judge.look(test.images)
        assert p is not None
        self.real_accuracy = float((p.argmax(1).numpy() == test.labels).mean())
        known: Tensor | None = p
        if evaluation.features is not None:
            self.viewer = load_features(evaluation.features, device)
            features, known = self.viewer.look(test.images)
        self.real = moments(features)
        self.networks |= {
            "fid": self.viewer.name,
            "inception_score": (self.judge if known is None else self.viewer).name,
        }

    def _look(self, images: NDArray[np.uint8]) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures (N, H, W, 3) to FID's features, the classes of the Inception score, and the judge's (N, C)."""
        assert self.judge is not None
        assert self.viewer is not None
        features, judged = self.judge.look(images)
        assert judged is not None
        known: Tensor | None = judged
        if self.viewer is not self.judge:
            features, known = self.viewer.look(images)
        return features, judged if known is None else known, judged

    def clients(self, federation: Federation) -> dict[str, Any]:
        """The score of every client that answers, and the mean of each modality; recalls of image-text clients."""
        if not federation.clients:
            return {"per_client": {}, "image_accuracy": None, "text_accuracy": None}
        asked = federation.ask("evaluate", Empty(), timeout=self.config.engine.timeout)
        said = {r.client: r.message for r in asked if r.ok}
        each = {k: float(said[k].accuracy) for k in federation.clients if k in said}
        out: dict[str, Any] = {"per_client": each, "tested": {k: int(said[k].samples) for k in each}}
        joint = ClientTask.MULTIMODAL_CLASSIFICATION
        for modality in (*SINGLE_MODALITY, *([joint] if federation.clients_of(joint) else [])):
            out[f"{modality}_accuracy"] = _mean([each[k] for k in federation.clients_of(modality) if k in each])
            out |= self._by_group(modality, [said[k].groups for k in federation.clients_of(modality) if k in said], out)
        if private := {k: as_row(said[k].privacy) for k in each if said[k].privacy is not None}:
            out["privacy"] = private
        if federation.clients_of(ClientTask.RETRIEVAL):
            found = [k for k in federation.clients_of(ClientTask.RETRIEVAL) if k in each]
            out["pair_recall"] = _mean([each[k] for k in found])
            out["retrieval"] = {}
            for k in found:
                out["retrieval"] |= _recall_rows(k, said[k])
        return out

    def _by_group(self, task: ClientTask, said: Sequence[Any], before: Mapping[str, Any]) -> dict[str, Any]:
        """Accuracy by group of a task's test samples, mean over clients; added to what there is of others."""
        names, told = group_names(self.config, self.scene, task), [groups for groups in said if groups is not None]
        if not names or not told:
            return {}
        means = dict(zip(names, np.mean(told, axis=0).tolist()))
        return {"by_group": {**before.get("by_group", {}), str(task): means}}

    def server(self, embed: Callable[[Modality, Any], Any], row: dict[str, Any]) -> None:
        """Add to a round's row how well a server's own model finds pictures by captions and captions by pictures."""
        pairs = self.scene.public_test
        if pairs is None or (images := embed(Modality.IMAGE, pairs.images)) is None:
            return
        z = torch.cat([images, embed(Modality.TEXT, pairs.captions)])
        found = scored(z, pairs, None)
        row["server_recall"] = found.total()
        kept = row.setdefault("retrieval", {})
        kept["server"] = {**dict(zip(TERMS, figures(found).tolist())), "images": len(pairs), "folds": 1}
        if (fold := self.config.evaluation.fold) is not None and fold < len(pairs):
            parts = scored(z, pairs, fold)
            kept[f"server, folds of {fold}"] = {
                **dict(zip(TERMS, figures(parts).tolist())),
                "images": parts.images,
                "folds": parts.folds,
            }

    def shared(self, site: Any, row: dict[str, Any]) -> None:
        """Add to a round's row how well the model that multimodal clients share tells classes.

        By both kinds of data and by either, of each class; and what a linear probe makes of each stream's features,
        fitted on the training samples of all clients, as they were before anything was corrupted.
        """
        if site is None or ClientTask.MULTIMODAL_CLASSIFICATION not in self.scene.test:
            return
        probes = self.config.evaluation.probe and ClientTask.MULTIMODAL_CLASSIFICATION in self.scene.train
        if self.joint is None:
            parts = [self.scene.labelled("test", ClientTask.MULTIMODAL_CLASSIFICATION)]
            parts += [self.scene.labelled("train", ClientTask.MULTIMODAL_CLASSIFICATION)] if probes else []
            self.joint = [(site.stored(part), torch.from_numpy(part.labels.copy())) for part in parts]
        test, truth = self.joint[0]
        h = site.stream_features(test)
        scores, classes = stream_scores(site.model, h, test["present"], truth)
        row |= scores
        row["per_class"] = classes
        if not probes:
            return
        train, labels = self.joint[1]
        seen = site.stream_features(train)
        for i, kind in enumerate(h):
            there, tested = train["present"][:, i], test["present"][:, i]
            row[f"{kind}_probe"] = probe_accuracy(
                seen[kind][there], labels[there], h[kind][tested], truth[tested], self.scene.classes
            )

    def generator(self) -> tuple[dict[str, float | None], NDArray[np.uint8] | None]:
        """T2I accuracy, CLIP score, FID, IS, and the pictures: class by class, the same noise at every call."""
        if self.synthesize is None or self.judge is None:
            return dict.fromkeys(("t2i_accuracy", "clip_score", "fid", "inception_score")), None
        each = self.config.evaluation.prompts_per_class
        labels = np.repeat(np.arange(self.scene.classes), each)
        draws = torch_stream(self.config.server.seed, "evaluation", "noise")  # one noise for all runs and rounds
        images = self.synthesize([self.prompts[c] for c in labels], draws)
        features, known, judged = self._look(images)
        right = judged.argmax(1).numpy() == labels
        self.drawn_by_group = by_group(class_groups(self.config, self.scene.class_names, labels), right)
        scores: dict[str, float | None] = {
            "t2i_accuracy": float(right.mean()),
            "clip_score": None,
            "fid": float(frechet_distance(self.real, features)),
            "inception_score": float(inception_score(known, splits=1)[0]),
        }
        if self.clip is not None:
            vectors = self.clip.embed_pictures(images)
            scores["clip_score"] = float(clip_score(vectors, self.prompt_vectors[torch.from_numpy(labels)]))
        return scores, images

    def added(self, t: int, per_client: Mapping[str, float], images: NDArray[np.uint8] | None) -> dict[str, Any]:
        """The metrics of `evaluation.metrics` in round t, by name; `images` are those that `generator` gave.

        Raises:
            FedloomError: one could not be computed; says why.
        """
        labels = np.repeat(np.arange(self.scene.classes), self.config.evaluation.prompts_per_class)
        evaluation = Evaluation(t, per_client, self.config.clients.everyone())
        if images is not None:
            prompts = tuple(self.prompts[c] for c in labels)
            evaluation = replace(
                evaluation, images=images, prompts=prompts, labels=labels, class_names=self.scene.class_names
            )
            if self.attributes is not None:
                evaluation = replace(evaluation, attributes=self.attributes.shown(images))
        found = {}
        for metric in self.metrics:
            try:
                found[metric.name] = metric.value(evaluation)
            except Exception as error:
                said = f"{type(error).__name__}: {' '.join(str(error).split())}"
                raise FedloomError(f"metric {metric.name!r} failed in round {t}: {said}") from error
        return found

    def forgetting(self) -> dict[str, float | None]:
        """CLIP score, FID and IS on captions of the generic part: how much of what it knew a tuned generator keeps.

        The captions are those that it was pretrained on, the features those of FID: to be compared before and after.
        """
        n, generic = self.config.evaluation.generic, self.scene.public
        if not n or generic is None or self.synthesize is None or self.judge is None:
            return {}
        seed = self.config.server.seed
        n = min(n, len(generic))
        pick = np.sort(numpy_stream(seed, "evaluation", "generic").permutation(len(generic))[:n])
        captions = [generic.captions[i] for i in pick]
        images = self.synthesize(captions, torch_stream(seed, "evaluation", "generic noise"))
        if self.generic_features is None:
            self.generic_features = moments(self._look(generic.images)[0])
        features, known, _ = self._look(images)
        scores: dict[str, float | None] = {
            "generic_fid": float(frechet_distance(self.generic_features, features)),
            "generic_inception_score": float(inception_score(known, splits=1)[0]),
        }
        if self.clip is not None:
            with torch.no_grad():
                said = self.clip.embed_pictures(images), self.clip.embed_texts(captions)
            scores["generic_clip_score"] = float(clip_score(*said))
        return scores

    def true_labels(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        """What pictures (N, H, W, 3) show, by the judge: (N,). For bounds, which are told so."""
        assert self.judge is not None
        _, p = self.judge.look(images)
        assert p is not None
        return p.argmax(1).numpy()

    def labels(self, info: Any) -> tuple[dict[str, Any] | None, NDArray[np.int64] | None]:
        """Label diagnostics of a round, and the judge's labels (S,)."""
        if info is None or self.judge is None:
            return None, None
        _, p = self.judge.look(info.images)
        assert p is not None
        judged = p.argmax(1).numpy()
        report = label_report(info.drawn, info.voted, info.kept, judged)
        counts = class_counts(info.drawn, info.voted, info.kept, self.scene.classes)
        quality = class_quality(info.voted, info.kept, judged, info.votes, self.scene.classes)
        return {**report, "samples": len(judged), "kept": int(info.kept.sum()), **counts, **quality}, judged

    def facts(self) -> dict[str, Any]:
        """What tells how far the scores can be trusted; it stands in the summary.

        test_sets: `samples`, `classes` and the level of `chance` of what clients (by modality), `server` and
        `generator` are scored on; without samples where silos test on data of their own. judge, clip: their accuracy
        on real test pictures, on how many, and chance; `NAME_accuracy`: how often an attribute is seen right.
        class_names.
        """
        levels: dict[str, Any] = {m: level for m in self.scene.test if (level := self._level(m)) is not None}
        sets = dict(levels)
        if own_data(self.config):
            names = {m: len(self.scene.names_of(m)) for m in CLIENT_TASKS}
            sets = {m: {"samples": None, "classes": n, "chance": 1 / n} for m, n in names.items() if n}
        if (pairs := self.scene.public_test) is not None:
            sets["server"] = {"samples": len(pairs), "classes": None, "chance": 1 / len(pairs)}
        elif ClientTask.MULTIMODAL_CLASSIFICATION in levels:
            sets["server"] = levels[ClientTask.MULTIMODAL_CLASSIFICATION]
        C = self.scene.classes
        found: dict[str, Any] = {"class_names": list(self.scene.class_names), "test_sets": sets}
        if self.judge is None:
            return {**found, "judge": {"real_test_accuracy": None}}
        drawn = C * self.config.evaluation.prompts_per_class
        sets["generator"] = {"samples": drawn, "classes": C, "chance": 1 / C}
        real = {
            "real_test_samples": len(self.scene.test[ClientTask.IMAGE_CLASSIFICATION]),
            "chance": levels[ClientTask.IMAGE_CLASSIFICATION]["chance"],
        }
        found["judge"] = {"real_test_accuracy": self.real_accuracy, **real}
        if self.attributes is not None:
            found["judge"] |= {f"{name}_accuracy": share for name, share in self.attributes.accuracy.items()}
        if self.clip_accuracy is not None:
            right, tried = self.clip_accuracy
            found["clip"] = {**real, "real_test_accuracy": right, "real_test_samples": tried}
        return found

    def _level(self, modality: ClientTask) -> dict[str, Any] | None:
        """Size of a test set and what guessing gives on it: the share of its commonest class; of pairs one in all."""
        held = self.scene.test[modality]
        if not len(held):
            return None
        if isinstance(held, ImageTextPairs):
            return {"samples": len(held), "classes": None, "chance": 1 / len(held)}
        classes = len(self.scene.names_of(modality))
        commonest = float(np.bincount(held.labels).max() / len(held))
        return {"samples": len(held), "classes": classes, "chance": commonest}


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _recall_rows(client: str, scores: Any) -> dict[str, Any]:
    """A client's recalls by name: on all its test pictures, and on folds where it has such."""
    whole = dict(zip(TERMS, scores.recalls.tolist()))
    rows = {client: {**whole, "images": scores.samples, "folds": 1}}
    if scores.folded is not None:
        number = scores.samples // scores.fold
        folds = {**dict(zip(TERMS, scores.folded.tolist())), "images": number * scores.fold, "folds": number}
        rows[f"{client}, folds of {scores.fold}"] = folds
    return rows
