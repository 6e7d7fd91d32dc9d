"""The data sets by name. Light: the file of a data set, which declares it, is imported when that set is asked for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from fedloom.config.trees import fitting
from fedloom.errors import BadInput, nearest, unknown
from fedloom.registry import DATASETS as REGISTRY
from fedloom.tasks import ClientTask, Modality

if TYPE_CHECKING:
    from fedloom.data.containers import FederatedDataset
    from fedloom.data.pairs import Pairs

T = TypeVar("T")
Counts = Mapping[ClientTask, tuple[int, int]]  # training and test samples
_OWN_FILE = (
    *("flora", "digits", "flowers102", "food101", "cifar100", "upmc_food101", "food101_recipes", "ag_news", "duet"),
    *(
        "audio_visual_digits",
        "cremad",
        "ave",
        "crisismmd",
        "dishes",
        "mixed",
        "folder",
        "coco",
        "caption_parquet",
        "emoji",
    ),
)
BUILTIN: Mapping[str, str] = {  # name -> where it is declared
    **{name: f"fedloom.data.datasets.{name}:DATASET" for name in _OWN_FILE},
    "flora-102": "fedloom.data.datasets.flora102:DATASET",
    "flickr30k": "fedloom.data.datasets.flickr:FLICKR30K",
    "flickr8k": "fedloom.data.datasets.flickr:FLICKR8K",
}


@dataclass(frozen=True)
class Dataset:
    """The declaration of a data set: what is known of it before it is read, and its reader.

    load: the reader; its parameters are the options, `root` among them if it reads a folder. tasks: which clients it
    has samples for; classes: C, None if that depends on the data; layout: what the root folder must hold, '' if none
    is needed; source: where it comes from; modalities: of its multimodal samples; captioned: whether it is a set of
    captioned pictures, whose reader returns Pairs; licence: as publicly stated; samples: of the official
    parts, before the public share is taken, or from all options to those of the parts; find_tasks: from root and
    options to the tasks, if these decide; check: raises BadInput for options (all of them, defaults too) that `load`
    would refuse before it reads anything; files: from the options given to the files that are read besides those
    which options name, such as another package's; toy: made for tests and demonstrations, so that nothing is by default
    as careful as with real data.
    """

    name: str
    summary: str
    load: Callable[..., Any]
    tasks: tuple[ClientTask, ...]
    classes: int | None = None
    layout: str = ""
    source: str = ""
    modalities: tuple[Modality, ...] = ()
    captioned: bool = False
    licence: str = "see its source"
    samples: Counts | Callable[[Mapping[str, Any]], Counts] = field(default_factory=dict)
    find_tasks: Callable[[str | None, Mapping[str, Any]], tuple[ClientTask, ...]] | None = None
    check: Callable[[Mapping[str, Any]], None] | None = None
    files: Callable[[Mapping[str, Any]], Iterable[Path]] | None = None
    toy: bool = False

    def __post_init__(self) -> None:
        for key, kind in (("tasks", ClientTask), ("modalities", Modality)):
            for value in getattr(self, key):
                if value not in list(kind):
                    raise unknown(f"data set {self.name!r}: one of its {key}", str(value), list(kind))
            object.__setattr__(self, key, tuple(map(kind, getattr(self, key))))

    @property
    def embedded(self) -> bool:
        """Whether it reads no folder."""
        return "root" not in inspect.signature(self.load).parameters

    def tasks_of(self, root: str | None, options: Mapping[str, Any]) -> tuple[ClientTask, ...]:
        """The clients that it has samples for with that root and those options."""
        return self.find_tasks(root, options) if self.find_tasks else self.tasks

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raises BadInput where an option is out of range, as far as that can be told unread. options: all of them."""
        for check in (getattr(self.load, "check", None), self.check):  # of a group of options, see `options.takes`
            if check is not None:
                check(options)

    def samples_of(self, options: Mapping[str, Any]) -> Counts:
        """Training and test samples by task, {} if that is known only when it is read. options: all, defaults too."""
        if callable(self.samples):
            return self.samples(options)
        if options.get("per_class") or isinstance(options.get("classes"), list | tuple):
            return {}
        share = 1 - float(options.get("generic_share", 0.0))
        return {task: (round(share * train), test) for task, (train, test) in self.samples.items()}

    @property
    def options(self) -> list[str]:
        """The names of its reader's options."""
        return sorted(set(inspect.signature(self.load).parameters) - {"root"})


