"""``metadist report``."""

from __future__ import annotations

import click

from metadist import api
from metadist.cli import completion, options
from metadist.errors import RunError


@click.command()
@click.argument("run", shell_complete=completion.runs_and_searches)
@options.runs_dir
def report(run: str, runs_dir: str) -> None:
    """Write the HTML report of RUN, a run or a search, and print its path."""
    from data_pipeline.storage.object_uri import is_uri, local_path

    try:
        path = api.report(run, runs_dir=runs_dir)
    except RunError:
        if is_uri(runs_dir):
            raise  # searches have paths
        from metadist.search.report import report_again

        found = report_again(local_path(runs_dir), run)
        if found is None:
            raise
        path = found
    click.echo(str(path))
