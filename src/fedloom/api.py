"""What `fedloom.run` and `fedloom.resume` do: a configuration from all that is given, and the engine's launcher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedloom.config import Config, load_config
from fedloom.errors import check_list
from fedloom.experiment.begin import Prepared, prepare
from fedloom.experiment.loop import carry_out
from fedloom.progress import Observer
from fedloom.references import leave_script, load_reference
from fedloom.registry import ENGINES, TRACKERS, referenced
from fedloom.results import Run, load_run
from fedloom.runs.load import RunFiles
from fedloom.tracking.base import tracked


def run(
    config: Config | Mapping[str, Any] | str | Path | None = None,
    *,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    overwrite: bool = False,
    keep: bool = True,
    observer: Observer | None = None,
    track: Sequence[Any] = (),
    preset: str | None = None,
    overrides: Sequence[str] = (),
    grid: Any = None,
    notes: Sequence[str] = (),
    **values: Any,
) -> Run:
    """Do a whole run, or go on with one.

    Args:
        config: the configuration, or a YAML file or a mapping to build it from, with `preset`, `overrides`
            ("key=value") and `values` (top-level keys); or these alone. A method, data set, client model, metric or
            engine in them is a name, a reference "package.module:NAME", or the object itself.
        out: the run folder; default `runs/METHOD-DATA-SEED...`.
        resume: folder of a run to go on with; its own configuration is used, and any other given must agree with it.
        overwrite: replace a run that `out` already holds.
        keep: export the trained models and keep the last checkpoints; without it only the scores stay (engine local).
        observer: told of everything as it happens.
        track: trackers, by name, reference or as objects: each is called without arguments, for an `Observer`.
        grid: the Flower Grid that reaches the silos, for engine.name "flower"; None brings up what engine.mode says.
        notes: what was filled in where `config` was made, to be told once the run begins.

    Raises:
        BadInput: something given is wrong; nothing has been written.
        FedloomError: the run could not go on; what was done is kept, and `resume` goes on from the last whole round.

    A run that ends before round 0 is scored, by an error or an interrupt, leaves no folder: what it pretrained is in
    the cache, so the same call goes on from there.
    """
    leave_script()
    said = list(notes)  # kept until nothing is refused any more
    chosen = _configuration(config, resume, preset, overrides, values, said)
    prepared = prepare(chosen, resume, said)
    if prepared.finished:
        assert prepared.folder is not None
        return load_run(prepared.folder.path)
    launcher = ENGINES.find(prepared.config.engine.name).launch
    with tracked(observer or Observer(), _trackers(track)) as watch:
        if launcher and grid is None:
            return _launch(launcher, prepared, out, overwrite, watch)
        done = carry_out(prepared, out=out, overwrite=overwrite, keep=keep, observer=watch, link=grid)
    return load_run(done.path)


def resume(folder: str | Path, *, observer: Observer | None = None, track: Sequence[Any] = ()) -> Run:
    """Go on with the run in `folder`, from its last whole round; a finished one is loaded. Raises: see `run`."""
    return run(resume=folder, observer=observer, track=track)


def _configuration(
    config: Config | Mapping[str, Any] | str | Path | None,
    resume: str | Path | None,
    preset: str | None,
    overrides: Sequence[str],
    values: Mapping[str, Any],
    said: list[str],
) -> Config | None:
    """The configuration of all that is given; None for that of the run that is resumed."""
    if isinstance(config, Config):
        return config
    if resume is not None and config is None and not preset and not overrides and not values:
        return None
    file = config if isinstance(config, str | Path) else None
    if isinstance(config, Mapping):
        values = {**config, **values}
    return load_config(preset=preset, file=file, overrides=overrides, values=referenced(values), say=said.append)


def _trackers(track: Sequence[Any]) -> dict[str, Observer]:
    """Each tracker by a name for people."""
    check_list(track=track)
    return {
        given if isinstance(given, str) else getattr(given, "__name__", repr(given)): TRACKERS.find(given)()
        for given in track
    }


def _launch(launcher: str, prepared: Prepared, out: str | Path | None, overwrite: bool, watch: Observer) -> Run:
    """Have the engine's launcher do the run, once what can be checked here is."""
    prepared.check_weights()
    prepared.check()
    counted = prepared.counted()
    for line in counted.notes:
        watch.filled(line)
    done: RunFiles = load_reference(launcher, "launcher")(counted.config, prepared.folder, out, overwrite, watch)
    return load_run(done.path)