class _Declared(Mapping[str, Dataset]):
    """The data sets, or the sets of captioned pictures, by name or reference; each is imported when it is looked up."""

    def __init__(self, captioned: bool) -> None:
        self._captioned = captioned

    def __getitem__(self, name: str) -> Dataset:
        if not REGISTRY.has(name):
            raise KeyError(name)
        found: Dataset = REGISTRY.find(name)
        if found.captioned != self._captioned:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return (name for name in REGISTRY.usable() if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


DATASETS: Mapping[str, Dataset] = _Declared(captioned=False)
PAIR_SETS: Mapping[str, Dataset] = _Declared(captioned=True)


def load_dataset(name: str, root: str | Path | None = None, **options: Any) -> FederatedDataset:
    """Load a data set by name.

    Args:
        name: a key of DATASETS, or `package.module:NAME` of a Dataset.
        root: the folder that holds it; None for the embedded ones.
        options: of its reader, such as size, seed, classes or generic_share.

    Raises:
        BadInput: an unknown name or option, a root that is missing or not wanted, or what the reader finds wrong.
    """
    from fedloom.data.containers import FederatedDataset

    found = _load(name, root, options, DATASETS, FederatedDataset)
    declared = DATASETS[name]
    if (
        declared.embedded
        and "classes" not in declared.options
        and declared.classes not in (None, len(found.class_names))
    ):
        raise BadInput(f"{name}: its reader gives {len(found.class_names)} classes, declared: {declared.classes}")
    return found


def load_pairs(name: str, root: str | Path | None = None, **options: Any) -> Pairs:
    """Load a set of captioned pictures by name: a key of PAIR_SETS. Otherwise as load_dataset."""
    from fedloom.data.pairs import Pairs

    return _load(name, root, options, PAIR_SETS, Pairs)


def _load(
    name: str, root: str | Path | None, options: Mapping[str, Any], among: Mapping[str, Dataset], kind: type[T]
) -> T:
    load, options = loader_of(name, root, options, among)
    found = load(**options) if among[name].embedded else load(root=root, **options)
    if not isinstance(found, kind):
        raise BadInput(f"{name}: its reader returned {found!r:.80}, expected a {kind.__name__}")
    return found


def loader_of(
    name: str, root: str | Path | None, options: Mapping[str, Any], among: Mapping[str, Dataset] = DATASETS
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The reader of that data set, which takes that root, and the options as it takes them; nothing is read.

    Raises:
        BadInput: an unknown name or option, an option of another type, a root that is missing or not wanted.
    """
    kind = "set of pairs" if among is PAIR_SETS else "data set"
    if name not in among:
        raise unknown(kind, name, among)
    declared = among[name]
    load, allowed = declared.load, declared.options
    for option in options:
        if option not in allowed:
            raise BadInput(
                f"{kind} {name!r} has no option {option!r}.{nearest(option, allowed)} Allowed: {', '.join(allowed)}."
            )
    hints = get_type_hints(load)
    options = {option: fitting(hints[option], value, f"data.options.{option}") for option, value in options.items()}
    if declared.embedded:
        if root is not None:
            raise BadInput(f"{kind} {name!r} is embedded and reads no folder, but root={str(root)!r} is given")
    elif root is None and inspect.signature(load).parameters["root"].default is inspect.Parameter.empty:
        raise BadInput(f"{kind} {name!r} needs root, a folder that holds: {declared.layout}")
    return load, options
