"""``metadist submit stop``."""

from __future__ import annotations

import click

from metadist.cli import options
from metadist.cli.commands.submit._jobs import cluster_of, show


@click.command()
@click.argument("job", metavar="JOB|RUN")
@options.dashboard
@options.as_json
@click.pass_context
def stop(ctx: click.Context, job: str, address: str | None, as_json: bool) -> None:
    """End JOB: it is asked to, and killed if it does not; its run can be continued."""
    from metadist.jobs import follow
    from metadist.jobs.package import STOP_SECONDS

    cluster = cluster_of(ctx, address)
    found = cluster.find(job)
    if found.over:
        options.say(f"{found.id} is over already")
    else:
        found = follow.stop(cluster, found, STOP_SECONDS + 30)
    show(found, as_json)
