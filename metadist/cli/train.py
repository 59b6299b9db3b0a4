"""``metadist train``."""

from __future__ import annotations

from typing import Any

import click

from metadist import api
from metadist.cli import options
from metadist.cli.results import show


@click.command()
@click.argument("recipe")
@click.option("--name", help="Name of the run. Default: recipe and time.")
@click.option(
    "--workers",
    metavar="N|MIN:MAX",
    default="0",
    show_default=True,
    help="Ray workers; 0 trains in this process. MIN:MAX takes what the cluster has.",
)
@options.address
@options.overrides
@click.option(
    "--resume",
    metavar="RUN|auto",
    help="Continue a run; auto continues the run of this name or recipe, or starts one.",
)
@click.option("--experiment", default="metadist", show_default=True, help="MLflow experiment.")
@options.offline
@options.plugins
@options.tracking_uri
@options.data_dir
@options.runs_dir
@options.device
@options.as_json
def train(as_json: bool, **arguments: Any) -> None:
    """Meta-train RECIPE, evaluate it on unseen classes and write a report.

    RECIPE is the name of a built-in recipe (see 'metadist recipes') or a TOML file.
    """
    if arguments["address"] and arguments["workers"] == "0":
        raise click.UsageError("--address needs --workers: how many of the cluster's workers?")
    result = api.train(arguments.pop("recipe"), announce=options.say, progress=True, **arguments)
    show(result, as_json=as_json)
