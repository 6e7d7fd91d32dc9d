"""Where weights lie: a folder that the user names, one that was fetched or placed by hand, or the hub's own cache.

A folder under `weights_root()` counts where it is whole: `fedloom fetch` writes a lock into it when all is there and
verified, and marks it as unfinished until then. One that a person filled has neither lock nor mark: it counts where it
holds weights and their configuration, and is left alone from then on. The folder of a Python package counts for each
file of it that its lock lists.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Any, Literal

from fedloom.errors import BadInput, FedloomError
from fedloom.runs.cache import cache_root
from fedloom.runs.disk import read_object
from fedloom.weights.catalogue import Source, source_of
from fedloom.weights.packages import is_address, same_file

VARIABLE = "FEDLOOM_WEIGHTS"
SHIPPED = Path(__file__).with_name("shipped")  # what comes with the package, as `fedloom/NAME`
READY = Path(__file__).with_name("ready")  # what a run of the default scene would train first
LOCK = "fedloom.lock.json"  # last of a fetch: what is there, with sizes and digests
MARK = "fedloom.incomplete"  # first of a fetch: what is to come
PART = ".incomplete"  # suffix of a file of which a part is there; huggingface_hub uses it too
_CONFIGS = ("config.json", "model_index.json")
_WEIGHTS = (".safetensors", ".bin")
_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
State = Literal["ready", "by hand", "unfinished", "missing"]


def weights_root() -> Path:
    """The folder that holds fetched weights as OWNER/NAME: `$FEDLOOM_WEIGHTS`, or one in the cache."""
    chosen = os.environ.get(VARIABLE)
    return Path(os.path.expanduser(chosen)) if chosen else cache_root() / "weights"


def shipped(name: str) -> Path | None:
    """The folder of weights that come with the package, `fedloom/NAME`; None of others."""
    owner, _, own = name.partition("/")
    folder = SHIPPED / own
    return folder if owner == "fedloom" and own.isidentifier() and folder.is_dir() else None


def state_of(source: Source, folder: Path) -> State:
    """How the folder of a source is: ready (locked by a fetch), by hand (whole without one), unfinished or missing."""
    if (folder / LOCK).is_file():
        return "ready" if source.address is None or _lists(folder, source) else "unfinished"
    if not folder.is_dir() or not any(folder.iterdir()):
        return "missing"
    if next(folder.rglob(f"*{PART}"), None) is not None:
        return "unfinished"
    configured = source.address is None and any((folder / file).is_file() for file in _CONFIGS)
    whole = configured and any(file.suffix in _WEIGHTS for file in folder.rglob("*"))
    if source.kind == "files" and source.made_by is None:
        whole |= all((folder / file.path).is_file() for file in source.files)
    return "by hand" if whole else "unfinished"


def lock_table(folder: Path, key: str) -> dict[str, Any]:
    """A table of a folder's lock, {} where there is none that can be read: `from` has the address of each file."""
    try:
        found = read_object(folder / LOCK).get(key)
    except FedloomError:
        return {}
    return found if isinstance(found, dict) else {}


def _lists(folder: Path, source: Source) -> bool:
    known = lock_table(folder, "from")
    return all(same_file(str(file.url), str(known.get(file.path))) for file in source.files)


def placed(name: str) -> str:
    """What to load `name` from: itself where it is a path here, else its whole folder of weights, else the hub name.

    `fedloom/NAME` is what comes with the package.

    A folder that a fetch has not finished is no place to load from: the hub name is returned then.
    """
    if Path(name).exists():
        return name
    if (own := shipped(name)) is not None:
        return str(own)
    source = source_of(name)
    folder = weights_root() / source.name
    return str(folder) if state_of(source, folder) in ("ready", "by hand") else name


def offline() -> bool:
    """Whether the hub's switches (`HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE`) say that nothing may be asked."""
    switches = (os.environ.get(key, "") for key in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(value.upper() in ("1", "ON", "YES", "TRUE") for value in switches)


def is_hub_name(name: str) -> bool:
    """Whether `name` can be one of the hub: NAME or OWNER/NAME."""
    return _NAME.fullmatch(name) is not None


def found_here(name: str) -> Path | None:
    """Where a model's files lie on this machine: as `placed` says, or in the hub's cache; None where they do not."""
    place = Path(placed(name))
    if place.exists():
        return place
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    revision = source_of(name).revision
    try:
        files = [try_to_load_from_cache(name, file, revision=revision) for file in ("model_index.json", "config.json")]
    except HFValidationError:  # no hub name
        return None
    return next((Path(file).parent for file in files if isinstance(file, str)), None)


def need(what: str, name: str) -> None:
    """Raises BadInput where `name` is that of weights, and they are not here: with the command that downloads them."""
    named = is_address(name) or ("/" in name and not Path(name).is_absolute() and is_hub_name(name))
    if named and found_here(name) is None:
        raise BadInput(
            f"{what} {name!r}: no such folder, and no weights of that name on this machine; "
            f"`fedloom fetch {shlex.quote(name)}` downloads them"
        )


def hub_arguments(name: str) -> dict[str, Any]:
    """What `from_pretrained` needs besides `placed(name)`; nothing where that is a folder or file here.

    Returns:
        `revision`, where the catalogue pins one; and that no hub is asked: downloads are `fedloom fetch`'s alone.
    """
    if placed(name) != name or Path(name).exists():
        return {}
    source = source_of(name)
    pin: dict[str, Any] = {"revision": source.revision} if source.pinned else {}
    return pin | {"local_files_only": True}
