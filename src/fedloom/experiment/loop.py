"""The round loop of a run, and what is done around it: set-up, scoring, export, summary."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from fedloom.config import Config
from fedloom.data.containers import FederatedDataset
from fedloom.data.notes import data_notes
from fedloom.data.partition import Split
from fedloom.experiment.arrivals import check_classes, check_kinds
from fedloom.experiment.attendance import Attendances
from fedloom.experiment.begin import FREE_ON_RESUME, Prepared, prepare, refuse_another
from fedloom.experiment.build import ENGINE_VERBS, Link, build_federation, pretrained_models, server_tools, split_data
from fedloom.experiment.checkpoints import restore, write_checkpoint
from fedloom.experiment.checks import check_scene, own_data
from fedloom.experiment.client_builder import picture_side
from fedloom.experiment.clients import client_names
from fedloom.experiment.datasets import cached_dataset
from fedloom.experiment.gates import check, measured
from fedloom.experiment.pace import watched
from fedloom.experiment.peers import peer_figures, server_of
from fedloom.experiment.pretraining import Assets, pretrained_weights
from fedloom.experiment.scoring import Scorer
from fedloom.experiment.summary import SCORED, not_finite, summarise
from fedloom.federation.base import Federation
from fedloom.federation.ledger import Ledger
from fedloom.methods.base import UNCOUNTED, Info, Method, Server, ServerContext, one_round
from fedloom.processes import settle_process
from fedloom.progress import Observer
from fedloom.registry import DATASETS, METHODS, outside_code
from fedloom.reporting.pictures import label_panel, sample_grid
from fedloom.runs import stop
from fedloom.runs.checkpoint import CheckpointStore
from fedloom.runs.exports import seal_export
from fedloom.runs.folder import RunFolder, new_run
from fedloom.runs.load import RunFiles, read_run
from fedloom.tasks import CLIENT_TASKS, ClientTask

VOTES = ""  # no client is called that


def run(
    config: Config | None,
    *,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    overwrite: bool = False,
    observer: Observer | None = None,
    grid: Any = None,
) -> RunFiles:
    """The run that `config` describes, or that goes on in the folder `resume`; see `fedloom.run`."""
    prepared = prepare(config, resume)
    if prepared.finished:
        assert prepared.folder is not None
        return read_run(prepared.folder.path)
    return carry_out(prepared, out=out, overwrite=overwrite, observer=observer, link=grid)


def carry_out(
    prepared: Prepared,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    keep: bool = True,
    observer: Observer | None = None,
    link: Any = None,
) -> RunFiles:
    """Do a prepared run in this process.

    Args:
        link: what the engine's launcher hands over, such as Flower's Grid.
        out, overwrite, keep, observer: as of `fedloom.run`.
    """
    watch = observer or Observer()
    prepared.check_weights()
    scene = cached_dataset(prepared.config.data)
    watch.notes(data_notes(scene))
    prepared = prepared.counted(scene)
    config, method, settings = prepared.config, prepared.method, prepared.settings
    check_scene(config, method, settings, scene)
    check_classes(config, method, scene)
    check_kinds(config, method, settings, scene)
    prepared.check(picture_side(scene))
    splits = split_data(config, scene) if method.tasks and not own_data(config) else {}
    tree, resumed = config.model_dump(mode="json"), prepared.folder is not None
    place = nullcontext(prepared.folder) if prepared.folder else new_run(out, tree, overwrite=overwrite)
    with place as folder, folder.exclusive():
        if resumed:
            refuse_another(folder, config)  # while the data were read, --overwrite may have put another run there
        stop.begin(folder.path)
        folder.pin_inputs(scene.digest, pretrained_weights(tree), outside_code(tree), FREE_ON_RESUME)
        watch.placed(folder.path)
        for line in prepared.notes:
            watch.filled(line)
            folder.log(line)
        return _Experiment(config, method, settings, scene, splits, folder, watch, keep).run(resumed, link)


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
        self.ended: set[str] = set()  # clients whose privacy budget is spent; `VOTES`
        self.config, self.method, self.settings = config, method, settings
        self.scene, self.splits, self.folder, self.watch = scene, splits, folder, watch
        self.names = client_names(config) if method.tasks else {m: [] for m in CLIENT_TASKS}
        self.attendances = Attendances(config.participation if method.tasks else None, config.seed)

    def run(self, resumed: bool, link: Any = None) -> RunFiles:
        """Set up, loop over the rounds, export and summarise."""
        config, method, scene = self.config, self.method, self.scene
        settle_process(config.engine.threads)
        start = time.perf_counter()
        assets, evaluators = pretrained_models(config, method, self.settings, scene, self.watch, self.folder.log)
        tools = server_tools(config, method, self.settings, scene, assets)
        scorer = Scorer(config, scene, evaluators, tools.generator.synthesize if tools.generator else None)
        gates = measured(config, scene, scorer, tools)
        check(gates, config.evaluation, self.watch)
        if method.oracle:
            tools = replace(tools, truth=scorer.true_labels)
        server = server_of(config, method, tools, self.settings)
        self.watch.stage("clients: building and warm start")
        self._record_split()
        keep_in = self.folder.messages if config.engine.keep_messages else None
        ledger = Ledger(self.folder.ledger, uncounted=UNCOUNTED | ENGINE_VERBS, keep=keep_in)
        link = Link(link, self.folder.run_id, scene, self.folder.parked)
        with build_federation(config, method, self.settings, assets, ledger, link) as federation:
            keep = config.checkpoints.keep
            store = CheckpointStore(self.folder.checkpoints, keep=keep, log=self.folder.log)
            setup = time.perf_counter() - start
            rows = restore(self.folder, store, server, federation) if resumed else []
            self._loop(rows, store, server, federation, scorer)
            self.watch.phase(config.rounds, "export")
            federation.conclude()
            if self.keep:
                self._export(store, tools, assets)
        seconds = {"setup": setup, "total": time.perf_counter() - start}
        summary = summarise(config, self.names, rows, seconds, scorer.facts(), scorer.networks)
        summary["data_notes"] = data_notes(scene)
        if gates:
            summary["gates"] = [asdict(gate) | {"passed": gate.passed, "text": gate.text} for gate in gates]
        self.folder.write_summary(summary)
        if not self.keep:  # only now: until the summary is there, the run may have to go on
            shutil.rmtree(self.folder.checkpoints, ignore_errors=True)
        self.watch.end(summary)
        return read_run(self.folder.path)

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
                "method": METHODS.label(self.config.method),
                "data": DATASETS.label(self.config.data.name),
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
            with self.attendances.round(federation) as there, watched(self.watch, federation, self._steps(federation)):
                info = one_round(server, federation, self.method.name) if there else Info()
            if not there:
                self.folder.log(f"round {federation.round}: nobody was there, nothing was learned")
            rows.append(self._finish_round(store, server, federation, scorer, info, rows[-1]))
            if len(rows) <= self.config.rounds:
                self._end_if_asked(store, server, federation)

    def _end_if_asked(self, store: CheckpointStore, server: Server, federation: Federation) -> None:
        """Raises Stopped where this round was to be the last; it can be gone on from."""
        t = federation.round
        if stop.asked(self.folder.path):
            if t % self.config.checkpoints.every:
                write_checkpoint(self.folder, store, server, federation, t)
            raise stop.Stopped(f"stopped after round {t}, as was asked")

    def _steps(self, federation: Federation) -> int:
        """About how many training steps a round takes in this process; 0: not known."""
        work, engine = self.method.server.workload(self.settings, self.config.clients.batch), self.config.engine
        if work is None:
            return 0
        here = engine.name == "local" and not engine.workers
        clients = len(federation.clients) if here else 0
        return clients * (work.private_steps + work.shared_steps) + work.generator_steps + work.server_steps

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
            with self.attendances.scoring(federation):
                row |= scorer.clients(federation)
            scores, images = scorer.generator()
            row |= scores | scorer.forgetting()
            if scorer.drawn_by_group:
                row["by_group"] = {**row.get("by_group", {}), "generator": scorer.drawn_by_group}
            scorer.server(server.embed, row)
            scorer.shared(server.shared_model(), row)
            if scorer.metrics:
                row["metrics"] = scorer.added(t, row["per_client"], images)
            if images is not None:
                self._grid(images, t)
        else:
            row |= {k: None for k in before if k in SCORED} | {"per_client": {}}
        row |= self._participants(federation) | peer_figures(self.config, self.names, row, server)
        row["labels"], judged = scorer.labels(info.labels)
        if info.labels is not None:
            self._panel(info.labels, judged, t)
        row["bytes_up"], row["bytes_down"] = federation.ledger.totals(t, encoded=True)
        row["formula_up"], row["formula_down"] = info.formula or (None, None)
        row["missing"] = [
            {"verb": m.verb, "client": m.client, "error": m.error, "detail": m.detail}
            for m in federation.missing
            if m.round == t
        ]
        row |= self._said(info)
        self._note_budgets(row)
        if broken := not_finite(row):
            row["not_finite"] = broken
        row["seconds"] = {**info.seconds, "evaluation": time.perf_counter() - start}
        self.folder.append_round(row)
        if t % self.config.checkpoints.every == 0 or t == self.config.rounds:
            write_checkpoint(self.folder, store, server, federation, t)
        self.watch.round(row)
        return row

    def _said(self, info: Info) -> dict[str, Any]:
        """What the method says of the round. Private clients tell no loss, and send 0 in its place."""
        private = self.config.clients.privacy is not None
        row: dict[str, Any] = {"losses": {k: (v or None) if private else v for k, v in info.losses.items()}}
        if info.facts:
            row["facts"] = dict(info.facts)
        if info.suspects:
            row["suspects"] = {name: asdict(standing) for name, standing in info.suspects.items()}
        if info.vote_budget:
            row["vote_budget"] = dict(info.vote_budget)
        return row

    def _participants(self, federation: Federation) -> dict[str, Any]:
        """Who was there in the round, where not everybody always is."""
        now = self.attendances.of(federation) if federation.round else None
        return {} if now is None else {"participants": {state: list(who) for state, who in asdict(now).items()}}

    def _note_budgets(self, row: Mapping[str, Any]) -> None:
        """Once, in the log: that a client's private training, or the clients' voting, has ended."""
        if (row.get("vote_budget") or {}).get("refused") and VOTES not in self.ended:
            self.ended.add(VOTES)
            self.folder.log(f"the privacy budget of votes is spent; in round {row['round']} voting ends")
        for client, told in (row.get("privacy") or {}).items():
            if told.get("refused") and client not in self.ended:
                self.ended.add(client)
                self.folder.log(f"{client}: its privacy budget is spent; from round {row['round']} on no private steps")

    def _grid(self, images: Any, t: int) -> None:
        """The sample grid: the first pictures of every class, which have the same noise at every round."""
        e, shown = self.config.evaluation, min(self.scene.classes, 20)
        each = min(e.grid, e.prompts_per_class)
        pick = np.concatenate([np.arange(each) + c * e.prompts_per_class for c in range(shown)])
        sample_grid(images[pick], self.scene.class_names[:shown], self.folder.sample_picture(t))

    def _panel(self, labels: Any, judged: Any, t: int) -> None:
        label_panel(
            labels.images,
            labels.drawn,
            labels.voted,
            labels.kept,
            judged,
            self.scene.class_names,
            self.folder.label_picture(t),
        )

    # -------------------------------------------------------------------------------------------------- the end

    def _export(self, store: CheckpointStore, tools: ServerContext, assets: Assets) -> None:
        """The generator as a diffusers folder, every client's model as a transformers folder."""
        if tools.generator is not None:
            tools.generator.save(self.folder.export / "generator")
            seal_export(self.folder.export / "generator")
        newest = store.latest()
        kept_here = newest is not None and any((newest.path / "clients").glob("*.safetensors"))
        if newest is not None and kept_here:  # else each silo keeps its own
            from fedloom.experiment.export import export_clients

            export_clients(self.config, self.scene, newest.path / "clients", self.folder.export, assets.tokenizer)
