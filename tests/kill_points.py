"""Runs that kill themselves by SIGKILL at a marked point: of the server, of a worker process, of a silo.

    python -m kill_points ROOT OVERRIDES CASES      does the runs, one after the other, each in a child of this process;
                                                    how each ended is in ROOT/NAME.status
    python -m kill_points worker PLACE STAGE ROUND  is a worker process that dies there

Where a worker or a silo reaches its point all die, as when a machine fails: of one that dies alone the round goes on
without it (`test_local_workers`, `test_real_federation`).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

WORKERS, SILOS = 2, 3
CLIENT, LAST = "text-0", "text-1"  # whose work is broken off: the third of four, and the last


class Case(NamedTuple):
    """Who dies, in which stage of a run, in which round."""

    place: str
    stage: str
    round: int

    @property
    def name(self) -> str:
        return f"{self.place}-{self.stage}-{self.round}"

    @property
    def engine(self) -> tuple[str, ...]:
        """How the run is carried."""
        if self.place in ("worker", "server with workers"):
            return (f"engine.workers={WORKERS}",)
        return ("engine.name=flower", f"engine.silos={SILOS}") if "flower" in self.place or self.place == "silo" else ()

    def grid(self, root: Path) -> Any:
        """Silos in this process whose folders lie in `root`; None for other engines."""
        if not self.engine or "engine.name=flower" not in self.engine:
            return None
        from test_engines import grid_of

        return grid_of(root / f"{self.name}-silos", SILOS)


def die() -> None:
    if sys.argv[1] == "worker":
        os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str, when: Callable[..., bool]) -> None:
    """Dies instead of calling that function, the first time that `when` holds of its arguments."""
    plain = getattr(owner, name)

    def hooked(*args: Any, **kwargs: Any) -> Any:
        if when(*args, **kwargs):
            die()
        return plain(*args, **kwargs)

    setattr(owner, name, hooked)


def after(owner: Any, name: str, when: Callable[..., bool]) -> None:
    """Dies instead of returning from it."""
    plain = getattr(owner, name)

    def hooked(*args: Any, **kwargs: Any) -> Any:
        found = plain(*args, **kwargs)
        if when(*args, **kwargs):
            die()
        return found

    setattr(owner, name, hooked)


def arrange(case: Case) -> None:
    """Puts the mark of the case into this process, if it is one of its process's."""
    if case.place == "worker" and sys.argv[1] != "worker":
        return _workers_die(case)
    (_of_client if case.place in ("worker", "silo") else _of_server)(case.stage, case.round)


def _of_server(stage: str, at: int) -> None:
    from fedloom.experiment import loop
    from fedloom.federation.engines.flower.grid import GridFederation
    from fedloom.federation.engines.workers.pool import WorkerPool
    from fedloom.federation.host import Snapshot
    from fedloom.methods import base, fedmmkt
    from fedloom.models.generators import pixel
    from fedloom.runs import checkpoint, folder

    now = [0]  # the round that the server is in
    server_round = fedmmkt.FedMMKTServer.round

    def watched(self: Any, federation: Any) -> Any:
        now[0] = federation.round
        try:
            return server_round(self, federation)
        finally:
            now[0] = 0

    fedmmkt.FedMMKTServer.round = watched  # type: ignore[method-assign]
    match stage:
        case "synthesis":
            before(pixel.Generator, "synthesize", lambda *a, **k: now[0] == at)
        case "training":  # of the third client, between its synthetic and its private steps
            third = CLIENT, (at,)
            before(base.Client, "train_private", lambda self, steps, *names: (self.context.name, names) == third)
        case "asked":  # clients train, or have done so and are ahead of the server
            for owner, name in ((WorkerPool, "post"), (GridFederation, "_post")):
                after(owner, name, lambda self, asked: any(r.verb == "retrain" and r.round == at for r in asked))
        case "saving":  # half of the clients are in the new checkpoint
            before(Snapshot, "write", lambda self, place, tag, **_: (self.client, tag["round"]) == (CLIENT, at))
        case "sealing":  # all files are there, but the checkpoint is not
            before(checkpoint, "write_manifest", lambda place, facts, *_: facts["round"] == at)
        case "pruning":  # the checkpoint is there, and the old ones still are
            before(checkpoint.CheckpointStore, "_prune", lambda self, newest: newest == at)
        case "exporting":  # the generator is written, no client's model is
            before(loop, "seal_export", lambda place: True)
        case "concluding":
            before(GridFederation, "conclude", lambda self: True)
        case "summary":
            before(folder.RunFolder, "write_summary", lambda self, summary: True)


def _of_client(stage: str, at: int) -> None:
    from fedloom.experiment.client_builder import ClientBuilder
    from fedloom.federation.engines.silo.store import SiloStore
    from fedloom.federation.host import ClientHost
    from fedloom.methods import base
    from fedloom.methods.shared_client import SharedClient

    match stage:
        case "synthesis":  # it is shown what was synthesised
            before(SharedClient, "infer", lambda self, message, *, round: (self.context.name, round) == (CLIENT, at))
        case "training":
            third = CLIENT, (at,)
            before(base.Client, "train_private", lambda self, steps, *names: (self.context.name, names) == third)
        case "saving":
            before(ClientHost, "save", lambda self, place, tag: self.spec.name == CLIENT and tag["round"] == at)
        case "keeping":  # the request is done, and its state is not saved
            before(SiloStore, "save", lambda self, run, shot, place, *r: (shot.client, place.round) == (CLIENT, at))
        case "kept":  # it is, and the reply has not left
            after(SiloStore, "save", lambda self, run, shot, place, *r: (shot.client, place.round) == (CLIENT, at))
        case "scoring":
            before(base.Client, "evaluate", lambda self, message, *, round: (self.context.name, round) == (CLIENT, at))
        case "exporting":  # at the end, before the model of one of these is written
            before(ClientBuilder, "write", lambda self, model, place: place.name == (CLIENT, LAST)[at])


def _workers_die(case: Case) -> None:
    """Worker processes are started with the mark in them."""
    from fedloom.federation.engines.workers import pool

    plain = pool.FramedChild.__init__

    def marked(self: Any, python: Any, *args: Any, **kwargs: Any) -> None:
        mark = ["-m", "kill_points", "worker", case.stage, str(case.round)]
        plain(self, mark if python[-1].endswith(".worker") else python, *args, **kwargs)

    pool.FramedChild.__init__ = marked  # type: ignore[method-assign]


def main() -> None:
    if sys.argv[1] == "worker":
        from fedloom.federation.engines.workers import worker

        arrange(Case("worker", sys.argv[2], int(sys.argv[3])))
        worker.main()
        return
    import fedloom

    root, overrides = Path(sys.argv[1]), json.loads(sys.argv[2])
    for case in (Case(*told) for told in json.loads(sys.argv[3])):
        child = os.fork()  # after the imports, and before torch has any thread
        if not child:
            try:
                arrange(case)
                given = (*overrides, *case.engine)
                fedloom.run(preset="smoke", overrides=given, out=root / case.name, grid=case.grid(root))
            finally:
                os._exit(3)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        (root / f"{case.name}.status").write_text(str(status))


if __name__ == "__main__":
    import diffusers  # noqa: F401 - once, for all children
    import matplotlib.pyplot as plt  # noqa: F401
    from transformers import (  # noqa: F401
        BeitForImageClassification,
        BertForSequenceClassification,
        ViTForImageClassification,
    )

    import fedloom.api
    import fedloom.experiment.loop
    import fedloom.methods.fedmmkt
    import fedloom.models.generators.pixel  # noqa: F401

    main()
