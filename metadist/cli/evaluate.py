"""``metadist evaluate``."""

from __future__ import annotations

from typing import Any

import click

from metadist import api
from metadist.cli import options
from metadist.cli.results import show


@click.command()
@click.argument("run")
@options.data_dir
@options.runs_dir
@options.device
@options.as_json
def evaluate(run: str, as_json: bool, **arguments: Any) -> None:
    """Evaluate the best checkpoint of RUN anew on its fixed test episodes.

    RUN is a name under the runs directory or a path. The checkpoint is the one that was best on
    validation classes; test classes never choose it.
    """
    result = api.evaluate(run, **arguments)
    for key in ("tasks_per_second", "data_wait"):
        result.pop(key)
    show(result, as_json=as_json)
