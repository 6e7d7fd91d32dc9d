"""The app that Flower takes along: two modules of two lines. The code proper is installed on each machine."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from fedloom import __version__

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
        "from fedloom.federation.flower.client_app import make_client_app\n\napp = make_client_app()\n"
    ),
    "LICENSE": "Apache License 2.0, see https://www.apache.org/licenses/LICENSE-2.0\n",
}


def write_bundle(folder: Path) -> Path:
    """Writes the app's project into `folder`."""
    files = {
        **_FILES,
        "pyproject.toml": _PYPROJECT.format(version=__version__, flower=metadata.version("flwr")),
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder
