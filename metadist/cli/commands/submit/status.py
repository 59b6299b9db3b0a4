"""``metadist submit status``."""

from __future__ import annotations

import click

from metadist.cli import options
from metadist.cli.commands.submit._jobs import cluster_of, show


@click.command()
@click.argument("job", metavar="JOB|RUN")
@options.dashboard
@options.as_json
@click.pass_context
def status(ctx: click.Context, job: str, address: str | None, as_json: bool) -> None:
    """Say how JOB is, or the newest job of RUN."""
    show(cluster_of(ctx, address).find(job), as_json)
