"""The guide says what is: keys, defaults, files and columns that it names are there."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from doc_pages import PAGES, ROOT, at_smoke_size, blocks, inline, is_fast, make_data, smoke_settings
from fedloom.api import run
from fedloom.cli.main import command_tree, main
from fedloom.config import Config, EngineSettings, load_config, presets
from fedloom.config.glide import GlideOptions
from fedloom.config.silo import HostSettings, SiloSettings
from fedloom.config.stable_diffusion import LatentOptions
from fedloom.config.trees import read_settings
from fedloom.data.datasets.folder import load
from fedloom.deployment.offline import SWITCHES
from fedloom.experiment.begin import FREE_ON_RESUME
from fedloom.results import Run

GUIDE = ROOT / "docs" / "guide"


SMOKE = """
import functools, fedloom
fedloom.run = functools.partial(fedloom.run, preset="smoke")
fedloom.compare = functools.partial(fedloom.compare, overrides={settings!r})
"""


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_options_that_are_shown_exist(page):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for words in [*(words for block in blocks(page) for words in block.commands), *inline(page)]:
        if words[0] == "make":
            assert [word for word in words[1:] if "=" not in word and word not in targets] == [], words
        elif words[0] == "python":
            assert (ROOT / words[1]).is_file(), words
        else:
            command = command_tree()
            for word in words[1:]:
                if word.startswith("-"):
                    break
                if hasattr(command, "commands"):
                    assert word in command.commands, words
                    command = command.commands[word]
            known = {name for parameter in command.params for name in parameter.opts} | {"-h", "--help"}
            options = [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]
            assert set(options) <= known, words


def prepared(page, folder):
    """The data and files that the commands of a page speak of."""
    make_data(folder / "mine")
    for block in blocks(page):
        if block.file:
            (folder / block.file).write_text(block.text, encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_end_at_once(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    prepared(page, tmp_path)
    for block in blocks(page):
        for words in block.commands if block.why is None else ():
            if is_fast(words):
                assert main(at_smoke_size(words)[1:]) == 0, (words, capsys.readouterr().err)


@pytest.mark.parametrize("page", PAGES)
def test_python_that_is_shown_is_python(page):
    for block in blocks(page):
        if block.kind == "python":
            compile(block.text, page, "exec")


@pytest.mark.docs
@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_in_order(page, tmp_path):
    """What people type, at smoke size, in one folder; `make docs-check`."""
    prepared(page, tmp_path)
    settings = [text for text in smoke_settings() if text != "--set"]
    prologue = SMOKE.format(settings=settings)
    for block in blocks(page):
        if block.why is not None:
            continue
        shown = [at_smoke_size(words)[1:] for words in block.commands if words[0] == "fedloom"]
        runs = [[sys.executable, "-m", "fedloom.cli", *words] for words in shown]
        if block.kind == "python":
            runs = [[sys.executable, "-c", prologue + block.text]]
        for command in runs:
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{block.text}\n{done.stderr[-2000:]}"


def rows(page: str, heading: str) -> list[tuple[list[str], str]]:
    """The table after a line that begins with `heading`: code words of the first column, and the second."""
    text = (GUIDE / page).read_text(encoding="utf-8")
    table = text[text.index(heading) :].split("|---|", 1)[1].split("\n\n", 1)[0]
    cells = [line.split("|") for line in table.splitlines() if line.startswith("|") and "`" in line]
    return [(re.findall(r"`([^`]+)`", c[1]), c[2].strip()) for c in cells]


@pytest.mark.parametrize("heading", ["## Main keys", "## Engine"])
def test_configuration_keys_and_defaults(heading):
    for (key,), default in rows("configuration.md", heading):
        value: Any = Config()
        for part in key.split("."):
            value = getattr(value, part)
        if default and not isinstance(value, BaseModel | tuple | dict):
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
    ("heading", "kind"), [("`--port` names another", HostSettings), ("name: hospital-b", SiloSettings)]
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
    # The command line writes two, events another; engines, a tracker and kept messages have theirs.
    some = {"report.html", "audit.json", "log.txt", "federation/", "messages/", "parked/", "tensorboard/"}
    assert set(missing) <= some
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


def test_what_may_change_when_a_run_is_resumed():
    line = (GUIDE / "configuration.md").read_text(encoding="utf-8").split("## Resuming")[1].split("which may change")[0]
    named = set(re.findall(r"`(\w+)`", line)) - {"checkpoints", "engine"}
    assert named == {key.removeprefix("engine.") for key in FREE_ON_RESUME if key.startswith("engine.")}
