"""``metadist compare``."""

from __future__ import annotations

from typing import Any

import click

from metadist import api
from metadist.cli import completion, options


@click.command()
@click.argument("run", nargs=-1, shell_complete=completion.runs)
@options.text("--experiment", "E", "All finished runs of this MLflow experiment.")
@options.text(
    "--filter", "F", "Those alone that fit MLflow's filter F, as \"params.`inner.lr` = '0.4'\"."
)
@options.text("--baseline", "RUN", "What the others are compared with. Default: the first run.")
@options.text(
    "--protocol",
    "NAME",
    "Which evaluation to compare, as test-15q. Default: the first that all runs have.",
)
@options.text(
    "--metric", "NAME", "By which metric of each episode, as mse. Default: the one that decides."
)
@options.text("--html", "FILE", "Write a page with learning curves.")
@options.text("--csv", "FILE", "Write a table with a row for each run.")
@options.tracking_uri
@options.runs_dir
@options.as_json
def compare(run: tuple[str, ...], as_json: bool, **arguments: Any) -> None:
    """Compare RUNs that have finished: what differs, figures, paired differences, cost.

    RUN is a name under the runs directory or a path; at least two are needed, or an experiment or
    filter of MLflow that finds them.

    Differences are to the baseline on the same test episodes, with their 95 % interval: better,
    worse, or within noise. Of images, a second table has the intervals and verdicts for classes
    that are not among those of the episodes.
    """
    by_mlflow = arguments["experiment"] is not None or arguments["filter"] is not None
    if not run and not by_mlflow:
        raise click.UsageError("name at least two runs, or give --experiment or --filter")
    result = api.compare(run, **arguments)
    options.show(result.lines(), as_json=as_json)
    for name in ("html", "csv"):
        if arguments[name]:
            options.say(f"Written: {arguments[name]}")
    options.show((), result.to_dict(), as_json)
