"""What can be added without touching fedloom: methods, data sets, client models, metrics, trackers, engines.

An item is found by name, if it is built in, installed as an entry point, or registered in this process; by reference,
`package.module:NAME` or `path/to/file.py:NAME`; or it is given as the object itself. In a configuration stands what
another process, or a later resume, finds it by: the name of a built-in or installed item, else its reference.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from importlib import import_module, metadata
from typing import Any

from fedloom.errors import BadInput, listed, unknown
from fedloom.references import absolute, code_digest, is_reference, load_reference, reference_of


class Registry:
    """Items of one kind.

    Args:
        kind: in words, for messages.
        key: of the entry point group `fedloom.KEY`.
        expected: "module:Class" that items are instances of; "" for anything callable.
        builtin: a mapping name -> what is known of a built-in item without importing it, itself a "module:attribute"
            or something that has such a field `item`, else the item; or the "module:NAME" of such a mapping.
        taken: the "module:NAME" of more names that no item from outside may have.
    """

    def __init__(
        self, kind: str, key: str, expected: str = "", builtin: str | Mapping[str, Any] = "", taken: str = ""
    ) -> None:
        self.kind, self.group, self._expected, self._builtin = kind, f"fedloom.{key}", expected, builtin
        self._taken = taken
        self._registered: dict[str, Any] = {}

    def register(self, item: Any, name: str | None = None) -> Any:
        """Make `item` known in this process by `name`, by default its own. Returns the item, so it can decorate.

        Raises:
            BadInput: it is of another kind, or has no name, or the name is taken by another item.
        """
        self._check(item, repr(item)[:80])
        called = name or _name_of(item)
        if not called or ":" in called:
            raise BadInput(f"{self.kind} {called!r}: a name is needed, without ':'")
        taken = self._known(called)
        if taken is not None and not (taken in self._registered and _same(self._registered[taken], item)):
            raise BadInput(f"{self.kind} {taken!r}: there is one of that name already")
        self._registered[called] = item
        return item

    def names(self) -> list[str]:
        """All names: built in, installed, registered."""
        return list(dict.fromkeys([*self.builtin(), *self.installed(), *self._registered]))

    def usable(self) -> list[str]:
        """The names whose items can be loaded: what to go through where every item is looked at."""
        broken = self.broken()
        return [name for name in self.names() if name not in broken]

    def broken(self) -> dict[str, BadInput]:
        """The names of installed items that cannot be loaded, each with the error that says why."""
        found = {}
        for name in self.installed():
            if name not in self._registered and name not in self.builtin():
                try:
                    self.find(name)
                except BadInput as error:
                    found[name] = error
        return found

    def installed(self) -> Mapping[str, metadata.EntryPoint]:
        """The entry points of installed packages, by name."""
        return _installed(self.group)

    def builtin(self) -> Mapping[str, Any]:
        """What is known of the built-in items, by name."""
        if not self._builtin:
            return {}
        return _named(self._builtin) if isinstance(self._builtin, str) else self._builtin

    def canonical(self, given: Any) -> str:
        """What stands for an item in a configuration; see the module's docstring.

        Raises:
            BadInput: an unknown name (offers the nearest), or an object that no other process could find.
        """
        if not isinstance(given, str):
            self._check(given, repr(given)[:80])
            return reference_of(given, self.kind)
        if is_reference(given):
            return absolute(given)
        name = self._known(given)
        if name is None:
            raise self._unknown(given)
        if name in self._registered:
            return reference_of(self._registered[name], self.kind)
        return name

    def lenient(self, given: Any) -> Any:
        """`canonical`, but what is unknown stays as it is, to be refused where it is used."""
        known = not isinstance(given, str) or is_reference(given) or self._known(given) is not None
        return self.canonical(given) if known else given

    def find(self, given: Any) -> Any:
        """The item that a name or a reference stands for; an item stands for itself.

        Raises:
            BadInput: an unknown name (offers the nearest), or a reference to nothing, or to something else, or to
                an item from outside that is called as a built-in one.
        """
        if not isinstance(given, str):
            self._check(given, repr(given)[:80])
            return given
        name = None if is_reference(given) else self._known(given)
        if name in self._registered:
            return self._registered[name]
        if name is not None and name in self.builtin():
            entry = self.builtin()[name]
            reference = entry if isinstance(entry, str) else getattr(entry, "item", "")
            return load_reference(reference, self.kind) if reference else entry
        if name is not None:
            item = self._load(name)
        elif is_reference(given):
            item = load_reference(given, self.kind)
        else:
            raise self._unknown(given)
        self._check(item, repr(given))
        self._check_name(item, given)
        return item

    def _unknown(self, given: str) -> BadInput:
        """The error for an unknown name; of a file that lies here, how what stands in it is written."""
        file = given if given.endswith(".py") else f"{given}.py"
        if os.path.isfile(file):
            return BadInput(f"unknown {self.kind} {given!r}: of one that stands in {file}, give {file}:NAME")
        return unknown(self.kind, given, self.names())

    def about(self, given: str) -> Any:
        """What is known of an item: of a built-in one what its list says, without importing it; else the item."""
        name = None if is_reference(given) else self._known(given)
        entry = self.builtin().get(name or "")
        return self.find(given) if entry is None or isinstance(entry, str) else entry

    def has(self, given: Any) -> bool:
        """Whether `given` is a known name or has the form of a reference."""
        return isinstance(given, str) and (is_reference(given) or self._known(given) is not None)

    def check_installed(self, given: str) -> str:
        """`given`, if it is built in or installed: all that a silo takes from a server. Raises BadInput otherwise."""
        allowed = [*self.builtin(), *self.installed()]
        if not self.has(given):
            raise unknown(self.kind, given, allowed)
        if is_reference(given) or self._known(given) not in allowed:
            raise BadInput(
                f"a silo takes no {self.kind} but those that are built in, or installed there as entry points of "
                f"{self.group!r}. Allowed: {listed(allowed)}"
            )
        return given

    def label(self, given: str) -> str:
        """The name of an item for people and folders."""
        return _name_of(self.find(given)) or given.rpartition(":")[2] if is_reference(given) else given

    def owns(self, item: Any) -> bool:
        """Whether `item` is an object of this kind."""
        return self._expected in {f"{kind.__module__}:{kind.__qualname__}" for kind in type(item).__mro__}

    def _load(self, name: str) -> Any:
        point = self.installed()[name]
        try:
            return point.load()
        except (Exception, SystemExit) as error:  # whatever the package does when it is imported
            problem = f"{type(error).__name__}: {error}"
            raise BadInput(
                f"{self.kind} {name!r}: its entry point {point.value!r} cannot be loaded: {problem}"
            ) from error

    def _known(self, given: str) -> str | None:
        """The name as it is listed, whatever the case, hyphens and underscores of `given`."""
        names = self.names()
        if given in names:
            return given
        plain = {_plain(name): name for name in reversed(names)}
        return plain.get(_plain(given))

    def _check(self, item: Any, shown: str) -> None:
        if self._expected:
            if not self.owns(item):
                kind = "class" if isinstance(item, type) else type(item).__name__
                raise BadInput(f"{self.kind} {shown}: is a {kind}, expected a {self._expected.partition(':')[2]}")
        elif not callable(item):
            raise BadInput(f"{self.kind} {shown}: is a {type(item).__name__}, expected something to call")

    def _check_name(self, item: Any, given: str) -> None:
        """Raises BadInput where an item from outside is called as a built-in one: no table could tell them apart."""
        name, builtin = _name_of(item), self.builtin()
        own = {_plain(n): n for n in (*(_named(self._taken) if self._taken else ()), *builtin)}
        same = own.get(_plain(name))
        if same is not None and not (same in builtin and self.find(same) is item):
            raise BadInput(f"{self.kind} {given!r}: its name {name!r} is one of fedloom's own; give it another")


METHODS = Registry("method", "methods", "fedloom.methods.base:Method", "fedloom.methods.catalogue:CATALOGUE")
DATASETS = Registry("data set", "datasets", "fedloom.data.registry:Dataset", "fedloom.data.registry:BUILTIN")
CLIENT_MODELS = Registry(
    "client model",
    "client_models",
    "fedloom.models.clients.spec:ClientModelSpec",
    "fedloom.models.clients:BUILT_IN",
)
METRICS = Registry(
    "metric",
    "metrics",
    "fedloom.metrics.base:Metric",
    {name: f"fedloom.metrics.{name}:METRIC" for name in ("variety_coverage", "attribute_accuracy")},
    taken="fedloom.comparison.measures:MEASURES",
)
ENGINES = Registry(
    "engine",
    "engines",
    "fedloom.federation.engines.base:Engine",
    {"local": "fedloom.federation.engines.local:ENGINE", "flower": "fedloom.federation.engines.flower:ENGINE"},
)
TRACKERS = Registry(
    "tracker",
    "trackers",
    builtin={
        "tensorboard": "fedloom.tracking.tensorboard:TensorBoard",
        "mlflow": "fedloom.tracking.mlflow:Mlflow",
        "wandb": "fedloom.tracking.wandb:WeightsAndBiases",
    },
)
REGISTRIES = (METHODS, DATASETS, CLIENT_MODELS, METRICS, ENGINES)  # whose items stand in configurations

register_method = METHODS.register
register_dataset = DATASETS.register
register_client_model = CLIENT_MODELS.register
register_metric = METRICS.register
register_engine = ENGINES.register
register_tracker = TRACKERS.register


def referenced(value: Any, key: str = "") -> Any:
    """A configuration tree whose items, where they are given as objects, are what another process finds them by.

    Raises:
        BadInput: another process could not find one; see `reference_of`.
    """
    if isinstance(value, Mapping):
        return {k: referenced(v, k) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [referenced(v) for v in value]
    registry = next((r for r in REGISTRIES if r.owns(value)), None)
    if registry is None:
        return value
    given = registry.canonical(value)
    return {"name": given} if key in ("data", "engine") else given


def outside_code(value: Any) -> dict[str, str]:
    """The digest of the file of each item in a configuration tree that is not built in, by its name or reference.

    Of a module the file is looked at, and not what that imports.
    """
    if isinstance(value, Mapping | list | tuple):
        parts = value.values() if isinstance(value, Mapping) else value
        return {name: digest for part in parts for name, digest in outside_code(part).items()}
    if not isinstance(value, str):
        return {}
    installed = (registry.installed().get(value) for registry in REGISTRIES)
    reference = value if is_reference(value) else next((point.value for point in installed if point), "")
    digest = code_digest(reference) if is_reference(reference) else None
    return {value: digest} if digest else {}


def _same(a: Any, b: Any) -> bool:
    """Whether two items are one, or the same one of a module that was loaded twice."""
    return a is b or (type(a).__qualname__ == type(b).__qualname__ and _name_of(a) == _name_of(b))


def _named(reference: str) -> Mapping[str, Any]:
    """The mapping of fedloom that "module:NAME" stands for."""
    module, _, name = reference.partition(":")
    found: Mapping[str, Any] = getattr(import_module(module), name)
    return found


def _name_of(item: Any) -> str:
    return str(getattr(item, "name", "") or getattr(item, "__name__", ""))


def _plain(name: str) -> str:
    return re.sub(r"[-_\s]", "", name).lower()


@cache
def _installed(group: str) -> dict[str, metadata.EntryPoint]:
    return {point.name: point for point in metadata.entry_points(group=group)}
