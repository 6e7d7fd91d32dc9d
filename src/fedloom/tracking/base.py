"""What the built-in trackers share: a run as flat names and numbers; and that no tracker ends a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fedloom.errors import BadInput, FedloomError, first_line
from fedloom.progress import Observer, Observers
from fedloom.reporting.scores import SCORES, number
from fedloom.runs.folder import RunFolder, flatten

GROUPS = {"per_client": "clients"}  # keys of a row that hold numbers by name -> how they are called, if otherwise
HOLD = ("per_client", "labels", "losses", "facts", "metrics", "seconds")


class RunTracker(Observer):
    """Base of the built-in trackers. A subclass says how its tool begins, takes numbers and pictures, and ends.

    `name`: by which it is registered, and the extra of fedloom that brings `module`.
    """

    name = module = ""

    def __init__(self) -> None:
        if find_spec(self.module) is None:
            raise BadInput(f"tracker {self.name!r} needs {self.module}: pip install 'fedloom[{self.name}]'")
        self._folder: RunFolder | None = None

    def start(self, folder: RunFolder, title: str, config: Mapping[str, Any], resumed_at: int) -> None:
        """The run begins, or goes on with round `resumed_at`: the rows before that one are told again.

        config: dotted keys and values.
        """
        raise NotImplementedError

    def log(self, round: int, values: Mapping[str, float]) -> None:
        """Numbers of a round, such as scores/image_accuracy, clients/image-0, losses/generator, bytes/up."""
        raise NotImplementedError

    def picture(self, round: int, name: str, path: Path) -> None:
        """A picture of a round: pictures/samples, or pictures/labels."""
        raise NotImplementedError

    def finish(self, failed: bool) -> None:
        """The run has ended."""
        raise NotImplementedError

    def begin(self, facts: Mapping[str, Any]) -> None:
        """The run is set up."""
        self._folder = folder = RunFolder.open(facts["folder"])
        title = f"{facts['method']} on {facts['data']}: {folder.path.name}"
        self.start(folder, title, flatten(folder.config), int(facts.get("resumed_at") or 0))

    def round(self, row: Mapping[str, Any]) -> None:
        """A round is scored."""
        at = int(row.get("round") or 0)
        self.log(at, flat(row))
        if self._folder is not None:
            pictures = {"samples": self._folder.sample_picture(at), "labels": self._folder.label_picture(at)}
            for name, path in pictures.items():
                if path.is_file():
                    self.picture(at, f"pictures/{name}", path)

    def close(self, failed: bool) -> None:
        """The run has ended, or could not go on."""
        if self._folder is not None:
            self.finish(failed)


def flat(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of metrics.jsonl by names such as scores/fid; what is no number is left out."""
    found = {f"scores/{score.key}": row.get(score.key) for score in SCORES}
    found |= {f"bytes/{way}": row.get(f"bytes_{way}") for way in ("up", "down")}
    found["clients/missing"] = len(row.get("missing") or ())
    for key in HOLD:
        held = row.get(key)
        found |= {f"{GROUPS.get(key, key)}/{name}": v for name, v in held.items()} if isinstance(held, Mapping) else {}
    return {name: value for name, given in found.items() if (value := number(given)) is not None}


class Careful(Observers):
    """Passes everything on to a tracker until that fails: then says so, once, and the run goes on without it."""

    def __init__(self, tracker: Observer, name: str, say: Callable[[str], None]) -> None:
        super().__init__([tracker])
        self._name, self._say = name, say

    def close(self, failed: bool) -> None:
        """The run is over, however it ended; for trackers that have a `close`."""
        if any(hasattr(member, "close") for member in self.members):
            self._all("close", failed)

    def _all(self, name: str, *arguments: Any) -> None:
        try:
            super()._all(name, *arguments)
        except Exception as error:  # noqa: BLE001 - whatever another tool does, it is no reason to end a run
            self.members = []
            why = str(error) if isinstance(error, FedloomError) else f"{type(error).__name__}: {first_line(error)}"
            with suppress(Exception):
                self._say(f"tracker {self._name} has failed, the run goes on without it: {' '.join(why.split())[:300]}")


@contextmanager
def tracked(observer: Observer, trackers: Mapping[str, Observer]) -> Iterator[Observer]:
    """The observer and the trackers, by their names, as one; at the end each tracker is closed."""
    careful = [Careful(tracker, name, observer.filled) for name, tracker in trackers.items()]
    failed = True
    try:
        yield Observers([observer, *careful]) if careful else observer
        failed = False
    finally:
        for one in careful:
            one.close(failed)
