"""The app that Flower takes along: two modules of two lines. The code proper is installed on each machine.

A silo runs this app and no other. Releases with the same first two numbers work together, so what is here changes only
with one of these.
"""

from __future__ import annotations

import io
import json
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

from fedloom import __version__
from fedloom.runs.disk import write_atomic

_PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "fedloom-app"
version = "{version}"
description = "Hands messages to fedloom, which is installed on this machine"
license = {{ file = "LICENSE" }}
requires-python = ">=3.11"
dependencies = ["flwr>=1.41,<1.43"]

[tool.flwr.app]
publisher = "fedloom"
fab-format-version = 1
flwr-version-target = "{flower}"
fab-include = ["fedloom_app/**/*.py", "LICENSE"]

[tool.flwr.app.components]
serverapp = "fedloom_app.server_app:app"
clientapp = "fedloom_app.client_app:app"

[tool.flwr.app.config]
job = ""
"""
_FILES = {
    "fedloom_app/__init__.py": "",
    "fedloom_app/server_app.py": (
        "from fedloom.deployment.server_app import make_server_app\n\napp = make_server_app()\n"
    ),
    "fedloom_app/client_app.py": (
        "from fedloom.federation.engines.flower.client_app import make_client_app\n\napp = make_client_app()\n"
    ),
    "LICENSE": "Apache License 2.0, see https://www.apache.org/licenses/LICENSE-2.0\n",
}
_INDEX = ".info/CONTENT"  # Flower's own list of the files
_MOST = 100_000  # bytes; ours has 2000


def write_bundle(folder: Path) -> Path:
    """Writes the app's project into `folder`; what is there already stays, as another process may be reading it."""
    project = _PYPROJECT.format(version=__version__, flower=metadata.version("flwr"))
    files = {**_FILES, "pyproject.toml": project}
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text() != text:
            write_atomic(path, text)
    return folder


def is_ours(fab: bytes) -> bool:
    """Whether what Flower packed is this app, whoever packed it: the same files and settings but for versions."""
    try:
        with zipfile.ZipFile(io.BytesIO(fab)) as packed:
            entries = packed.infolist()
            if sum(entry.file_size for entry in entries) > _MOST or len(set(packed.namelist())) < len(entries):
                return False
            files = {entry.filename: packed.read(entry).decode() for entry in entries}
        files.pop(_INDEX, None)
        project = tomllib.loads(files.pop("pyproject.toml"))
        version, flower = project["project"]["version"], project["tool"]["flwr"]["app"]["flwr-version-target"]
        ours = tomllib.loads(_PYPROJECT.format(version=version, flower=flower))
    except Exception:  # noqa: BLE001 - whatever zipfile and tomllib raise on a foreign or damaged archive
        return False
    return files == _FILES and _settings_text(project) == _settings_text(ours)


def _settings_text(settings: dict[str, Any]) -> str:
    """Settings as text, in which `true` is not 1."""
    return json.dumps(settings, sort_keys=True, default=str)
