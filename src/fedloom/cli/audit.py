"""`fedloom audit`: what an honest-but-curious server learned from what crossed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedloom.cli.options import JsonOption, QuietOption
from fedloom.cli.screen import grid, show, show_json

if TYPE_CHECKING:
    from fedloom.reporting.pages import Table


def audit(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs.")],
    attack: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="membership, reconstruction, labels or canaries. Can be repeated."),
    ] = None,
    client: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Whom to attack (default: the first of each kind). Can be repeated."),
    ] = None,
    shadows: Annotated[int, typer.Option(metavar="N", help="Shadow clients a client; 0: attack by loss alone.")] = 16,
    samples: Annotated[int, typer.Option(metavar="N", help="Training samples to be told apart, at most.")] = 500,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the attacks.")] = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Attack runs as a curious server would, by what crossed.

    Runs need `--set engine.keep_messages=true`, and for canaries `--set data.canaries.count=50`. Of each run audit.json
    is written, and the report anew; several are compared, as with and without a mechanism.

    Example: fedloom audit runs/fedavg-flora-0 runs/fedavg-flora-0-2 --shadows 8
    """
    from fedloom.audits import AuditSettings, compared
    from fedloom.config.trees import validate
    from fedloom.reporting.audits import canary_table, compared_table, membership_table
    from fedloom.reporting.html import write_report

    asked = {"attacks": attack or (), "clients": client or (), "shadows": shadows, "samples": samples, "seed": seed}
    settings: AuditSettings = validate(AuditSettings, asked)
    found = compared(runs, settings, (lambda line: None) if quiet else (lambda line: typer.echo(line, err=True)))
    if json:
        show_json(dict(found))
    else:
        tables = [*(membership_table(told["clients"]) for _, told in found), compared_table(found), canary_table(found)]
        show(*(_grid(table) for table in tables if table.rows))
    pages = [write_report([run]) for run in runs] + ([write_report(runs)] if len(runs) > 1 else [])
    if not json:
        show(*(f"report {page}" for page in pages))


def _grid(table: Table) -> Any:
    rows = [[getattr(cell, "text", cell) for cell in row] for row in table.rows]
    return grid(table.head, rows, numbers=list(table.numbers))
