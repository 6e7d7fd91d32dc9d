"""Models pretrained side by side: a child process for each chain of them."""

from __future__ import annotations

import queue
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from fedloom.config import Config
from fedloom.errors import BadInput, FedloomError, OutOfTime
from fedloom.experiment.datasets import cached_dataset
from fedloom.experiment.pretraining.builders import asset
from fedloom.experiment.pretraining.keys import settings_of
from fedloom.processes.child import Frame, FramedChild, python_environment
from fedloom.processes.parent import Parent
from fedloom.progress import Observer
from fedloom.signals import leave_to_parent

_CHILD = ["-m", "fedloom.experiment.pretraining.processes"]
_PACE = 0.2  # seconds between two looks, and two counts
FEW = 200  # training steps of models of the embedded sizes: a process takes as long to import torch and its libraries


def build_side_by_side(
    config: Config, chains: Sequence[Sequence[str]], watch: Observer, seconds: float | None = None
) -> None:
    """Build every chain in a process of its own, of FEW steps in all in this one: the weights are the same.

    Whatever ends the wait ends the processes too.

    Args:
        chains: kinds of assets, as for `asset`; within a chain one is built after the other.
        watch: told the training steps done, of all chains together.
        seconds: to train for; None: until all is done.

    Raises:
        OutOfTime: they were not enough; what is done is kept.
        FedloomError: what the child raised, on one line; or a signal ended the child.
        RuntimeError: a bug in the child; holds all that it wrote to stderr, its traceback included.
    """
    total = sum(_steps_of(config, kind) for chain in chains for kind in chain)
    families = dict.fromkeys(k.partition("-")[0] for chain in chains for k in chain)
    watch.stage("pretraining " + ", ".join(families), total)
    if total <= FEW:
        try:
            _train(config, [kind for chain in chains for kind in chain], watch.at, seconds)
        except OutOfTime:
            raise
        except FedloomError as error:
            raise _failed(str(error), isinstance(error, BadInput)) from error
    else:
        _in_processes(config, chains, watch, seconds)
    watch.at(total)


def _in_processes(config: Config, chains: Sequence[Sequence[str]], watch: Observer, seconds: float | None) -> None:
    frames: queue.SimpleQueue[Frame] = queue.SimpleQueue()
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        children = []
        for n, chain in enumerate(chains):
            child = FramedChild(_CHILD, frames, env=python_environment(), log=logs / str(n))
            stack.callback(child.stop, 0.0)
            children.append(child)
            with suppress(OSError):  # dead already: its frames end
                child.send({"config": config.model_dump(mode="json"), "kinds": list(chain), "seconds": seconds})
        done, ends = dict.fromkeys(children, 0), dict[FramedChild, dict[str, Any]]()
        while len(ends) < len(children):
            with suppress(queue.Empty):
                child, header, *_ = frames.get(timeout=_PACE)
                if header is not None and "done" in header:
                    done[child] = header["done"]
                else:
                    ends.setdefault(child, header or {})
            watch.at(sum(done.values()))
        for child in children:
            _check(child, ends[child])
        if paused := [str(end["paused"]) for end in ends.values() if end["paused"]]:
            raise OutOfTime("; ".join(paused))


def _steps_of(config: Config, kind: str) -> int:
    """Training steps of an asset."""
    if kind.startswith("backbone-"):
        return config.public_steps
    settings = settings_of(config, kind)
    return settings.trained if kind == "captioner" else settings.steps  # type: ignore[no-any-return]


def _check(child: FramedChild, end: dict[str, Any]) -> None:
    """Raises what a child's chain failed with. end: its last frame, {} if it died without one."""
    if not end:
        reason, status = child.exit_reason(), child.process.poll()
        if status is not None and status < 0:  # mostly the system's doing, when memory is short
            raise FedloomError(f"pretraining failed: {reason}")
        log = child.logged(1_000_000).strip()
        raise RuntimeError(f"pretraining failed in a child process (exit status {status}), which said:\n{log}")
    if end["failed"] is not None:
        raise _failed(end["failed"], end["bad_input"])


def _failed(why: str, bad_input: bool) -> FedloomError:
    return (BadInput if bad_input else FedloomError)(f"pretraining failed: {' '.join(why.split())}")


def work() -> None:
    """A child process: builds the chain that it is sent, and counts its training steps.

    An error that a person can mend is sent to the parent; a bug ends this process with its traceback.
    """
    leave_to_parent()
    parent = Parent()
    order, _ = parent.receive()
    failed, bad_input, paused = None, False, None
    try:
        _build(Config(**order["config"]), order["kinds"], lambda done: parent.send({"done": done}), order["seconds"])
    except OutOfTime as error:
        paused = str(error)
    except FedloomError as error:
        failed, bad_input = str(error), isinstance(error, BadInput)
    parent.send({"failed": failed, "bad_input": bad_input, "paused": paused})


def _build(config: Config, kinds: Sequence[str], tell: Callable[[int], None], seconds: float | None) -> None:
    from fedloom.processes import settle_process

    settle_process(config.engine.threads)
    _train(config, kinds, tell, seconds)


def _train(config: Config, kinds: Sequence[str], tell: Callable[[int], None], seconds: float | None) -> None:
    end = None if seconds is None else time.monotonic() + seconds
    scene = cached_dataset(config.data)
    done, told = 0, time.monotonic()

    def tick() -> None:
        nonlocal done, told
        done += 1
        if time.monotonic() - told > _PACE:
            told = time.monotonic()
            tell(done)

    for kind in kinds:
        asset(config, scene, kind, tick, end)


if __name__ == "__main__":
    work()
