"""Runs inputs against a surface, in a child process that may hang, grow or crash, and says what went wrong.

An input is right when the reader either refuses it with the project's own error (one line that can be printed), or
gives what an independent reader gives for the same bytes. Every eighth input is undamaged and must be accepted.
"""

from __future__ import annotations

import faulthandler
import logging
import mmap
import os
import pickle
import resource
import shutil
import signal
import struct
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from fedloom.errors import FedloomError
from fuzz.differences import short, unlike
from fuzz.inputs import Input, Special, write
from fuzz.mutate import damaged, damaged_files

SECONDS = 5.0  # of computing, for one input
WAITING = 20.0  # seconds that may pass over one input: what waits for something waits for ever
GROWTH = 200_000_000  # bytes that one input may take
ROOM = 4 << 30  # bytes of address space beyond which an allocation fails, so that no bomb hurts the machine
LONGEST_LINE = 2_000  # characters of an error
BATCH = 200

Change = Callable[[Random, Input], Input]


class Refused(Exception):
    """An independent reader finds that the input is not what it should be."""


class Unsure(Exception):
    """An independent reader cannot tell what is right here: the reader may accept, and must not fail."""


class Hung(BaseException):
    """No answer in time; no `except Exception` of the code under test catches it."""


@dataclass(frozen=True)
class Surface:
    """Something that reads what comes from outside.

    draw: a well-formed input. read: what the project makes of the files in a folder. truth: the same by an
    independent reader; raises Refused or Unsure. damage: kinds of damage of its own, beside those of bytes and files;
    mend: puts checksums right after damage, so that it gets further in. share: of the inputs, relative to others;
    bytes_too: whether files are damaged as bytes.
    """

    name: str
    draw: Callable[[Random], Input]
    read: Callable[[Path, Input], Any]
    truth: Callable[[Path, Input], Any]
    damage: Sequence[Change] = ()
    mend: Change | None = None
    share: float = 1.0
    files_too: bool = True


@dataclass(frozen=True)
class Finding:
    """What went wrong with one input."""

    surface: str
    number: int
    kind: str
    detail: str
    given: Input | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells one error from another."""
        return self.surface, self.kind, self.detail.partition(" | ")[0]


@dataclass
class Tally:
    """What became of a surface's inputs."""

    inputs: int = 0
    refused: int = 0
    accepted: int = 0
    seconds: float = 0.0
    growth: int = 0
    longest: float = 0.0
    findings: list[Finding] = field(default_factory=list)


def make(surface: Surface, seed: int, number: int) -> tuple[Input, bool]:
    """Input `number` of a surface, and whether it is undamaged."""
    rng = Random(f"{surface.name} {seed} {number}")
    given = surface.draw(rng)
    if number % 8 == 0:
        return given, True
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        given = _changed(surface, rng, given)
    if surface.mend is not None and rng.random() < 0.7:
        given = _or_as_it_is(surface.mend, rng, given)
    return given, False


def _changed(surface: Surface, rng: Random, given: Input) -> Input:
    dice = rng.random()
    if surface.damage and dice < 0.4:
        return _or_as_it_is(rng.choice(surface.damage), rng, given)
    if not given.files:
        return given
    if surface.files_too and dice > 0.94:
        return damaged_files(rng, given)
    name = rng.choice(list(given.files))
    entry = given.files[name]
    return given.replace(name, damaged(rng, entry, name)) if isinstance(entry, bytes) else given


def _or_as_it_is(change: Change, rng: Random, given: Input) -> Input:
    try:
        return change(rng, given)
    except Exception:  # noqa: BLE001 - it does not apply to what other damage has left
        return given


def judge(surface: Surface, given: Input, whole: bool, folder: Path) -> tuple[bool, str, str]:
    """(accepted, kind of finding or '', detail) of one input. Runs the reader."""
    write(given, folder)
    try:
        found = surface.read(folder, given)
    except FedloomError as error:
        return False, *_of_refusal(error, whole)
    except Hung as error:
        return False, "hang", _raised(error)
    except MemoryError as error:
        return False, "allocation", _of(error)
    except BaseException as error:  # noqa: BLE001 - that is what is looked for
        return False, "traceback", _of(error)
    if any(isinstance(entry, Special) for entry in given.files.values()):
        return True, "", ""  # a link may well lead to the right contents
    try:
        expected = surface.truth(folder, given)
    except Unsure:
        return True, "", ""
    except Exception as error:  # noqa: BLE001 - Refused, or a plain reader that stumbles over what is no such input
        return (
            True,
            "accepted",
            f"a right reader refuses it: {type(error).__name__} {error} | found {short(found)}",
        )
    if difference := unlike(found, expected):
        return True, "other contents", f"{difference[0]} | {difference[1]}"
    return True, "", ""


def _of_refusal(error: FedloomError, whole: bool) -> tuple[str, str]:
    text = str(error)
    if whole:
        return "refused", f"an undamaged input is refused | {text[:300]}"
    if "\n" in text or "\r" in text or not text or len(text) > LONGEST_LINE:
        return "message", f"no line of reasonable length: {_raised(error)} | {text[:300]!r}"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "message", f"cannot be printed: {_raised(error)} | {text[:300]!a}"
    return "", ""


