"""The guide says what is: keys, defaults, files and columns that it names are there."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from fedloom.api import run
from fedloom.config import Config, EngineSettings, load_config, presets
from fedloom.config.silo import HostSettings, SiloSettings
from fedloom.config.stable_diffusion import LatentOptions
from fedloom.config.trees import read_settings
from fedloom.data.datasets.folder import load
from fedloom.deployment.offline import SWITCHES
from fedloom.models.generators.glide.settings import GlideOptions
from fedloom.results import Run

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "guide"


def rows(page: str, heading: str) -> list[tuple[list[str], str]]:
    """The table after a line that begins with `heading`: code words of the first column, and the second."""
    text = (GUIDE / page).read_text(encoding="utf-8")
    table = text[text.index(heading) :].split("|---|", 1)[1].split("\n\n", 1)[0]
    cells = [line.split("|") for line in table.splitlines() if line.startswith("|") and "`" in line]
    return [(re.findall(r"`([^`]+)`", c[1]), c[2].strip()) for c in cells]


@pytest.mark.parametrize("heading", ["## Main keys", "## Engine"])
def test_configuration_keys_and_defaults(heading):
    tree = Config().model_dump(mode="json")
    for (key,), default in rows("configuration.md", heading):
        value = tree
        for part in key.split("."):
            value = value[part]
        if default and not isinstance(value, list | dict):
            said = default.strip("`")
            assert said == (yaml.safe_dump(value).split("\n")[0]), key


@pytest.mark.parametrize(("group", "kind"), [("latent", LatentOptions), ("glide", GlideOptions)])
def test_options_of_given_generators(group, kind):
    table = rows("configuration.md", f"| `server.generator.{group}` |")
    assert sorted(key for (key, *_), _ in table) == sorted(kind.model_fields)
    for (key, *_), default in table:
        assert default.strip("`") == yaml.safe_dump(kind.model_fields[key].default).split("\n")[0], key


def test_keys_of_the_engine():
    told = [key for (key,), _ in rows("configuration.md", "## Engine")]
    assert sorted(told) == sorted(f"engine.{key}" for key in EngineSettings.model_fields)
    assert {key for (key,), _ in rows("engines.md", "## Which keys")} == set(EngineSettings.model_fields)


@pytest.mark.parametrize(
    ("heading", "kind"), [("The port, and whatever", HostSettings), ("name: hospital-b", SiloSettings)]
)
def test_settings_of_server_and_silo(heading, kind):
    """A default is given for each key that has one and is no group."""
    table = rows("real-sites.md", heading)
    assert sorted(key for (key,), _ in table) == sorted(kind.model_fields)
    for (key,), default in table:
        field = kind.model_fields[key]
        if field.is_required() or isinstance(field.default, BaseModel):
            assert not default, key
        else:
            assert default.strip("`") == yaml.safe_dump(field.default).split("\n")[0], key


def test_the_silo_file_shown_is_valid(tmp_path):
    text = (GUIDE / "real-sites.md").read_text(encoding="utf-8")
    (tmp_path / "silo.yaml").write_text(text.split("```yaml")[1].split("```")[0])
    assert read_settings(SiloSettings, tmp_path / "silo.yaml", {}).name == "hospital-b"


def test_switches():
    table = (GUIDE / "engines.md").read_text(encoding="utf-8").split("## What is switched off")[1]
    found = [line.split("|") for line in table.splitlines() if line.startswith("| `")]
    told = {name.strip(" `"): (value.strip(" `"), why.strip()) for _, name, value, why, _ in found}
    assert told == SWITCHES


def test_presets():
    assert {name for (name,), _ in rows("configuration.md", "## Presets")} == set(presets())


def test_the_configuration_file_shown_is_valid(tmp_path):
    text = (GUIDE / "configuration.md").read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(text.split("```yaml")[1].split("```")[0])
    assert load_config(file=tmp_path / "mine.yaml").rounds == 10


def test_files_of_the_run_folder(smoke_run):
    names = [name for found, _ in rows("run-folder.md", "# The run folder") for name in found]
    missing = [name for name in names if not (smoke_run.path / name).exists()]
    # The command line writes one, events the other; the last is the Flower engine's.
    assert set(missing) <= {"report.html", "log.txt", "federation/"}
    listed = {Path(name).parts[0] for name in names}
    assert {p.name for p in smoke_run.path.iterdir() if not p.name.startswith(".")} <= listed


@pytest.mark.parametrize(("heading", "lines"), [("## metrics.jsonl", "rounds"), ("## ledger.jsonl", "ledger")])
def test_keys_of_the_lines(smoke_run, heading, lines):
    named = {name for found, _ in rows("run-folder.md", heading) for name in found}
    assert named == set(getattr(smoke_run, lines)[-1])


def test_keys_of_the_summary(smoke_run):
    text = (GUIDE / "run-folder.md").read_text(encoding="utf-8").split("## summary.json")[1].split("##")[0]
    named = {word.split(".")[0] for word in re.findall(r"`([\w.]+)`", text)}
    scores = {key for key, value in smoke_run.summary.items() if isinstance(value, dict) and "before" in value}
    assert set(smoke_run.summary) - scores <= named


def test_options_of_the_folder_reader():
    named = {n for found, _ in rows("your-own-data.md", "Where the files") for n in found}
    assert named == set(inspect.signature(load).parameters) - {"root", "name"}


def test_python_arguments_and_attributes():
    arguments = {n for found, _ in rows("python-api.md", "## Running") for n in found}
    assert arguments == set(inspect.signature(run).parameters)
    attributes = {n for found, _ in rows("python-api.md", "## Reading") for n in found}
    assert all(hasattr(Run, name) or name in Run.__dataclass_fields__ for name in attributes)
