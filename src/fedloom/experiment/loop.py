"""A run from its configuration to its folder: builds everything, owns the only round loop, resumes.

fedloom.run(method="fedmmkt", seed=0)            -> Run
fedloom.run(resume="runs/fedmmkt-flora-0")       -> Run
"""

from __future__ import annotations

import math
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from fedloom.config import Config, load_config
from fedloom.config.trees import validate
from fedloom.data.containers import FederatedDataset
from fedloom.data.notes import data_notes
from fedloom.data.partition import Split
from fedloom.data.tasks import CLIENT_TASKS, ClientTask
from fedloom.errors import BadInput
from fedloom.experiment.client_parts import picture_side
from fedloom.experiment.clients import client_names
from fedloom.experiment.datasets import cached_dataset
from fedloom.experiment.parts import (
    ENGINE_VERBS,
    Link,
    build_federation,
    check_generator,
    check_scene,
    check_scoring,
    check_weights,
    completed,
    counted,
    own_data,
    pretrained_models,
    server_tools,
    sized,
    split_data,
)
from fedloom.experiment.pretraining import Assets, pretrained_weights
from fedloom.experiment.scoring import Scorer
from fedloom.experiment.summary import summarise
from fedloom.federation.base import Federation
from fedloom.federation.ledger import Ledger
from fedloom.methods.base import UNCOUNTED, Info, Method, Server, ServerContext
from fedloom.processes import settle_process
from fedloom.progress import Observer
from fedloom.reporting.pictures import label_panel, sample_grid
from fedloom.reporting.scores import SCORES
from fedloom.runs.checkpoint import CheckpointStore
from fedloom.runs.folder import RunFolder, new_run
from fedloom.runs.load import Run, load_run

# What may change between a run and its resumption: nothing that results depend on.
FREE_ON_RESUME = (
    *("engine.workers", "engine.timeout", "engine.silos", "engine.quorum", "engine.patience"),
    *("engine.cpus", "engine.gpus", "engine.address", "checkpoints.every", "checkpoints.keep"),
)

SCORED = frozenset(score.key for score in SCORES)


def run(
    config: Config | Mapping[str, Any] | str | Path | None = None,
    *,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    overwrite: bool = False,
    keep: bool = True,
    observer: Observer | None = None,
    preset: str | None = None,
    overrides: Sequence[str] = (),
    grid: Any = None,
    notes: Sequence[str] = (),
    **values: Any,
) -> Run:
    """Do a whole run, or go on with one.

    Args:
        config: the configuration, or a YAML file or a mapping to build it from, with `preset`, `overrides`
            ("key=value") and `values` (top-level keys); or these alone.
        out: the run folder; default `runs/METHOD-DATA-SEED...`.
        resume: folder of a run to go on with; its own configuration is used, and any other given must agree with it.
        overwrite: replace a run that `out` already holds.
        keep: export the trained models and keep the last checkpoints; without it only the scores stay (engine local).
        observer: told of everything as it happens.
        grid: the Flower Grid that reaches the silos, for engine.name "flower"; None brings up what engine.mode says.
        notes: what was filled in where `config` was made, to be told once the run begins.

    Raises:
        BadInput: something given is wrong; nothing has been written.
        FedloomError: the run could not go on; what was done is kept, and `resume` goes on from the last whole round.

    A run that ends before round 0 is scored, by an error or an interrupt, leaves no folder: what it pretrained is in
    the cache, so the same call goes on from there.
    """
    watch = observer or Observer()
    if resume is not None:
        folder = RunFolder.open(resume)
        if config is None and not preset and not overrides and not values:
            config = validate(Config, folder.config)
    told = list(notes)  # kept until nothing is refused any more
    if isinstance(config, Mapping):
        values = {**config, **values}
        config = None
    elif isinstance(config, str | Path):
        config = load_config(preset=preset, file=config, overrides=overrides, values=values, say=told.append)
    config = config or load_config(preset=preset, overrides=overrides, values=values, say=told.append)
    asked = sized(config, told.append)
    config, method, settings = completed(asked)
    if resume is not None:
        config, method, settings = completed(counted(asked, method))
        refuse_another(folder, config)
        if folder.summary.exists():
            return load_run(folder.path)
    if config.engine.name == "flower" and grid is None:
        check_weights(config, method, settings)
        check_generator(config, method, settings)
        check_scoring(config, method, settings)
        from fedloom.deployment.launch import launch

        config, _, _ = completed(counted(asked, method, None, told.append))
        for line in told:
            watch.filled(line)
        return launch(config, folder if resume is not None else None, out, overwrite, watch)
    check_weights(config, method, settings)  # before real data are read, which takes minutes
    scene = cached_dataset(config.data)
    watch.notes(data_notes(scene))
    config, method, settings = completed(counted(asked, method, scene, told.append))
    check_scene(config, method, settings, scene)
    check_generator(config, method, settings, picture_side(scene))
    check_scoring(config, method, settings)
    splits = split_data(config, scene) if method.clients and not own_data(config) else {}
    tree = config.model_dump(mode="json")
    own = nullcontext(folder) if resume is not None else new_run(out, tree, overwrite=overwrite)
    with own as folder, folder.exclusive():
        folder.pin_inputs(scene.digest, pretrained_weights(tree), FREE_ON_RESUME)
        for line in told:
            watch.filled(line)
            folder.log(line)
        experiment = _Experiment(config, method, settings, scene, splits, folder, watch, keep)
        return experiment.run(resume is not None, grid)


