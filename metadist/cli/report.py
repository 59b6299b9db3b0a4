"""``metadist report``."""

from __future__ import annotations

import click

from metadist import api
from metadist.cli import options


@click.command()
@click.argument("run")
@options.runs_dir
def report(run: str, runs_dir: str) -> None:
    """Write the HTML report of RUN and print its path."""
    click.echo(str(api.report(run, runs_dir=runs_dir)))
