"""`fedloom server up`: the host that silos connect to and runs are submitted to."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from fedloom.cli.options import SettingsOption, given

server = typer.Typer(help="Run the server that silos connect to.", no_args_is_help=True, suggest_commands=False)


@server.callback()
def _group() -> None:
    """Keeps `up` a subcommand."""


@server.command()
def up(
    folder: Annotated[str | None, typer.Option(metavar="DIR", help="The server's own folder.")] = None,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Address to listen on; 0.0.0.0: every interface.")
    ] = None,
    port: Annotated[int | None, typer.Option(metavar="N", min=0, max=65535, help="Port to listen on; 0: any.")] = None,
    pki: Annotated[str | None, typer.Option(metavar="DIR", help="Folder made by `fedloom pki init`.")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Use neither TLS nor keys: in a closed test network only.")
    ] = False,
    config: SettingsOption = None,
) -> None:
    """Run the server that silos connect to, until Ctrl-C, SIGTERM or the end of the terminal.

    Silos whose kit lies in the pki folder are admitted, also those issued later. Runs are handed over with
    `fedloom submit`; `fedloom status` shows how they go.

    Example: fedloom server up --host 0.0.0.0 --pki pki
    """
    from fedloom.cli.service import say, until_asked_to_end
    from fedloom.config.silo import HostSettings
    from fedloom.config.trees import read_settings
    from fedloom.deployment.superlink import SuperLink
    from fedloom.deployment.validity import Reminder, of_server

    values: dict[str, Any] = given(folder=folder, host=host, port=port, pki=pki, insecure=insecure or None)
    settings = read_settings(HostSettings, config, values)
    with until_asked_to_end(), SuperLink(settings, say) as link:
        keys = "no keys, no TLS" if settings.insecure else f"keys of {settings.pki}"
        say(f"server up at {settings.host}:{link.port} ({keys}), folder {settings.folder}")
        reminder = Reminder(lambda: [] if link.pki is None else of_server(link.pki), say)
        while True:
            reminder.look()
            time.sleep(1.0)
            link.check()
    say("server down")