def not_finite(row: Mapping[str, Any]) -> list[str]:
    """The scores and losses of a row that are NaN or infinite: the file holds null in their place."""
    named = {k: v for k, v in row.items() if k in SCORED} | {
        f"loss of {k}": v for k, v in (row.get("losses") or {}).items()
    }
    return [k for k, v in named.items() if isinstance(v, float) and not math.isfinite(v)]


def refuse_another(folder: RunFolder, config: Config) -> None:
    """Raises BadInput when `config` is not what the run in `folder` can go on with; says where they differ."""
    if different := folder.same_config(config.model_dump(mode="json"), FREE_ON_RESUME):
        raise BadInput(f"{folder.path} is a run of another configuration: {'; '.join(different[:3])}")


class _Experiment:
    """One run: its parts, and the round loop over them."""

    def __init__(
        self,
        config: Config,
        method: Method,
        settings: Any,
        scene: FederatedDataset,
        splits: Mapping[ClientTask, Split],
        folder: RunFolder,
        watch: Observer,
        keep: bool = True,
    ) -> None:
        self.keep = keep
        self.config, self.method, self.settings = config, method, settings
        self.scene, self.splits, self.folder, self.watch = scene, splits, folder, watch
        self.names = client_names(config) if method.clients else {m: [] for m in CLIENT_TASKS}

    def run(self, resumed: bool, grid: Any = None) -> Run:
        """Set up, loop over the rounds, export and summarise."""
        config, method, scene = self.config, self.method, self.scene
        settle_process(config.engine.threads)
        start = time.perf_counter()
        assets = pretrained_models(config, method, self.settings, scene, self.watch, self.folder.log)
        tools = server_tools(config, method, self.settings, scene, assets)
        server = method.server(tools, self.settings)
        scorer = Scorer(config, scene, assets, tools.generator.synthesize if tools.generator else None)
        self.watch.stage("clients: building and warm start")
        self._record_split()
        ledger = Ledger(self.folder.ledger, uncounted=UNCOUNTED | ENGINE_VERBS)
        link = Link(grid, self.folder.run_id, scene) if grid is not None else None
        with build_federation(config, method, self.settings, assets, ledger, link, scene.digest) as federation:
            keep = config.checkpoints.keep
            store = CheckpointStore(self.folder.checkpoints, keep=keep, log=self.folder.log)
            setup = time.perf_counter() - start
            rows = self._restore(store, server, federation) if resumed else []
            self._loop(rows, store, server, federation, scorer)
            self.watch.phase(config.rounds, "export")
            federation.conclude()
            if self.keep:
                self._export(store, tools, assets)
        seconds = {"setup": setup, "total": time.perf_counter() - start}
        summary = summarise(config, self.names, rows, seconds, scorer.facts(), scorer.networks)
        summary["data_notes"] = data_notes(scene)
        self.folder.write_summary(summary)
        if not self.keep:  # only now: until the summary is there, the run may have to go on
            shutil.rmtree(self.folder.checkpoints, ignore_errors=True)
        self.watch.end(summary)
        return load_run(self.folder.path)

    def _record_split(self) -> None:
        """Who holds how many of which class: the columns of each label space beside one another."""
        if not self.splits:
            return
        spaces = {m: self.scene.names_of(m) or ("pairs",) for m in self.splits}
        columns = list(dict.fromkeys(spaces.values()))  # one where all modalities have the same classes
        table = []
        for modality, split in self.splits.items():
            counts = split.counts(len(spaces[modality]))
            blocks = [
                counts if space == spaces[modality] else np.zeros((len(counts), len(space)), dtype=np.int64)
                for space in columns
            ]
            table.append(np.concatenate(blocks, axis=1))
        clients = [name for m in self.splits for name in self.names[m]]
        self.folder.write_split(np.concatenate(table), clients, [c for space in columns for c in space])

    # -------------------------------------------------------------------------------------------------- rounds

    def _loop(
        self,
        rows: list[dict[str, Any]],
        store: CheckpointStore,
        server: Server,
        federation: Federation,
        scorer: Scorer,
    ) -> None:
        """The rounds that `rows` lacks, round 0 (the state before) first; `rows` gets a row for each."""
        self.watch.begin(
            {
                "method": self.config.method,
                "data": self.config.data.name,
                "rounds": self.config.rounds,
                "folder": self.folder.path,
                "clients": self.names,
                "resumed_at": len(rows),
            }
        )
        for row in rows:
            self.watch.round(row)
        if not rows:
            rows.append(self._finish_round(store, server, federation, scorer, Info(), None))
        while len(rows) <= self.config.rounds:
            federation.round = len(rows)
            federation.refresh_clients()
            self.watch.phase(federation.round, "round")
            info = server.round(federation)
            rows.append(self._finish_round(store, server, federation, scorer, info, rows[-1]))

    def _finish_round(
        self,
        store: CheckpointStore,
        server: Server,
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
            row |= scores | scorer.forgetting()
            scorer.server(server.embed, row)
            scorer.shared(server.shared_model(), row)
            if images is not None:
                self._grid(images, t)
        else:
            row |= {k: None for k in before if k in SCORED} | {"per_client": {}}
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
        if info.facts:
            row["facts"] = dict(info.facts)
        if broken := not_finite(row):
            row["not_finite"] = broken
        row["seconds"] = {**info.seconds, "evaluation": time.perf_counter() - start}
        self.folder.append_round(row)
        if t % self.config.checkpoints.every == 0 or t == self.config.rounds:
            self._checkpoint(store, server, federation, t)
        self.watch.round(row)
        return row

    def _checkpoint(self, store: CheckpointStore, server: Server, federation: Federation, t: int) -> None:
        """The state after round t, of server and clients."""
        federation.ledger.sync()  # the record of what left the sites is on disk before what was made of it
        with store.writing(t) as tmp:
            save_file({k: np.asarray(v, order="C") for k, v in server.state().items()}, tmp / "server.safetensors")
            federation.checkpoint(tmp / "clients")
        federation.checkpoint_moved(self.folder.checkpoints / f"round_{t:04d}" / "clients")

    def _restore(self, store: CheckpointStore, server: Server, federation: Federation) -> list[dict[str, Any]]:
        """Take up the newest checkpoint and forget what came after it; no row when there is none yet."""
        newest = store.latest()
        if newest is None:
            self.folder.rewrite_rounds([])
            federation.ledger.truncate(-1)
            return []
        self._check_told(newest.round, federation.ledger)
        server.load_state(load_file(newest.path / "server.safetensors"))
        federation.restore(newest.path / "clients")
        self.folder.rewind(newest.round)
        federation.ledger.truncate(newest.round)
        self.folder.log(f"resumed after round {newest.round}")
        return self.folder.read_rounds()

    def _check_told(self, newest: int, ledger: Ledger) -> None:
        """Raises BadInput where metrics and ledger do not hold all rounds that the newest checkpoint is after."""
        rows = [row for row in self.folder.read_rounds() if row.get("round", 0) <= newest]
        found = [row.get("round") for row in rows]
        if found != list(range(newest + 1)):
            raise BadInput(
                f"{self.folder.metrics}: holds the rounds {', '.join(map(str, found)) or 'none'}, expected 0 to "
                f"{newest} as the newest checkpoint: lines are missing. Put the file back, or begin a new run"
            )
        kept = Counter[tuple[int, str]]()
        for sent in ledger.rows():
            kept[sent["round"], sent["direction"]] += sent["encoded_bytes"] * sent["counted"]
        for row in rows:
            for way in ("up", "down"):
                told, held = row.get(f"bytes_{way}") or 0, kept[row["round"], way]
                if held < told:
                    raise BadInput(
                        f"{self.folder.ledger}: of round {row['round']} it holds {held} bytes {way}, metrics.jsonl "
                        f"{told}: lines are missing. Put the file back, or begin a new run"
                    )

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

    def _export(self, store: CheckpointStore, tools: ServerContext, assets: Assets) -> None:
        """The generator as a diffusers folder, every client's model as a transformers folder."""
        if tools.generator is not None:
            tools.generator.save(self.folder.export / "generator")
        newest = store.latest()
        kept_here = newest is not None and any((newest.path / "clients").glob("*.safetensors"))
        if newest is not None and kept_here:  # else each silo keeps its own
            from fedloom.experiment.export import export_clients

            export_clients(self.config, self.scene, newest.path / "clients", self.folder.export, assets.tokenizer)
