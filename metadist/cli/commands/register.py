"""``metadist register``."""

from __future__ import annotations

import json
from typing import Any

import click

from metadist import api
from metadist.cli import completion, options


@click.command()
@click.argument("run", shell_complete=completion.runs)
@click.option(
    "--name", help="Of the registered model. Default: made from data, ways, shots and algorithm."
)
@options.text(
    "--tracking-uri",
    "URI",
    "MLflow server or store that has the run. Default: the one it was made with.",
)
@options.plugins
@options.data_dir
@options.runs_dir
@options.as_json
def register(as_json: bool, **arguments: Any) -> None:
    """Add the best checkpoint of RUN to MLflow's model registry, as a model that adapts.

    RUN is a finished run that classifies images: a name under the runs directory or a path. Each
    call adds a version of the model. Serve it with

    \b
        mlflow models serve -m models:/NAME/VERSION --env-manager local
    """
    result = api.register(**arguments)
    options.say(
        f"{result['run']} is version {result['version']} of model {result['model']} in "
        f"{result['tracking_uri']}"
    )
    click.echo(json.dumps(result, allow_nan=False) if as_json else result["uri"])
