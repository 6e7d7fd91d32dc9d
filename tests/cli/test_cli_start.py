"""The command line as such: help, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import pytest
from typer.main import get_command

import fedloom
from fedloom.cli.main import app, command_tree, main
from fedloom.cli.version import version_text
from fedloom.errors import FedloomError

COMMANDS = (
    "run",
    "init",
    "compare",
    "pretrain",
    "methods",
    "datasets",
    "models",
    "partition",
    "generate",
    "runs",
    "watch",
    "stop",
    "inspect",
    "audit",
    "report",
    "fetch",
    "doctor",
)
SITES = ("submit", "status", "logs", "server", "silo", "pki")  # those of real sites


def test_help_answers_in_a_process_of_its_own():
    """How fast: `benchmarks/start.py`; that nothing heavy is imported: `test_imports`."""
    done = subprocess.run([sys.executable, "-m", "fedloom.cli", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert all(command in done.stdout for command in COMMANDS)


def test_help_in_short(cli):
    assert cli("-h").out == cli("--help").out
    assert cli("pki", "issue", "-h").out == cli("pki", "issue", "--help").out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(cli, command):
    shown = cli(command, "--help")
    assert shown.code == 0
    assert f"Example: fedloom {command}" in " ".join(shown.out.split())


def tree(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group below `command`, with the words that call it."""
    for name, below in getattr(command, "commands", {}).items():
        yield from tree(below, *path, name)
    yield path, command


@pytest.mark.parametrize(
    ("path", "command"), tree(command_tree()), ids=lambda v: "-".join(v) if isinstance(v, tuple) else ""
)
def test_every_command_explains_all_that_it_takes(path: tuple[str, ...], command: Any) -> None:
    assert command.help
    assert not [parameter.name for parameter in command.params if not parameter.help]
    if path and not hasattr(command, "commands"):
        assert f"Example: fedloom {' '.join(path)}" in command.help


def test_arguments_are_explained_in_the_help(cli):
    assert "A run's folder." in cli("generate", "-h").out


NEAREST = [(["rnu"], "run"), (["server", "upp"], "up"), (["pki", "isue"], "issue"), (["run", "--mthod"], "--method")]


@pytest.mark.parametrize(("words", "nearest"), NEAREST)
def test_the_nearest_name_is_offered_once(cli, words, nearest):
    shown = cli(*words)
    assert shown.code == 2
    assert shown.err.count("Did you mean") == 1
    assert nearest in shown.err


def test_the_commands_are_those_that_are_tested():
    assert tuple(get_command(app).commands) == COMMANDS + SITES  # type: ignore[attr-defined]


def test_no_command_shows_the_help(cli):
    assert "Usage: fedloom" in cli().out


def test_version(cli):
    said = cli("--version").out.splitlines()
    assert said[0] == f"fedloom {fedloom.__version__}"
    assert [line.split()[0] for line in said[1:]] == ["torch", "devices", "flower", "python"]
    assert said[1].split()[1] == metadata.version("torch")


def test_version_names_the_gpus_that_torch_can_use(tmp_path, monkeypatch):
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0" / "information").write_text("Model: \t NVIDIA H200\nIRQ: 1\n")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("fedloom.cli.version._version", lambda name: "2.13.0")
    assert "devices cpu, cuda:0 (NVIDIA H200)\n" in version_text(tmp_path)
    monkeypatch.setattr("fedloom.cli.version._version", lambda name: "2.13.0+cpu")
    assert "devices cpu\n" in version_text(tmp_path)


@pytest.mark.parametrize(
    ("shell", "words"),
    [
        ("bash", {"COMP_WORDS": "fedloom par", "COMP_CWORD": "1"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "fedloom par"}),
        ("fish", {"_TYPER_COMPLETE_ARGS": "fedloom par", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
    ],
)
def test_shells_complete_commands(shell, words):
    asked = {**os.environ, "_FEDLOOM_COMPLETE": f"complete_{shell}", **words}
    command = [sys.executable, "-m", "fedloom.cli"]
    done = subprocess.run(command, env=asked, capture_output=True, text=True, check=False)
    assert "partition" in done.stdout
    assert "pretrain" not in done.stdout


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["rn"], "'rn'"),
        (["run", "--methd", "fedmmkt"], "--methd"),
        (["run", "--seed", "one"], "--seed"),
        (["run", "--seed", "-1"], "--seed"),
        (["generate", "somewhere"], "--prompt"),
        (["report"], "RUN"),
    ],
)
def test_wrong_usage_is_one_line(cli, args, told):
    shown = cli(*args)
    assert (shown.code, shown.out) == (2, "")
    assert shown.err.count("\n") == 1
    assert shown.err.startswith("error: ")
    assert told in shown.err
    assert "--help`." in shown.err


def _raise(error):
    def run(*args, **kwargs):
        raise error

    return run


def test_a_failure_is_one_line_and_exit_code_1(cli, monkeypatch):
    monkeypatch.setattr("fedloom.api.run", _raise(FedloomError("the disk\nis full")))
    shown = cli("run", "--quiet")
    assert (shown.code, shown.out, shown.err.count("\n")) == (1, "", 1)
    assert shown.err.startswith("error: the disk is full.")


def test_an_interruption_says_how_to_go_on(cli, monkeypatch, tmp_path):
    (tmp_path / "config.yaml").write_text("rounds: 2\n")

    def run(*args, observer, **kwargs):
        observer.begin({"folder": tmp_path, "rounds": 2})
        raise KeyboardInterrupt

    monkeypatch.setattr("fedloom.api.run", run)
    shown = cli("run", "--quiet")
    assert (shown.code, shown.out) == (130, "")
    assert f"fedloom run --resume {tmp_path}" in shown.err


def test_an_interruption_before_anything_is_done(cli, monkeypatch):
    monkeypatch.setattr("fedloom.api.run", _raise(KeyboardInterrupt))
    shown = cli("run", "--quiet")
    assert shown.code == 130
    assert "give the same command again" in shown.err


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("fedloom.api.run", _raise(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        main(["run", "--quiet"])
