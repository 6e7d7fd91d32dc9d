"""The run folder while it is being written. It is complete and readable without this program."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from fedloom.config.trees import read_tree
from fedloom.config.yaml_core import dump
from fedloom.errors import BadInput, FedloomError, is_text
from fedloom.registry import DATASETS, METHODS
from fedloom.runs.disk import (
    append_line,
    explained,
    json_line,
    json_text,
    locked,
    plain,
    read_lines,
    read_object,
    write_atomic,
)
from fedloom.runs.environment import describe_environment
from fedloom.runs.inputs import config_digest, differences, refuse_changed
from fedloom.runs.shapes import Environment, LedgerRow, RoundRow

OWN = (
    "config.yaml", "environment.json", "metrics.jsonl", "ledger.jsonl", "summary.json", "split.json", "log.txt",
    "report.html", "samples", "checkpoints", "export", "federation", "messages", "parked", "audit.json", "tensorboard",
)  # fmt: skip
_PART = re.compile(r"\..*\.part")  # left by a writer that was killed
LOCKS = (".lock", ".claim")  # held by the process that writes the run; by the call that began it, until it is over


def new_run_path(method: str, data: str, seed: int, root: Path | str = "runs") -> Path:
    """A fresh empty folder `root/method-data-seed`, with `-2`, `-3` ... where that is taken.

    The folder is made here, so two runs that start at once never get the same one.

    Raises:
        FedloomError: `root` cannot be written.
    """
    name = f"{METHODS.label(method)}-{Path(DATASETS.label(data)).name}-{seed}"
    name = re.sub(r"[^\w.]+", "-", name).strip("-.")
    with explained("make a run folder in", Path(root)):
        Path(root).mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            path = Path(root) / (name if number == 1 else f"{name}-{number}")
            try:
                path.mkdir()
                return path
            except FileExistsError:
                number += 1


@contextmanager
def new_run(out: Path | str | None, config: Mapping[str, Any], *, overwrite: bool = False) -> Iterator[RunFolder]:
    """The folder of a new run, `out` or else one by `new_run_path`, for as long as the run goes on.

    A run that ends within by an error or an interrupt, before it has a checkpoint to go on from, leaves no folder.

    Raises:
        BadInput, FedloomError: as `RunFolder.create`.
    """
    folder = RunFolder(Path(out) if out else new_run_path(config["method"], config["data"]["name"], config["seed"]))
    try:
        with folder._claimed(config, overwrite, {}):
            try:
                yield folder
            except BaseException:  # an interrupt too
                with suppress(FedloomError):  # what the run ended by is what is to be told
                    folder.discard_unless_begun()
                raise
    except BaseException:
        if not out:
            with suppress(OSError):
                folder.path.rmdir()
        raise


def read_config(path: Path) -> dict[str, Any]:
    """The configuration of the run in folder `path`.

    Raises:
        BadInput: `path` is not a run folder; says what is missing.
    """
    if not path.is_dir():
        raise BadInput(f"{path} is no run folder: {'it is a file' if path.exists() else 'there is no such folder'}.")
    file = path / "config.yaml"
    if not file.is_file():
        raise BadInput(f"{path} is no run folder: it has no config.yaml.")
    config = plain(read_tree(file), keep_nonfinite=True)
    if not config:
        raise BadInput(f"{file}: it is empty, expected keys and values.")
    return dict(config)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as one level of dotted keys: `{"engine": {"workers": 2}}` gives `{"engine.workers": 2}`."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


class RunFolder:
    """One run's folder. Made by `create` for a new run and by `open` for one to be resumed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics, self.ledger = path / "metrics.jsonl", path / "ledger.jsonl"
        self.summary, self.split = path / "summary.json", path / "split.json"
        self.samples, self.checkpoints, self.export = path / "samples", path / "checkpoints", path / "export"
        self.log_file, self.report = path / "log.txt", path / "report.html"
        self.messages, self.parked = path / "messages", path / "parked"  # as they crossed; state of clients that wait
        self.tensorboard = path / "tensorboard"  # of the tracker of that name
        self.federation = path / "federation"  # what carried the messages, where this process started it all

    @classmethod
    def create(
        cls,
        path: Path | str,
        config: Mapping[str, Any],
        *,
        overwrite: bool = False,
        environment: Mapping[str, Any] | None = None,
    ) -> RunFolder:
        """A new run folder with `config.yaml`, `environment.json` and an empty `metrics.jsonl`.

        Args:
            config: every resolved value, nested.
            overwrite: a run that is there already is removed first: its own files, nothing else in the
                folder.
            environment: facts to add to `environment.json`, such as the accelerator.

        Raises:
            BadInput: its name is not UTF-8; it holds a run and `overwrite` is off, or something that is no run;
                another process is writing to it.
            FedloomError: it cannot be written.
        """
        folder = cls(Path(path))
        with folder._claimed(config, overwrite, environment or {}):
            return folder

    @contextmanager
    def _claimed(self, config: Mapping[str, Any], overwrite: bool, environment: Mapping[str, Any]) -> Iterator[None]:
        """Make the run here, as `create`; within, no other call can begin one here, whether it overwrites or not."""
        if not is_text(str(self.path.absolute())):
            raise BadInput(f"{self.path}: the name is not UTF-8, which a run's models cannot be saved under")
        with ExitStack() as claim:
            with explained("make the run folder", self.path):
                self._refuse_other(overwrite)  # before a lock file is put among somebody's own
                self.path.mkdir(parents=True, exist_ok=True)
                claim.enter_context(self._hold(".claim"))
                with self.exclusive():
                    self._refuse_other(overwrite)  # another process may have made a run meanwhile
                    self._remove_own()
                    self._write_first(config, environment)
            yield

    def _write_first(self, config: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        try:
            engine = config.get("engine") or {}
            facts = {"run": uuid.uuid4().hex, **describe_environment(), "threads": engine.get("threads")}
            for part in (self.samples, self.checkpoints, self.export):
                part.mkdir()
            write_atomic(self.path / "environment.json", json_text({**facts, **environment}))
            write_atomic(self.metrics, "")
            text = dump(plain(config, keep_nonfinite=True))
            write_atomic(self.path / "config.yaml", text)  # last: its presence says that the folder is a run
        except BaseException:  # an interrupt too
            with suppress(OSError):
                self._discard()
            raise

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """The folder of an earlier run, to go on with it.

        Raises:
            BadInput: it is no run folder; says what is missing.
        """
        read_config(Path(path))
        return cls(Path(path))

    def _refuse_other(self, overwrite: bool) -> None:
        """Raises BadInput where no new run may be made: it is a file, holds somebody's own files, or a run to keep."""
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise BadInput(f"{self.path} is a file; a run needs a folder.")
        if not (self.path / "config.yaml").exists():
            names = (entry.name for entry in self.path.iterdir())
            if foreign := sorted(name for name in names if name not in (*OWN, *LOCKS) and not _PART.fullmatch(name)):
                raise BadInput(f"{self.path} is not empty and holds no run (it has {foreign[0]}). Name another folder.")
        elif not overwrite:
            raise BadInput(
                f"{self.path} holds a run already: go on with it (--resume), replace it (--overwrite), "
                "or name another folder (--out)"
            )

    def _remove_own(self) -> None:
        """All but the lock files, which this process holds."""
        parts = [entry.name for entry in self.path.iterdir() if _PART.fullmatch(entry.name)]
        for name in (*OWN, *parts):  # config.yaml first: from here on it is no run
            entry = self.path / name
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)

    def discard_unless_begun(self) -> None:
        """Remove a run that has no checkpoint to go on from: its own files, and the folder where nothing else is in it.

        Raises:
            BadInput: another process is writing to it.
            FedloomError: something cannot be removed.
        """
        with explained("remove", self.path), self.exclusive():
            self._discard()

    def _discard(self) -> None:
        if self._has_checkpoints():
            return
        self._remove_own()
        for name in LOCKS:
            (self.path / name).unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def _has_checkpoints(self) -> bool:
        return any(self.checkpoints.glob("round_*"))

    @property
    def config(self) -> dict[str, Any]:
        """Every resolved value, as read from `config.yaml`."""
        return read_config(self.path)

    @property
    def run_id(self) -> str:
        """What silos know this run by, also after a resume and in another place."""
        return str(read_object(self.path / "environment.json", Environment).get("run", self.path.name))

    def pin_inputs(
        self, data: str, weights: Mapping[str, str], code: Mapping[str, str], may_differ: Iterable[str] = ()
    ) -> None:
        """Write down what the run is made of, once; from then on it goes on with the same only.

        Args:
            data, weights, code: digests, of given weights by their setting, of the files of items not built in by name.
            may_differ: of its configuration the keys that do not count, as in `same_config`.

        Raises:
            BadInput: it began on other data, weights or code, or its config.yaml has been edited since; it has
                rounds, and environment.json lacks what they were made of.
        """
        file = self.path / "environment.json"
        config = config_digest(flatten(self.config), tuple(may_differ))
        facts, now = read_object(file, Environment), {"config": config, "data": data, "weights": weights, "code": code}
        has_rounds = self.metrics.exists() and self.metrics.stat().st_size > 0
        refuse_changed(file, facts, now, begun=has_rounds or self._has_checkpoints())
        write_atomic(file, json_text({**facts, **now}))

    def exclusive(self) -> AbstractContextManager[None]:
        """Be the only process that writes to this folder.

        Raises:
            BadInput: another process is writing to it.
        """
        return self._hold(".lock")

    def _hold(self, lock: str) -> AbstractContextManager[None]:
        return locked(self.path / lock, busy=f"{self.path}: another process is writing to this run.")

    def same_config(
        self, config: Mapping[str, Any], may_differ: Iterable[str] = (), usual: Mapping[str, Any] | None = None
    ) -> list[str]:
        """How `config` differs from the run's own: one line a key, empty when it may be resumed with it.

        Args:
            may_differ, usual: of `differences`; a key of a group (`engine`) stands for all in it.
        """
        now = flatten(plain(config, keep_nonfinite=True))
        return differences(flatten(self.config), now, flatten(usual or {}), tuple(may_differ))

    def append_round(self, row: Mapping[str, Any]) -> None:
        """Add a round's line to `metrics.jsonl`; it is on disk on return. NaN and infinity become null."""
        append_line(self.metrics, json_line(row))

    def read_rounds(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`; one that a crash cut short is left out."""
        return read_lines(self.metrics, RoundRow)

    def rewrite_rounds(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace `metrics.jsonl` as a whole."""
        write_atomic(self.metrics, "".join(json_line(row) + "\n" for row in rows))

    def rewind(self, round: int) -> None:
        """Forget what came after `round`, to go on from its checkpoint: in metrics, ledger, samples."""
        self.rewrite_rounds([row for row in self.read_rounds() if row.get("round", 0) <= round])
        if self.ledger.exists():
            rows = [row for row in read_lines(self.ledger, LedgerRow) if row.get("round", 0) <= round]
            write_atomic(self.ledger, "".join(json_line(row) + "\n" for row in rows))
        with explained("clear", self.path):
            for part in (self.samples, self.export):
                part.mkdir(exist_ok=True)
            for picture in self.samples.glob("*_[0-9]*.png"):
                number = re.search(r"_(\d+)\.png$", picture.name)
                if number and int(number[1]) > round:
                    picture.unlink()
            self.summary.unlink(missing_ok=True)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json`: the run is finished."""
        write_atomic(self.summary, json_text(summary))

    def write_split(self, counts: Any, clients: Sequence[str], classes: Sequence[str]) -> None:
        """Write `split.json`: how many samples of each class each client holds.

        Args:
            counts: integers (K, C).
        """
        table = plain(counts)
        if len(table) != len(clients) or any(len(row) != len(classes) for row in table):
            raise BadInput(f"split: counts must be ({len(clients)}, {len(classes)}), one row a client")
        write_atomic(self.split, json_line({"classes": classes, "clients": dict(zip(clients, table))}) + "\n")

    def sample_picture(self, round: int) -> Path:
        """Where the grid of samples of `round` goes."""
        return self.samples / f"round_{round:04d}.png"

    def label_picture(self, round: int) -> Path:
        """Where the label panel of `round` goes."""
        return self.samples / f"labels_{round:04d}.png"

    def log(self, line: str) -> None:
        """Add a line with the time to `log.txt`."""
        with explained("write", self.log_file), self.log_file.open("a", encoding="utf-8") as handle:
            handle.write(f"{datetime.now().astimezone().isoformat(timespec='seconds')} {line}\n")
