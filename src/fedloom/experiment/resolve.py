"""A configuration with its method and settings: checked, completed and fitted to one another."""

from __future__ import annotations

from typing import Any

from fedloom.config import Config
from fedloom.config.defaults import Say, silent
from fedloom.config.trees import validate
from fedloom.data.containers import FederatedDataset
from fedloom.data.registry import DATASETS
from fedloom.errors import BadInput
from fedloom.experiment.attendance import with_participation
from fedloom.experiment.checks import check_canaries, own_data
from fedloom.experiment.fitting import samples, side_rules, with_counts, with_side
from fedloom.experiment.peers import check_topology, graph_topology
from fedloom.experiment.private import check_privacy
from fedloom.methods.base import Method, load_method
from fedloom.registry import METHODS, METRICS
from fedloom.tasks import CLIENT_TASKS, ClientTask

ROLLBACK = 0.2  # of real data: a generator that was pretrained on little of it is soon worse than it was


def resolve(config: Config) -> tuple[Method, Any]:
    """The method and its settings: what its name fixes, then what the configuration says, fitted to the modalities.

    Raises:
        BadInput: a setting is unknown, wrong, or against what the name fixes; a metric cannot be loaded; or the
            quorum exceeds the clients.
    """
    method, fixed = load_method(config.method)
    for key, value in fixed.items():
        if config.settings.get(key, value) != value:
            raise BadInput(f"settings.{key} = {config.settings[key]!r}: {config.method} is defined by {value!r}")
    settings = validate(method.settings, {**config.settings, **fixed}, "settings")
    for metric in config.evaluation.metrics:
        METRICS.find(metric)
    modalities = list(config.clients.everyone().values())
    _check_tasks(config, method)
    if wrong := [o for o in config.clients.optimizers() if o not in method.optimizers]:
        raise BadInput(
            f"clients.optimizer = {wrong[0]!r}: {config.method} is defined on plain gradients, allowed: "
            f"{', '.join(method.optimizers)}"
        )
    if (quorum := config.engine.quorum) is not None and quorum > len(modalities):
        raise BadInput(
            f"engine.quorum = {quorum}: there are {len(modalities)} clients, allowed: 1 to {len(modalities)}"
        )
    resolved = method.resolve(_open(_guarded(settings, config), config), modalities)
    check_topology(config, method, resolved)
    check_privacy(config, method, resolved)
    check_canaries(config)
    return method, resolved


def _guarded(settings: Any, config: Config) -> Any:
    """With `rollback` on, where it is a setting that nobody has set and the data are real."""
    declared = None if own_data(config) else DATASETS.get(config.data.name)
    if "rollback" in config.settings or "rollback" not in type(settings).model_fields or (declared and declared.toy):
        return settings
    return settings.model_copy(update={"rollback": ROLLBACK})


def _open(settings: Any, config: Config) -> Any:
    """With `catch_up` and `rejudge` on, where they are settings, nobody has set them, and clients of a server come and
    go."""
    graph = graph_topology(config)
    if config.participation is None or (graph and not graph.host):
        return settings
    wanted = {"catch_up": True, "rejudge": not getattr(settings, "memory", 0)}
    return settings.model_copy(update={k: v for k, v in wanted.items() if getattr(settings, k, v) is None})


def _check_tasks(config: Config, method: Method) -> None:
    """Raises BadInput where there are clients of a task that the method does not serve."""
    lacking = [m for m in CLIENT_TASKS if config.clients.names(m) and m not in method.tasks] if method.tasks else []
    if not lacking:
        return
    if len(method.tasks) == 1:
        (only,) = method.tasks
        empty = " and ".join(f"clients.{m}=[]" for m in lacking)
        raise BadInput(
            f"{config.method} is for {only.spec.clients} (clients.{only}) only, and there are clients of "
            f"{', '.join(lacking)}: set {empty}, or take the preset fedcmi"
        )
    first = lacking[0]
    raise BadInput(
        f"{config.method} has no part for {first.spec.clients} (clients.{first}), {len(config.clients.names(first))} "
        f"given; allowed: none. Methods that have one: {', '.join(serving(first))}"
    )


def serving(task: ClientTask) -> list[str]:
    """The methods that have a part for clients of that task."""
    return [name for name in METHODS.usable() if task in load_method(name)[0].tasks]


def completed(config: Config) -> tuple[Config, Method, Any]:
    """The configuration as a run carries it out and writes it down, with its method and settings: see `resolve`.

    All settings of the method stand in it, and the clients' models are those that the method is defined on.
    """
    config = with_participation(config, own_data(config))
    method, settings = resolve(config)
    clients = method.models(settings, config.clients)
    own = {"settings": settings.model_dump(mode="json"), "clients": clients}
    return config.model_copy(update=own), method, settings


def sized(config: Config, say: Say = silent) -> Config:
    """The configuration with pictures that can be cut up as its method's models do it: see `fitting.with_side`."""
    done, method, settings = completed(config)
    return with_side(config, side_rules(done, method, settings), say)


def counted(config: Config, method: Method, scene: FederatedDataset | None = None, say: Say = silent) -> Config:
    """The configuration with as many clients as the data allow, where nobody has said how many.

    scene: its data set; None: what is known of it, else it is read.
    """
    said = config.clients.model_fields_set
    open_ = any(m not in said and getattr(config.clients, m) for m in CLIENT_TASKS)
    if not method.tasks or own_data(config) or not open_:
        return config
    return with_counts(config, samples(config, scene), say)
