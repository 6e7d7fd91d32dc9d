"""The run folder while it is being written. It is complete and readable without this program."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from fedloom.config.trees import read_tree
from fedloom.config.yaml_core import dump
from fedloom.errors import BadInput, is_text
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
from fedloom.runs.shapes import Environment, LedgerRow, RoundRow

OWN = (
    "config.yaml", "environment.json", "metrics.jsonl", "ledger.jsonl", "summary.json", "split.json",
    "log.txt", "report.html", "samples", "checkpoints", "export", "federation", ".lock",
)  # fmt: skip


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
    place = Path(out) if out else new_run_path(config["method"], config["data"]["name"], config["seed"])
    try:
        folder = RunFolder.create(place, config, overwrite=overwrite)
    except BaseException:
        if not out:
            with suppress(OSError):
                place.rmdir()
        raise
    try:
        yield folder
    except BaseException:
        folder.discard_unless_begun()
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
            BadInput: its name is not UTF-8; it holds a run and `overwrite` is off, or something that is no run.
            FedloomError: it cannot be written.
        """
        folder = cls(Path(path))
        if not is_text(str(folder.path.absolute())):
            raise BadInput(f"{folder.path}: the name is not UTF-8, which a run's models cannot be saved under")
        with explained("make the run folder", folder.path):
            if folder.path.is_dir() and any(folder.path.iterdir()):
                folder._clear(overwrite)
            elif folder.path.exists() and not folder.path.is_dir():
                raise BadInput(f"{folder.path} is a file; a run needs a folder.")
        try:
            folder._write_first(config, environment or {})
        except BaseException:  # an interrupt too
            folder.discard_unless_begun()
            raise
        return folder

    def _write_first(self, config: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        with explained("make the run folder", self.path):
            for part in (self.samples, self.checkpoints, self.export):
                part.mkdir(parents=True, exist_ok=True)
        engine = config.get("engine") or {}
        facts = {"run": uuid.uuid4().hex, **describe_environment(), "threads": engine.get("threads")}
        facts |= environment
        write_atomic(self.path / "environment.json", json_text(facts))
        write_atomic(self.metrics, "")
        text = dump(plain(config, keep_nonfinite=True))
        write_atomic(self.path / "config.yaml", text)  # last: its presence says that the folder is a run

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """The folder of an earlier run, to go on with it.

        Raises:
            BadInput: it is no run folder; says what is missing.
        """
        read_config(Path(path))
        return cls(Path(path))

    def _clear(self, overwrite: bool) -> None:
        for part in self.path.glob(".*.part"):  # left by a writer that was killed
            part.unlink()
        foreign = sorted(entry.name for entry in self.path.iterdir() if entry.name not in OWN)
        if not (self.path / "config.yaml").exists():
            if foreign:
                raise BadInput(f"{self.path} is not empty and holds no run (it has {foreign[0]}). Name another folder.")
        elif not overwrite:
            raise BadInput(
                f"{self.path} holds a run already: go on with it (--resume), replace it (--overwrite), "
                "or name another folder (--out)"
            )
        self._remove_own()

    def _remove_own(self) -> None:
        (self.path / "config.yaml").unlink(missing_ok=True)  # first: from here on it is no run
        for name in OWN:
            entry = self.path / name
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)

    def discard_unless_begun(self) -> None:
        """Remove a run that has no checkpoint to go on from: its own files, and the folder where nothing else is in it.

        Raises:
            FedloomError: something cannot be removed.
        """
        if any(self.checkpoints.glob("round_*")):
            return
        with explained("remove", self.path):
            self._remove_own()
            if not any(self.path.iterdir()):
                self.path.rmdir()

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
            BadInput: it began on other data, weights or code, or its config.yaml has been edited since.
        """
        file = self.path / "environment.json"
        facts = read_object(file)
        now = {"config": self._config_digest(tuple(may_differ)), "data": data, "weights": weights, "code": code}
        began = _pinned(facts)
        for what, digest in _pinned(now).items():
            if began.get(what) not in (None, digest):
                raise BadInput(
                    f"{self.path}: {what} have changed since it began (digest {str(began[what])[:12]} in "
                    f"environment.json, now {digest[:12]}). Put back the files it began with, or begin a new run"
                )
        write_atomic(file, json_text({**facts, **now}))

    def _config_digest(self, may_differ: tuple[str, ...]) -> str:
        told = {key: value for key, value in flatten(self.config).items() if not _is_free(key, may_differ)}
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Be the only process that writes to this folder.

        Raises:
            BadInput: another process is writing to it.
        """
        with locked(self.path / ".lock", busy=f"{self.path}: another process is writing to this run."):
            yield

    def same_config(self, config: Mapping[str, Any], may_differ: Iterable[str] = ()) -> list[str]:
        """How `config` differs from the run's own: one line a key, empty when it may be resumed with it.

        Args:
            may_differ: dotted keys that do not change results (`engine.workers`); one that names a group
                (`engine`) stands for all in it.
        """
        free = tuple(may_differ)
        ours, theirs = flatten(self.config), flatten(plain(config, keep_nonfinite=True))
        lines = []
        for key in [*ours, *(key for key in theirs if key not in ours)]:
            if _is_free(key, free):
                continue
            a, b = ours.get(key, "(absent)"), theirs.get(key, "(absent)")
            if a != b and repr(a) != repr(b):  # repr: a NaN is the same as a NaN
                lines.append(f"{key}: the run has {a!r}, now {b!r}")
        return lines

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


def _pinned(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What `pin_inputs` wrote down, each digest by what it is of."""
    of = {f"the {kind} of {k}": d for kind in ("weights", "code") for k, d in (facts.get(kind) or {}).items()}
    return {"its settings in config.yaml": facts.get("config"), "its data": facts.get("data")} | of


def _is_free(key: str, names: tuple[str, ...]) -> bool:
    """Whether a dotted key is one of the names, or lies in a group that is."""
    return any(key == name or key.startswith(f"{name}.") for name in names)
