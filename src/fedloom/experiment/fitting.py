"""Sizes that must fit one another: pictures and the patches they are cut into, samples and the clients that share them.

What is said and does not fit is refused before anything is learned; what nobody has said is fitted, and told in a line.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from typing import Any

from fedloom.config import ClientGroup, Config
from fedloom.config.archs import spec_of
from fedloom.config.defaults import Say, silent
from fedloom.config.models import ModelSettings
from fedloom.data.containers import FederatedDataset
from fedloom.errors import BadInput
from fedloom.methods.base import Method
from fedloom.models.generators.autoencoder import FACTOR
from fedloom.tasks import CLIENT_TASKS, SINGLE_MODALITY

Rules = Mapping[str, int]  # key of the configuration -> what the side of pictures must be a multiple of


def side_rules(config: Config, method: Method, settings: Any) -> dict[str, int]:
    """What the side of the data's pictures must be a multiple of, for each part of the run that cuts them up."""
    server, rules = config.server, dict[str, int]()
    uses = method.needs(settings)
    if method.tasks:
        for modality in CLIENT_TASKS:
            for group in getattr(config.clients, modality):
                rules |= {f"clients.{modality}: patch": p for p in _patches(group)}
    for name in SINGLE_MODALITY:
        own = getattr(server, name)
        if own is not None and "models" in uses:
            rules |= {f"server.{name}.patch": p for p in _patches(own)}
    if "generator" in uses and not server.generator.pretrained:
        if server.generator.autoencoder:
            rules[f"server.generator.unshuffle x {FACTOR} of its autoencoder"] = FACTOR * server.generator.unshuffle
        else:
            rules["server.generator.unshuffle"] = server.generator.unshuffle
    if {"generator", "features"} & uses and not server.clip.pretrained:
        rules["server.clip.patch"] = server.clip.patch
    scoring = config.evaluation.clip
    if "generator" in uses and scoring is not None and not (scoring.pretrained or scoring.towers):
        rules["evaluation.clip.patch"] = scoring.patch
    if "captioner" in uses and not (server.captioner.pretrained or server.captioner.retrieve):
        rules["server.captioner.patch"] = server.captioner.patch
    return rules


def _patches(model: ModelSettings) -> Iterator[int]:
    for tower in model.towers():
        if spec_of(tower.arch).patched and not tower.pretrained:
            yield tower.patch


def check_side(config: Config, rules: Rules, side: int) -> None:
    """Raises BadInput where pictures of `side` pixels cannot be cut up as the rules say; 0: there are none."""
    wrong = [f"{key} = {n}" for key, n in rules.items() if side % n]
    if not wrong:
        return
    common = math.lcm(*rules.values())
    fitting = [n for n in (side // common * common, side // common * common + common) if n]
    said = "data.options.size" if _takes_size(config) else f"{config.data.name}: pictures' side"
    raise BadInput(
        f"{said} = {side} is no multiple of {', '.join(wrong)}; allowed: multiples of {common}, such as "
        f"{' and '.join(map(str, fitting))}, or others of these"
    )


def with_side(config: Config, rules: Rules, say: Say = silent) -> Config:
    """The configuration with pictures of a side that fits the rules. Raises BadInput where one that does not is said.

    The side is an option of most data sets' readers, with a default. Where the default does not fit, the nearest side
    that does is taken.
    """
    if not _takes_size(config):
        return config
    usual = _reader(config)["size"].default
    side = config.data.options.get("size", usual)
    if not isinstance(side, int) or isinstance(side, bool) or side < 1:
        return config  # the reader refuses it
    if "size" in config.data.options:
        check_side(config, rules, side)
        return config
    common = math.lcm(*rules.values())
    if not side % common:
        return config
    fitting = max(common, common * round(side / common))
    say(f"{config.data.name}: pictures of {fitting} pixels; the usual {side} do not fit {', '.join(rules)}")
    options = {**config.data.options, "size": fitting}
    return config.model_copy(update={"data": config.data.model_copy(update={"options": options})})


def _reader(config: Config) -> Mapping[str, inspect.Parameter]:
    from fedloom.data.registry import DATASETS, loader_of

    known = DATASETS.get(config.data.name)
    root = config.data.root or ("." if known is not None and known.layout else None)
    return inspect.signature(loader_of(config.data.name, root, config.data.options)[0]).parameters


def _takes_size(config: Config) -> bool:
    from fedloom.data.registry import DATASETS

    return config.data.name in DATASETS and "size" in _reader(config)


# --------------------------------------------------------------------------------------------- clients and samples


def samples(config: Config, scene: FederatedDataset | None = None) -> dict[str, int]:
    """The training samples of each modality: as the scene has them, else as is known, else read now."""
    from fedloom.data.sizes import data_sizes
    from fedloom.experiment.datasets import cached_dataset

    if scene is None and (known := data_sizes(config.data).samples):
        return {modality: train for modality, (train, _) in known.items()}
    return {m: len(held) for m, held in (scene or cached_dataset(config.data)).train.items()}


def with_counts(config: Config, there: Mapping[str, int], say: Say = silent) -> Config:
    """The configuration with as many clients as there are samples for, where nobody has said how many.

    A client has `data.minimum` samples at least. Of the usual clients the last of the largest group go first. Where
    there are not even enough for one, or the number is said, `scenes.split_scene` says what is allowed.
    """
    clients = config.clients
    for modality in CLIENT_TASKS:
        groups = getattr(clients, modality)
        count = sum(group.count for group in groups)
        most = there.get(modality, 0) // config.data.minimum
        if modality in clients.model_fields_set or not 0 < most < count:
            continue
        fewer = _fewer(groups, most)
        clients = clients.model_copy(update={modality: fewer})
        clients.model_fields_set.discard(modality)
        say(
            f"{config.data.name}: {most} {modality.spec.clients} instead of {count}; its {there[modality]} training "
            f"{modality.spec.samples} do not give more of them data.minimum = {config.data.minimum} each"
        )
    return config if clients is config.clients else config.model_copy(update={"clients": clients})


def _fewer(groups: tuple[ClientGroup, ...], most: int) -> tuple[ClientGroup, ...]:
    """The groups with `most` clients in all, taken from the largest one, the last of those."""
    counts = [group.count for group in groups]
    while sum(counts) > most:
        counts[max(range(len(counts)), key=lambda i: (counts[i], i))] -= 1
    return tuple(g.model_copy(update={"count": n}) for g, n in zip(groups, counts) if n)
