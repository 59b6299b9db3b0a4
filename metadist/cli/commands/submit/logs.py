"""``metadist submit logs``."""

from __future__ import annotations

import click

from metadist.cli import options
from metadist.cli.commands.submit._jobs import cluster_of, sentence


@click.command()
@click.argument("job", metavar="JOB|RUN")
@click.option("-f", "--follow", is_flag=True, help="Go on until it ends, with its exit status.")
@options.dashboard
@click.pass_context
def logs(ctx: click.Context, job: str, follow: bool, address: str | None) -> None:
    """Show what JOB has said."""
    from metadist.jobs.follow import DETACHED, Follower, exit_status, patience
    from metadist.jobs.submitter import goes_on

    cluster = cluster_of(ctx, address)
    found = cluster.find(job)
    if not follow:
        click.echo(cluster.logs(found.id), nl=False)
        return

    def write(text: str) -> None:
        click.echo(text, nl=False)

    try:
        ended = Follower(cluster, found.id, write, options.say, patience()).follow()
    except KeyboardInterrupt as error:
        options.say(goes_on(found.id, cluster.address))
        ctx.exit(getattr(error, "exit_status", DETACHED))
    options.say(sentence(ended, seen=True))
    ctx.exit(exit_status(ended))
