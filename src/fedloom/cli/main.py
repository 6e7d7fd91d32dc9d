"""The command line. Nothing heavy is imported here: a command imports what it needs when it is called."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Annotated, Any, cast, get_type_hints

import typer

from fedloom.cli.audit import audit
from fedloom.cli.compare import compare
from fedloom.cli.datasets import datasets
from fedloom.cli.doctor import doctor
from fedloom.cli.fetch import fetch
from fedloom.cli.generate import generate
from fedloom.cli.init import init
from fedloom.cli.inspect import inspect
from fedloom.cli.logs import logs
from fedloom.cli.methods import methods
from fedloom.cli.models import models
from fedloom.cli.partition import partition
from fedloom.cli.pki import pki
from fedloom.cli.pretrain import pretrain
from fedloom.cli.report import report
from fedloom.cli.run import run
from fedloom.cli.runs import runs
from fedloom.cli.server import server
from fedloom.cli.silo import silo
from fedloom.cli.status import status
from fedloom.cli.stop import stop
from fedloom.cli.submit import submit
from fedloom.cli.version import version_text
from fedloom.cli.watch import watch
from fedloom.errors import BadInput, FedloomError, disk_full, first_line, printable
from fedloom.signals import Interrupted, heard

# Typer brings click along, as a dependency or inside itself; its usage errors are reached by their base class.
UsageError = cast(type[Exception], typer.BadParameter.__bases__[0])
_TYPERS_OWN = 130  # the code that typer makes of KeyboardInterrupt, without a word
SITES = "Real sites"  # the heading of these commands in the help

app = typer.Typer(
    pretty_exceptions_enable=False,
    suggest_commands=False,  # the error of an unknown command has the nearest one already
    context_settings={"help_option_names": ["-h", "--help"]},
)
LISTS = (methods, datasets, models)
HERE = (
    *(run, init, compare, pretrain, *LISTS, partition, generate),
    *(runs, watch, stop, inspect, audit, report, fetch, doctor),
)
for panel, commands in ((None, HERE), (SITES, (submit, status, logs))):
    for command in commands:
        app.command(rich_help_panel=panel)(command)
for name, group in (("server", server), ("silo", silo), ("pki", pki)):
    app.add_typer(group, name=name, rich_help_panel=SITES)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version_text())
        raise typer.Exit


@app.callback(invoke_without_command=True)
def fedloom(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show versions and devices, and exit.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Clients of different data and models, and a text-to-image server, teach one another.

    Start with `fedloom run`; `fedloom COMMAND --help` explains a command and gives an example.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@cache
def command_tree() -> Any:
    """The command line as click runs it, with the help of arguments: typer 0.20 loses it with click 8.4 and newer.

    The lines of a help text are broken by the terminal, and not as in the file that it stands in.
    """
    tree = typer.main.get_command(app)
    leaves: list[Any] = [tree]
    while leaves:
        command = leaves.pop()
        leaves += getattr(command, "commands", {}).values()
        command.help = "\n\n".join(" ".join(text.split()) for text in (command.help or "").split("\n\n"))
        if lost := [parameter for parameter in command.params if not parameter.help]:
            hints = get_type_hints(command.callback, include_extras=True)
            for parameter in lost:
                parameter.help = hints[parameter.name].__metadata__[0].help
    return tree


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; `args` default to the process's own.

    Returns:
        The exit code: 0 done, 1 failed, 2 bad input, 3 done while clients died, 130 Ctrl-C, 143 SIGTERM, 129 the
        terminal was closed; 1, 2 and those above 128 with one line on stderr. A bug keeps its traceback.
    """
    _tolerant()
    os.environ["MPLBACKEND"] = "agg"  # plots are files; a notebook's own backend need not be installed here
    with heard() as asked:
        try:
            return _called(args)
        except Interrupted as end:
            return _say(str(end), asked.code)
        except (KeyboardInterrupt, typer.Abort):
            return _say("interrupted", asked.code)


def _called(args: Sequence[str] | None) -> int:
    try:
        code = command_tree()(args=None if args is None else list(args), prog_name="fedloom", standalone_mode=False)
    except UsageError as error:
        return _say(f"error: {_usage(error)}", 2)
    except BadInput as error:
        return _say(f"error: {error}", 2)
    except FedloomError as error:
        return _say(f"error: {error}", 1)
    except Exception as error:
        if not disk_full(error):
            raise
        place = getattr(error, "filename", None)
        return _say(f"error: the disk is full{f': {printable(str(place))}' if place else ''} ({first_line(error)})", 1)
    if code == _TYPERS_OWN:
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


def _usage(error: Exception) -> str:
    """What is wrong with the arguments, and where their help is."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "fedloom"
    message = str(error.format_message()) if hasattr(error, "format_message") else str(error)
    return f"{message}{'' if message.endswith(('.', '?')) else '.'} See `{command} --help`."


def _tolerant() -> None:
    """Show escaped what the terminal has no characters for, such as a name that is not UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _say(message: str, code: int) -> int:
    """One line on stderr, whatever the message is made of."""
    with suppress(OSError):  # nobody may be there to read it
        typer.echo(" ".join(message.split()), err=True)
    return code
