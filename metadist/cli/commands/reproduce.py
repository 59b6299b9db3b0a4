"""``metadist reproduce``."""

from __future__ import annotations

import sys
from typing import Any

import click

from metadist.cli import completion, options
from metadist.cli.verbosity import is_quiet
from metadist.errors import TrackingError


@click.command()
@click.argument("table", required=False, shell_complete=completion.tables)
@click.option("--list", "listed", is_flag=True, help="List the tables that there are.")
@options.count(
    "--tasks",
    1,
    "Budget of a run, in tasks: outer steps times batch. Default: the table's own.",
    large=True,
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Stop after so long; the same command goes on.",
)
@options.count("--jobs", 1, "Runs at once. Default: as many as fit.")
@options.count("--seeds", 1, "Runs of each kind.", default=1)
@options.text("--rows", "ID[,ID…]", "Only these rows; may be given again.", multiple=True)
@options.count(
    "--workers",
    0,
    "Ray workers of each run; 0 trains in the run's own process, wherever that is.",
    default=0,
)
@options.address
@options.text("--out", "DIR", "Where results go.", default="results")
@options.of_training
def reproduce(
    table: str | None,
    listed: bool,
    rows: tuple[str, ...],
    out: str,
    as_json: bool,
    **arguments: Any,
) -> None:
    """Run a published TABLE again and print our figures beside the published ones.

    TABLE is the name of a built-in table (see --list) or a TOML file. What is finished is not
    run again, what was stopped goes on: give the same command as often as you like. It exits with
    1 if a run has failed.
    """
    from metadist import reproduce as tables

    if listed:
        there = []
        for one in map(tables.load_table, tables.table_names()):
            size = f"{len(one.rows)} rows, {len(one.runs)} runs of {one.tasks:,} tasks"
            there.append((one.name, f"{one.title}: {size} unless --tasks says otherwise"))
        options.show_rows(there)
        return
    if table is None:
        raise click.UsageError(f"TABLE is needed: one of {', '.join(tables.table_names())}")
    from metadist.reproduce.render import text

    result = tables.reproduce(
        table,
        rows=[row for text in rows for row in text.split(",") if row],
        progress=None if is_quiet() else sys.stderr,
        **arguments,
    )
    options.show(text(result), result.document(), as_json)
    files = tables.write(result, out)
    options.say(f"Written: {', '.join(str(file) for file in files)}")
    if not arguments["offline"]:
        try:
            tables.record(result, files)
        except TrackingError as error:
            options.say(f"The summary is not in MLflow: {error}")
    if result.failed:
        raise click.ClickException(
            f"{len(result.failed)} of {len(result.planned)} runs failed; the table says why"
        )
