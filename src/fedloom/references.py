"""How another process finds a Python object: `package.module:NAME`, or `path/to/file.py:NAME` for that of a script."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

from fedloom.errors import BadInput, FedloomError, nearest

_SCRIPT = "_fedloom_file_"  # begins the names of modules that were loaded by their path


def is_reference(given: str) -> bool:
    """Whether `given` has the form `package.module:NAME` or `path/to/file.py:NAME`."""
    place, colon, name = given.rpartition(":")
    return bool(colon) and name.isidentifier() and (place.endswith(".py") or _dotted(place))


def reference_of(item: Any, kind: str) -> str:
    """Where another process finds `item`: the module that has it at its top, or the file of a script.

    Raises:
        BadInput: it is at the top of no file; says why.
    """
    for module, name in _places_of(item):
        spec = getattr(module, "__spec__", None)
        file = getattr(module, "__file__", None)
        if module.__name__ == "__main__" and spec is not None:  # python -m package.module
            return f"{spec.name}:{name}"
        if module.__name__ != "__main__" and _importable(module):
            return f"{module.__name__}:{name}"
        if file is not None and file.endswith(".py") and os.path.isfile(file):
            return f"{os.path.abspath(file)}:{name}"
    shown = getattr(item, "name", None) or repr(item)[:80]
    raise BadInput(
        f"{kind} {shown!r} is at the top of no file, so other processes, and a resumed run, could not find it: define "
        "it in a file, outside functions, and run or import that"
    )


def load_reference(reference: str, kind: str) -> Any:
    """What a reference stands for.

    Raises:
        BadInput: there is no such file or module, it cannot be imported, or has nothing of that name.
    """
    place, _, name = absolute(reference).rpartition(":")
    module = _script(place, kind) if place.endswith(".py") else _module(place, kind, reference)
    if not hasattr(module, name):
        near = nearest(name, sorted((n for n in vars(module) if not n.startswith("_")), key=lambda n: not n.isupper()))
        raise BadInput(f"{kind} {reference!r}: {place} has no {name!r}.{near}")
    return getattr(module, name)


def absolute(reference: str) -> str:
    place, _, name = reference.rpartition(":")
    return f"{os.path.abspath(os.path.expanduser(place))}:{name}" if place.endswith(".py") else reference


def _module(place: str, kind: str, reference: str) -> ModuleType:
    main = sys.modules.get("__main__")
    if place == getattr(getattr(main, "__spec__", None), "name", None):
        assert main is not None
        return main
    here = os.getcwd()
    try:
        if here not in sys.path and "" not in sys.path and importlib.util.find_spec(place.partition(".")[0]) is None:
            sys.path.append(here)  # an installed command does not have it; child processes get ours
        return import_module(place)
    except FedloomError:
        raise
    except (Exception, SystemExit) as error:
        said = " ".join(str(error).split())
        raise BadInput(f"{kind} {reference!r} cannot be imported: {type(error).__name__}: {said}") from error


def code_digest(reference: str) -> str | None:
    """SHA-256 of the file that a reference points into, in hex; None where there is no such file to be found."""
    place = absolute(reference).rpartition(":")[0]
    file: str | None = place
    if not place.endswith(".py"):
        try:
            spec = importlib.util.find_spec(place)
        except (ImportError, ValueError):
            spec = None
        file = getattr(sys.modules.get(place), "__file__", None) or (spec.origin if spec else None)
    if file is None or not os.path.isfile(file):
        return None
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


class _Ended(BaseException):
    """A script that is loaded for what it defines has come to the call that would begin a run."""


_loading: list[str] = []


def leave_script() -> None:
    """Ends the loading of a script here, if one is being loaded: called first by what begins runs.

    A script that defines a method and runs it needs no `if __name__ == "__main__"`: in other processes it is loaded as
    far as its first run, for what it has defined by then.
    """
    if _loading:
        raise _Ended


def _script(place: str, kind: str) -> ModuleType:
    main = sys.modules.get("__main__")
    if main is not None and os.path.abspath(getattr(main, "__file__", None) or "") == place:
        return main
    name = _SCRIPT + hashlib.sha256(place.encode()).hexdigest()[:12]
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, place)
    if spec is None or spec.loader is None or not os.path.isfile(place):
        raise BadInput(f"{kind} {place}: there is no such file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    if (folder := os.path.dirname(place)) not in sys.path:
        sys.path.append(folder)  # a script's own neighbours
    _loading.append(place)
    try:
        spec.loader.exec_module(module)
    except _Ended:
        pass
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, FedloomError) or not isinstance(error, Exception | SystemExit):
            raise
        said = " ".join(str(error).split())
        raise BadInput(f"{kind} {place} cannot be imported: {type(error).__name__}: {said}") from error
    finally:
        _loading.pop()
    return module


def _places_of(item: Any) -> Iterator[tuple[ModuleType, str]]:
    """Modules that have `item` at their top, with its name there: those that something of it was defined in first."""
    parts = [item, *(getattr(item, f.name) for f in dataclasses.fields(item))] if _is_record(item) else [item]
    hints = [sys.modules.get(getattr(part, "__module__", None) or "") for part in parts]
    main = sys.modules.get("__main__")
    others = [module for module in list(sys.modules.values()) if module is not main]
    seen = set()
    for module in (*hints, *others, main):
        if not isinstance(module, ModuleType) or id(module) in seen:
            continue
        seen.add(id(module))
        for name, value in list(vars(module).items()):
            if value is item:
                yield module, name


def _is_record(item: Any) -> bool:
    return dataclasses.is_dataclass(item) and not isinstance(item, type)


def _importable(module: ModuleType) -> bool:
    """Whether importing a module by its name gives the file that it is of."""
    if module.__name__.startswith(_SCRIPT):
        return False
    try:
        spec = importlib.util.find_spec(module.__name__)
    except (ImportError, ValueError, AttributeError):
        return False
    return spec is not None and spec.origin == getattr(module, "__file__", None)


def _dotted(place: str) -> bool:
    return bool(place) and all(part.isidentifier() for part in place.split("."))
