"""The app that Flower takes along: small, packed by Flower's own tool, and the only one that a silo runs."""

from __future__ import annotations

import io
import tomllib
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.cli.build import build_fab_from_disk
from flwr.supercore.run import RunNotRunningException

from fedloom.deployment.bundle import is_ours, write_bundle
from fedloom.deployment.supernode_process import only_ours


def packed(folder: Path) -> bytes:
    """What `flwr run` makes of the project in `folder`."""
    return bytes(build_fab_from_disk(folder))


@pytest.fixture(scope="module")
def fab(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return packed(write_bundle(tmp_path_factory.mktemp("app")))


def changed(fab: bytes, files: dict[str, str | None]) -> bytes:
    """The app with files replaced, added or (None) left out."""
    with zipfile.ZipFile(io.BytesIO(fab)) as old:
        content: dict[str, Any] = {name: old.read(name) for name in old.namelist()}
    content |= files
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as new:
        for name, data in content.items():
            if data is not None:
                new.writestr(name, data)
    return out.getvalue()


def project(fab: bytes) -> str:
    with zipfile.ZipFile(io.BytesIO(fab)) as old:
        return old.read("pyproject.toml").decode()


def test_flower_packs_it_and_it_is_small(fab: bytes) -> None:
    assert len(fab) < 10_000
    told = tomllib.loads(project(fab))
    assert told["tool"]["flwr"]["app"]["config"] == {"job": ""}
    with zipfile.ZipFile(io.BytesIO(fab)) as old:
        names = set(old.namelist())
    assert {"pyproject.toml", "fedloom_app/client_app.py", "fedloom_app/server_app.py"} < names


def test_what_is_there_already_is_not_touched(tmp_path: Path) -> None:
    """Two runs may be handed over at once: one must not find the other's files half written."""
    files = [p for p in write_bundle(tmp_path).rglob("*") if p.is_file()]
    before = [p.stat().st_mtime_ns for p in files]
    files[0].write_text("half")
    write_bundle(tmp_path)
    assert files[0].read_text() != "half"
    assert [p.stat().st_mtime_ns for p in files[1:]] == before[1:]


def test_a_silo_runs_it_also_of_another_version(fab: bytes) -> None:
    assert is_ours(fab)
    other = project(fab).replace('version = "0.2.0"', 'version = "0.2.7"').replace("1.41.0", "1.42.1")
    assert other != project(fab)
    assert is_ours(changed(fab, {"pyproject.toml": other}))


@pytest.mark.parametrize(
    "files",
    [
        {"fedloom_app/client_app.py": "import os"},
        {"fedloom_app/__init__.py": "import os"},
        {"fedloom_app/more.py": "import os"},
        {"sitecustomize.py": "import os"},
        {"../fedloom_app/client_app.py": "import os"},
        {"fedloom_app/server_app.py": None},
        {"pyproject.toml": None},
        {"pyproject.toml": "no toml"},
        {"pyproject.toml": "[project]"},
        {"LICENSE": "x" * 200_000},
    ],
)
def test_a_silo_runs_no_other(fab: bytes, files: dict[str, str | None]) -> None:
    assert not is_ours(changed(fab, files))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("fedloom_app.client_app:app", "os:app"),
        ('"flwr>=1.41,<1.43"', '"evil"'),
        ('publisher = "fedloom"', 'publisher = "../../.."'),
        ('version = "0.2.0"', 'version = "0.2.0"\nscripts = { x = "os:abort" }'),
    ],
)
def test_settings_that_are_not_ours(fab: bytes, old: str, new: str) -> None:
    text = project(fab)
    assert old in text
    assert not is_ours(changed(fab, {"pyproject.toml": text.replace(old, new)}))


def test_what_is_no_archive_at_all(fab: bytes) -> None:
    assert not is_ours(b"")
    assert not is_ours(fab[:-40])
    assert not is_ours(fab.replace(b"PK\x01\x02", b"PK\x01\x09"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_that_is_there_twice(fab: bytes) -> None:
    """Who reads the archive may take the one or the other."""
    with zipfile.ZipFile(io.BytesIO(fab)) as old:
        ours = [(name, old.read(name)) for name in old.namelist()]
    evil = [("fedloom_app/client_app.py", b"import os")]
    for files in (evil + ours, ours + evil):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as new:
            for name, data in files:
                new.writestr(name, data)
        assert not is_ours(out.getvalue())


def test_a_run_with_other_code_is_passed_over_and_logged(fab: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    given = {"good": fab, "evil": changed(fab, {"sitecustomize.py": "import os"})}
    get = only_ours(lambda name, run: SimpleNamespace(content=given[name]))
    assert get("good", 5).content == fab
    with pytest.raises(RunNotRunningException):
        get("evil", 6)
    assert capsys.readouterr().out == "fedloom: refused to run code that is not fedloom's, of run 6\n"


def test_flower_still_asks_for_apps_where_we_stand() -> None:
    """The hook is a private function of Flower's: this fails when a new version has none such."""
    import inspect

    from flwr.supernode import start_client_internal

    parameters = inspect.signature(start_client_internal._pull_and_store_message).parameters
    assert "get_fab" in parameters
    source = inspect.getsource(start_client_internal.start_client_internal)
    assert "_pull_and_store_message(" in source
    assert "get_fab=get_fab" in source
