"""The command line as such: help, exit codes."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.main import get_command

import fedloom
from fedloom.cli.main import app, main
from fedloom.errors import FedloomError

COMMANDS = (
    "run",
    "init",
    "compare",
    "methods",
    "datasets",
    "models",
    "partition",
    "generate",
    "inspect",
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


def test_the_commands_are_those_that_are_tested():
    assert tuple(get_command(app).commands) == COMMANDS + SITES  # type: ignore[attr-defined]


def test_no_command_shows_the_help(cli):
    assert "Usage: fedloom" in cli().out


def test_version(cli):
    assert cli("--version").out == f"fedloom {fedloom.__version__}\n"


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


def test_an_interruption_says_how_to_go_on(cli, monkeypatch, smoke_run):
    def run(*args, observer, **kwargs):
        observer.begin({"folder": smoke_run.path, "rounds": 2})
        raise KeyboardInterrupt

    monkeypatch.setattr("fedloom.api.run", run)
    shown = cli("run", "--quiet")
    assert (shown.code, shown.out) == (130, "")
    assert f"fedloom run --resume {smoke_run.path}" in shown.err


def test_an_interruption_before_anything_is_done(cli, monkeypatch):
    monkeypatch.setattr("fedloom.api.run", _raise(KeyboardInterrupt))
    shown = cli("run", "--quiet")
    assert shown.code == 130
    assert "give the same command again" in shown.err


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("fedloom.api.run", _raise(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        main(["run", "--quiet"])
