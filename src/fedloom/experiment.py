"""A run from its configuration to its folder: builds everything, owns the only round loop, resumes.

fedloom.run(method="fedmmkt", seed=0)            -> Run
fedloom.run(resume="runs/fedmmkt-flora-0")       -> Run
"""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from fedloom.config import Config, load_config, validate
from fedloom.data.scene import ImageSet, Scene
from fedloom.errors import BadInput
from fedloom.federation.base import Federation
from fedloom.federation.ledger import Ledger
from fedloom.federation.local import LocalFederation
from fedloom.federation.nobody import Nobody
from fedloom.methods.base import UNCOUNTED, Info, Method, ServerHalf, Tools, load_method
from fedloom.pretraining import Assets, prepare
from fedloom.progress import Observer
from fedloom.quiet import settle_process
from fedloom.report.pictures import label_panel, sample_grid
from fedloom.runs.checkpoint import CheckpointStore
from fedloom.runs.folder import RunFolder, new_run_path
from fedloom.runs.load import Run, load_run
from fedloom.scenes import cached_scene, split_scene
from fedloom.scoring import Scorer
from fedloom.sites import MODALITIES, client_names, settle_worker, site_specs

# What may change between a run and its resumption: nothing that results depend on.
FREE_ON_RESUME = ("engine.workers", "engine.timeout")


def run(
    config: Config | None = None,
    *,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    overwrite: bool = False,
    observer: Observer | None = None,
    preset: str | None = None,
    overrides: Sequence[str] = (),
    **values: Any,
) -> Run:
    """Do a whole run, or go on with one.

    Args:
        config: the configuration; or build it from `preset`, `overrides` ("key=value") and `values` (top-level keys).
        out: the run folder; default `runs/METHOD-DATA-SEED...`.
        resume: folder of a run to go on with; its own configuration is used, and any other given must agree with it.
        overwrite: replace a run that `out` already holds.
        observer: told of everything as it happens.

    Raises:
        BadInput: something given is wrong; nothing has been written.
        FedloomError: the run could not go on; what was done is kept, and `resume` goes on from the last whole round.
    """
    watch = observer or Observer()
    if resume is not None:
        folder = RunFolder.open(resume)
        if config is None and not preset and not overrides and not values:
            config = validate(Config, folder.config)
        config = config or load_config(preset=preset, overrides=overrides, values=values)
    else:
        config = config or load_config(preset=preset, overrides=overrides, values=values)
    method, settings = resolve(config)
    config = config.model_copy(update={"settings": settings.model_dump(mode="json")})
    if resume is not None:
        if different := folder.same_config(config.model_dump(mode="json"), FREE_ON_RESUME):
            raise BadInput(f"{resume} is a run of another configuration: {'; '.join(different[:3])}")
        if folder.summary.exists():
            return load_run(folder.path)
    scene = cached_scene(config.data)
    splits = _splits(config, scene) if method.clients else {}
    if resume is None:
        place = Path(out) if out else new_run_path(config.method, config.data.name, config.seed)
        folder = RunFolder.create(place, config.model_dump(mode="json"), overwrite=overwrite)
    with folder.exclusive():
        return _Experiment(config, method, settings, scene, splits, folder, watch).run(resume is not None)


def resolve(config: Config) -> tuple[Method, Any]:
    """The method and its settings: what its name fixes, then what the configuration says, fitted to the modalities."""
    method, fixed = load_method(config.method)
    for key, value in fixed.items():
        if config.settings.get(key, value) != value:
            raise BadInput(
                f"settings.{key} = {config.settings[key]!r}: {config.method} is defined by {value!r}"
            )
    settings = validate(method.settings, {**config.settings, **fixed}, "settings")
    modalities = [m for m in MODALITIES for _ in config.clients.learners(m)]
    if (quorum := config.engine.quorum) is not None and quorum > len(modalities):
        raise BadInput(
            f"engine.quorum = {quorum}: there are {len(modalities)} clients, allowed: 1 to {len(modalities)}"
        )
    return method, method.resolve(settings, modalities)


def _splits(config: Config, scene: Scene) -> dict[str, Any]:
    return {
        m: split_scene(scene, config.data, len(learners), m, config.seed)
        for m in MODALITIES
        if (learners := config.clients.learners(m))
    }


