"""``metadist submit list``."""

from __future__ import annotations

import json

import click

from metadist.cli import options
from metadist.cli.commands.submit._jobs import cluster_of, command_of, document, times_of


@click.command("list")
@options.dashboard
@options.as_json
@click.pass_context
def list_(ctx: click.Context, address: str | None, as_json: bool) -> None:
    """List the jobs that were submitted, the oldest first."""
    jobs = cluster_of(ctx, address).jobs()
    if as_json:
        click.echo(json.dumps({"jobs": [document(job) for job in jobs]}))
        return
    if jobs:
        options.show_rows([(j.id, j.status, command_of(j), times_of(j)) for j in jobs])
