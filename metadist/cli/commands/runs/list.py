"""``metadist runs list``."""

from __future__ import annotations

import json
from typing import Any

import click

from metadist.api import runs_directory
from metadist.cli import options
from metadist.cli.commands.runs import _chosen


@click.command("list")
@_chosen.filters
@_chosen.since
@click.option(
    "--sort", default="-created", show_default=True, help="By this fact; '-' turns it round."
)
@options.runs_dir
@options.as_json
def list_(runs_dir: str, as_json: bool, **wanted: Any) -> None:
    """List the runs under a directory, the newest first.

    Facts: name, status, created, algorithm, dataset, network, steps, score, size.
    """
    from metadist.runs.inventory import select

    found = select(runs_directory(runs_dir), **wanted)
    if as_json:
        click.echo(json.dumps({"runs": [one.document() for one in found]}))
        return
    _chosen.show(found)
    if not found:
        options.say(f"No run of that kind under {runs_dir}")