def _of(error: BaseException) -> str:
    chain = f"{type(error).__name__} in {_where(traceback.extract_tb(error.__traceback__))}"
    return f"{chain} | {str(error)[:200]!a}"


def _raised(error: BaseException) -> str:
    return _where(traceback.extract_tb(error.__traceback__))


def _where(frames: traceback.StackSummary) -> str:
    ours = [f for f in frames if "/fedloom/" in f.filename]
    shown = ours[-1:] or list(frames[-1:])
    return " ".join(f"{Path(f.filename).name}:{f.name}" for f in shown)


# ------------------------------------------------------------------------------------------------ processes


def run(surface: Surface, inputs: Sequence[int], seed: int) -> Tally:
    """Judges the inputs of those numbers, in child processes."""
    return run_given(surface, [(number, None) for number in inputs], seed)


def run_given(surface: Surface, cases: Sequence[tuple[int, Input | None]], seed: int) -> Tally:
    """Judges inputs, those that are given and those that are made from their numbers."""
    tally = Tally()
    begun = time.perf_counter()
    at = 0
    while at < len(cases):
        at += _batch(surface, cases[at : at + BATCH], seed, tally)
    tally.seconds = time.perf_counter() - begun
    return tally


def _batch(surface: Surface, cases: Sequence[tuple[int, Input | None]], seed: int, tally: Tally) -> int:
    """Judges some of the inputs in a child process; how many. A child that dies or hangs is a finding."""
    done = mmap.mmap(-1, 8)  # of the input under way, its place among the cases
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            os.close(reader)
            with os.fdopen(writer, "wb") as out:
                pickle.dump(_child(surface, cases, seed, folder, done), out)
            status = 0
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writer)
    try:
        data, status = _await(pid, reader, done)
    finally:
        os.close(reader)
        shutil.rmtree(folder, ignore_errors=True)
    at = struct.unpack("q", done[:])[0]
    if status == 0:
        part: Tally = pickle.loads(data)
        at = len(cases)
    else:
        number, given = cases[at]
        how = "hang" if status == -signal.SIGKILL else "crash"
        part = Tally(at + 1, findings=[Finding(surface.name, number, how, f"status {status}", given)])
        at += 1  # what became of those before it is lost but for their number
    for key in ("inputs", "refused", "accepted"):
        setattr(tally, key, getattr(tally, key) + getattr(part, key))
    tally.growth = max(tally.growth, part.growth)
    tally.longest = max(tally.longest, part.longest)
    tally.findings += part.findings
    return at


def _await(pid: int, reader: int, done: mmap.mmap) -> tuple[bytes, int]:
    """What the child wrote and how it ended; killed when one input takes more than twice what it may."""
    os.set_blocking(reader, False)
    data, seen, since = b"", b"", time.monotonic()
    while True:
        try:
            while piece := os.read(reader, 1 << 20):
                data += piece
        except BlockingIOError:
            pass
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            os.set_blocking(reader, True)
            while piece := os.read(reader, 1 << 20):
                data += piece
            return data, os.waitstatus_to_exitcode(status)
        if done[:] != seen:
            seen, since = done[:], time.monotonic()
        elif time.monotonic() - since > 2 * WAITING:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return data, -signal.SIGKILL
        time.sleep(0.02)


def _child(
    surface: Surface, cases: Sequence[tuple[int, Input | None]], seed: int, folder: Path, done: mmap.mmap
) -> Tally:
    logging.disable(logging.CRITICAL)
    faulthandler.disable()  # a crash is said by whoever waits for this process
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGPROF, _too_long)
    signal.signal(signal.SIGALRM, _too_long)
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, resource.getrlimit(resource.RLIMIT_AS)[1]))
    tally, most = Tally(), 0
    for place, (number, kept) in enumerate(cases):
        done[:] = struct.pack("q", place)
        given, whole = (kept, False) if kept is not None else make(surface, seed, number)
        own = folder / f"{number}"
        own.mkdir()
        before, begun = _memory(), time.process_time()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.setitimer(signal.ITIMER_REAL, WAITING)
        try:
            accepted, kind, detail = judge(surface, given, whole, own)
        except Hung:
            accepted, kind, detail = False, "hang", "in the independent reader"
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        growth = peak - before if peak > most else 0  # below the peak of an earlier input it does not show
        most = max(peak, most)
        tally.growth = max(tally.growth, growth)
        tally.longest = max(tally.longest, time.process_time() - begun)
        if growth > GROWTH and not kind:
            kind, detail = "growth", f"more than {GROWTH // 1_000_000} MB | {growth // 1_000_000} MB"
        tally.inputs += 1
        tally.accepted += accepted
        tally.refused += not accepted
        if kind:
            tally.findings.append(Finding(surface.name, number, kind, detail, given))
        shutil.rmtree(own, ignore_errors=True)
    return tally


def _too_long(_signal: int, _frame: FrameType | None) -> None:
    raise Hung


def _memory() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
