"""Assets built side by side: one child process a chain of assets, its steps counted, its failure told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack

from fedloom.config import Config
from fedloom.errors import BadInput, FedloomError
from fedloom.experiment.datasets import cached_dataset
from fedloom.experiment.pretraining.builders import asset
from fedloom.progress import Observer
from fedloom.signals import leave_to_parent

# How a child ends after an error that a person can mend; after a bug, Python itself ends it with status 1.
FAILED, WRONG_INPUT = 3, 4
_CHILD = "from fedloom.experiment.pretraining.processes import work; work()"


def build_side_by_side(config: Config, chains: Sequence[Sequence[str]], watch: Observer) -> None:
    """Build every chain in a process of its own. Whatever ends the wait ends the processes too.

    They are plain child processes, so that a user's script needs no `__main__` guard.

    Args:
        chains: kinds of assets, as for `asset`; within a chain one is built after the other.
        watch: told the training steps done, of all chains together.

    Raises:
        FedloomError: what the child raised, on one line; or a signal ended the child.
        RuntimeError: a bug in the child; holds all that it wrote to stderr, its traceback included.
    """
    total = sum(_steps_of(config, kind) for chain in chains for kind in chain)
    families = dict.fromkeys(k.partition("-")[0] for chain in chains for k in chain)
    watch.stage("pretraining " + ", ".join(families), total)
    command = [sys.executable, "-P", "-c", _CHILD]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with ExitStack() as stack:
        errors = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in chains]
        children = [
            subprocess.Popen(command, stdin=-1, stdout=-1, stderr=error, text=True, env=environment) for error in errors
        ]
        for child in children:
            stack.callback(child.wait)
            stack.callback(child.kill)
        done = [0] * len(chains)
        readers = [threading.Thread(target=_follow, args=(c, done, n), daemon=True) for n, c in enumerate(children)]
        for child, chain, reader in zip(children, chains, readers):
            assert child.stdin is not None
            child.stdin.write(json.dumps({"config": config.model_dump(mode="json"), "kinds": list(chain)}))
            child.stdin.close()
            reader.start()
        while any(reader.is_alive() for reader in readers):
            time.sleep(0.2)
            watch.at(sum(done))
        for child, error in zip(children, errors):
            if status := child.wait():
                error.seek(0)
                raise _failure(status, error.read().strip())
    watch.at(total)


def _steps_of(config: Config, kind: str) -> int:
    """Training steps of an asset."""
    if kind.startswith("backbone-"):
        return config.public_steps
    return int((config.evaluation.judge if kind == "judge" else getattr(config.server, kind)).steps)


def _follow(child: subprocess.Popen[str], done: list[int], n: int) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        if line.strip().isdigit():
            done[n] = int(line)


def _failure(status: int, said: str) -> Exception:
    """What to raise for a child that ended with `status` and wrote `said` to stderr."""
    if status in (FAILED, WRONG_INPUT):
        kind = BadInput if status == WRONG_INPUT else FedloomError
        return kind(f"pretraining failed: {said.splitlines()[-1]}")
    if status < 0:  # mostly the system's doing, when memory is short
        return FedloomError(f"pretraining failed: signal {-status} ({signal.strsignal(-status)}) ended a process")
    return RuntimeError(f"pretraining failed in a child process (exit status {status}), which said:\n{said}")


# ------------------------------------------------------------------------------------------------ the child's side


def work() -> None:
    """A child process: builds the chain it reads from stdin, and writes its count of steps to stdout.

    An error that a person can mend becomes the last line of stderr and an exit status; a bug keeps its traceback.
    """
    leave_to_parent()
    try:
        order = json.load(sys.stdin)
        _build(Config(**order["config"]), order["kinds"])
    except FedloomError as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        sys.exit(WRONG_INPUT if isinstance(error, BadInput) else FAILED)


def _build(config: Config, kinds: Sequence[str]) -> None:
    from fedloom.processes import settle_process

    settle_process(config.engine.threads)
    scene = cached_dataset(config.data)
    done, told = 0, time.monotonic()

    def tick() -> None:
        nonlocal done, told
        done += 1
        if time.monotonic() - told > 0.2:
            told = time.monotonic()
            sys.stdout.write(f"{done}\n")
            sys.stdout.flush()

    for kind in kinds:
        asset(config, scene, kind, tick)