class _Experiment:
    """One run: its parts, and the round loop over them."""

    def __init__(
        self,
        config: Config,
        method: Method,
        settings: Any,
        scene: Scene,
        splits: Mapping[str, Any],
        folder: RunFolder,
        watch: Observer,
    ) -> None:
        self.config, self.method, self.settings = config, method, settings
        self.scene, self.splits, self.folder, self.watch = scene, splits, folder, watch
        self.seconds: dict[str, float] = {}
        self.names = client_names(config) if method.clients else {m: [] for m in MODALITIES}

    def run(self, resumed: bool) -> Run:
        """Set up, loop over the rounds, export and summarise."""
        config = self.config
        settle_process(config.engine.threads)
        start = time.perf_counter()
        assets = self._prepare()
        tools = self._tools(assets)
        server = self.method.server(tools, self.settings)
        scorer = Scorer(config, self.scene, assets, tools.generator.synthesize if tools.generator else None)
        self.watch.stage("clients: building and warm start")
        self._record_split()
        with ExitStack() as stack:
            federation = stack.enter_context(self._federation(assets))
            store = CheckpointStore(self.folder.checkpoints, log=self.folder.log)
            self.seconds["setup"] = time.perf_counter() - start
            rows = self._restore(store, server, federation) if resumed else []
            self.watch.begin(
                {
                    "method": config.method,
                    "data": config.data.name,
                    "rounds": config.rounds,
                    "folder": self.folder.path,
                }
                | {"clients": self.names, "resumed_at": len(rows)}
            )
            for row in rows:
                self.watch.round(row)
            if not rows:
                rows.append(self._finish_round(store, server, federation, scorer, Info(), None))
            while len(rows) <= config.rounds:
                federation.round = len(rows)
                self.watch.phase(federation.round, "round")
                info = server.round(federation)
                rows.append(self._finish_round(store, server, federation, scorer, info, rows[-1]))
            self.watch.phase(config.rounds, "export")
            self._export(store, server, tools, assets)
        return self._summarise(rows, scorer, time.perf_counter() - start)

    # -------------------------------------------------------------------------------------------------- set up

    def _prepare(self) -> Assets:
        needs: set[str] = {"generator", "captioner"} & self.method.uses
        if self.method.uses & {"captioner"} and not self._needs_captions():
            needs -= {"captioner"}
        if "generator" in self.method.uses:
            needs |= {"judge"}
        if self.method.clients:
            needs |= {"backbones"}
        return prepare(self.config, self.scene, frozenset(needs), self.watch, self.folder.log)

    def _needs_captions(self) -> bool:
        """Captions are read by text clients, and by a generator tuned on them."""
        texts = self.method.clients and bool(self.config.clients.text)
        return (
            texts
            or getattr(self.settings, "train_text", "prompt") != "prompt"
            or getattr(self.settings, "data", "") == "caption"
        )

    def _tools(self, assets: Assets) -> Tools:
        config, scene = self.config, self.scene
        generator = captioner = features = None
        if assets.generator is not None:
            from fedloom.models.generator import load_generator

            generator = load_generator(assets.generator, config.clients.width)
            g = config.server.generator
            generator.pipe.register_to_config(guidance=g.guidance, sampling_steps=g.sampling_steps)
        if assets.captioner is not None:
            from fedloom.models.captioner import load_captioner

            captioner = load_captioner(assets.captioner, config.server.captioner.max_tokens)
        if "features" in self.method.uses and assets.clip is not None:
            from fedloom.models.clip import load_clip
            from fedloom.models.pictures import to_float

            clip = load_clip(assets.clip).requires_grad_(False)

            def features(images: Any) -> Any:
                return clip.embed_images(to_float(images))

        real = scene.train.get("image") if "real" in self.method.uses else None
        return Tools(
            class_names=scene.class_names,
            prompts=tuple(scene.prompt(c) for c in range(scene.classes)),
            width=config.clients.width,
            seed=config.seed,
            rounds=config.rounds,
            timeout=config.engine.timeout,
            quorum=config.engine.quorum,
            generator=generator,
            captioner=captioner,
            features=features,
            real=real if isinstance(real, ImageSet) else None,
        )

    def _federation(self, assets: Assets) -> Federation:
        config, contract = self.config, self.method.contract(self.settings)
        ledger = Ledger(self.folder.ledger, uncounted=UNCOUNTED)
        if not self.method.clients:
            return Nobody(contract, ledger)
        return LocalFederation(
            site_specs(config, config.method, config.settings, assets),
            contract,
            ledger,
            workers=config.engine.workers,
            threads=config.engine.threads,
            start_timeout=1800.0,
            initialiser=f"{settle_worker.__module__}:{settle_worker.__name__}",
        )

    def _record_split(self) -> None:
        if self.splits:
            counts = np.concatenate([split.counts(self.scene.classes) for split in self.splits.values()])
            self.folder.write_split(
                counts, [n for names in self.names.values() for n in names], self.scene.class_names
            )

    # -------------------------------------------------------------------------------------------------- rounds

    def _finish_round(
        self,
        store: CheckpointStore,
        server: ServerHalf,
        federation: Federation,
        scorer: Scorer,
        info: Info,
        before: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        """Score the round, draw its pictures, write its row and its checkpoint."""
        t, start = federation.round, time.perf_counter()
        self.watch.phase(t, "evaluation")
        row: dict[str, Any] = {"round": t}
        if before is None or t == self.config.rounds or t % self.config.evaluation.every == 0:
            row |= scorer.clients(federation)
            scores, images = scorer.generator()
            row |= scores
            if images is not None:
                self._grid(images, t)
        else:
            row |= {k: None for k in before if k.endswith(("accuracy", "score", "fid"))} | {"per_client": {}}
        row["labels"], oracle = scorer.labels(info.labels)
        if info.labels is not None:
            self._panel(info.labels, oracle, t)
        row["bytes_up"], row["bytes_down"] = federation.ledger.totals(t, encoded=True)
        row["formula_up"], row["formula_down"] = info.formula or (None, None)
        row["missing"] = [
            {"verb": m.verb, "client": m.client, "error": m.error, "detail": m.detail}
            for m in federation.missing
            if m.round == t
        ]
        row["losses"] = dict(info.losses)
        row["seconds"] = {**info.seconds, "evaluation": time.perf_counter() - start}
        self.folder.append_round(row)
        with store.writing(t) as tmp:
            save_file(
                {k: np.asarray(v, order="C") for k, v in server.state().items()}, tmp / "server.safetensors"
            )
            federation.checkpoint(tmp / "clients")
        federation.checkpoint_moved(self.folder.checkpoints / f"round_{t:04d}" / "clients")
        self.watch.round(row)
        return row

    def _restore(
        self, store: CheckpointStore, server: ServerHalf, federation: Federation
    ) -> list[dict[str, Any]]:
        """Take up the newest checkpoint and forget what came after it; no row when there is none yet."""
        newest = store.latest()
        if newest is None:
            self.folder.rewrite_rounds([])
            federation.ledger.truncate(-1)
            return []
        server.load_state(load_file(newest.path / "server.safetensors"))
        federation.restore(newest.path / "clients")
        self.folder.rewind(newest.round)
        federation.ledger.truncate(newest.round)
        self.folder.log(f"resumed after round {newest.round}")
        return self.folder.read_rounds()

    def _grid(self, images: Any, t: int) -> None:
        """The sample grid: the first pictures of every class, which have the same noise at every round."""
        e, shown = self.config.evaluation, min(self.scene.classes, 20)
        each = min(e.grid, e.prompts_per_class)
        pick = np.concatenate([np.arange(each) + c * e.prompts_per_class for c in range(shown)])
        sample_grid(images[pick], self.scene.class_names[:shown], self.folder.sample_picture(t))

    def _panel(self, labels: Any, oracle: Any, t: int) -> None:
        label_panel(
            labels.images,
            labels.drawn,
            labels.voted,
            labels.kept,
            oracle,
            self.scene.class_names,
            self.folder.label_picture(t),
        )

    # -------------------------------------------------------------------------------------------------- the end

    def _export(self, store: CheckpointStore, server: ServerHalf, tools: Tools, assets: Assets) -> None:
        """The generator as a diffusers folder, every client's model as a transformers folder."""
        if tools.generator is not None:
            tools.generator.save(self.folder.export / "generator")
        newest = store.latest()
        if newest is not None and self.method.clients:
            from fedloom.exporting import export_clients

            export_clients(
                self.config, self.scene, newest.path / "clients", self.folder.export, assets.tokenizer
            )

    def _summarise(self, rows: Sequence[Mapping[str, Any]], scorer: Scorer, elapsed: float) -> Run:
        import fedloom

        first, last = rows[0], rows[-1]
        summary: dict[str, Any] = {
            "method": self.config.method,
            "data": self.config.data.name,
            "seed": self.config.seed,
            "rounds": self.config.rounds,
            "clients": self.names,
        }
        for score in (
            "image_accuracy",
            "text_accuracy",
            "t2i_accuracy",
            "clip_score",
            "fid",
            "inception_score",
        ):
            summary[score] = {"before": first[score], "after": last[score]}
        for modality, names in self.names.items():
            each = {n: last["per_client"][n] for n in names if n in last["per_client"]}
            summary[f"{modality}_accuracy"]["per_client"] = each
        summary["labels"] = last["labels"]
        summary["bytes_up"] = sum(r["bytes_up"] for r in rows)
        summary["bytes_down"] = sum(r["bytes_down"] for r in rows)
        phases = dict(self.seconds)
        for row in rows:
            for phase, value in row["seconds"].items():
                phases[phase] = phases.get(phase, 0.0) + value
        summary["seconds"] = {**phases, "total": elapsed}
        usage = [
            resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        ]
        summary["peak_memory_bytes"] = 1024 * max(usage)
        summary["judge"] = {"real_test_accuracy": scorer.real_accuracy}
        summary["version"] = fedloom.__version__
        self.folder.write_summary(summary)
        self.watch.end(summary)
        return load_run(self.folder.path)


__all__ = ["resolve", "run"]
