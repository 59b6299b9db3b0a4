"""``metadist tune``."""

from __future__ import annotations

from typing import Any

import click

from metadist.cli import completion, options
from metadist.cli.verbosity import is_quiet


@click.command()
@click.argument("space", required=False, shell_complete=completion.spaces)
@click.option("--list", "listed", is_flag=True, help="List the search spaces that there are.")
@click.option("--name", help="Name of the search. Default: space and time.")
@options.text(
    "--resume",
    "NAME|auto",
    "Go on with a search; what is finished stays. auto: with that of --name, or start it.",
    shell_complete=completion.searches_or_auto,
)
@options.count("--trials", 1, "How many. Default: the space's own.", large=True)
@click.option(
    "--searcher",
    type=click.Choice(["tpe", "random", "grid"]),
    help="Who proposes trials. Default: the space's own.",
)
@options.count("--seed", 0, "Of the searcher. Default: 0.")
@options.text(
    "--base",
    "RECIPE",
    "Start from another recipe than the space's.",
    shell_complete=completion.recipes,
)
@options.overrides
@options.count("--steps", 1, "Outer steps of a trial: its budget.", large=True)
@options.count("--every", 1, "Outer steps between validations.", large=True)
@options.count(
    "--workers-per-trial",
    0,
    "Ray workers of each trial; 0 and 1: a trial trains in its own process.",
    default=0,
)
@options.count("--concurrent", 1, "Trials at once. Default: as many as fit.")
@click.option(
    "--cpus-per-trial",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    help="CPUs of a trial's own process; a fraction shares. Workers take one each.",
)
@click.option(
    "--gpus-per-trial",
    type=click.FloatRange(min=0),
    help="GPUs likewise. Default: one where there are any.",
)
@options.count("--seeds", 0, "Runs of the winner, and of the default, at the end. Default: 3.")
@options.count(
    "--episodes",
    2,
    "Fresh validation episodes on which they are compared. Default: 1000.",
    large=True,
)
@click.option(
    "--default/--no-default",
    default=None,
    help="Train the default setting for comparison too. Default: yes.",
)
@options.address
@click.option("--experiment", help="MLflow experiment. Default: metadist.")
@options.dry_run
@options.of_training
def tune(space: str | None, listed: bool, as_json: bool, dry_run: bool, **arguments: Any) -> None:
    """Search the hyper-parameters of SPACE and confirm what was found.

    SPACE is the name of a search space (see --list) or a TOML file. Trials are judged on validation
    classes; the best are compared on fresh episodes, the winner is trained anew with several seeds,
    and only that is evaluated on test classes.
    """
    if listed:
        from metadist.search.spaces import load_space, space_names

        options.show_rows([(name, load_space(name).about) for name in space_names()])
        return
    if space is None and arguments["resume"] is None:
        raise click.UsageError("SPACE is needed (see --list), or --resume NAME")
    from metadist.api import tuning

    result: Any
    if dry_run:
        result = tuning.dry_run(space, announce=options.say, **arguments)
    else:
        result = tuning.tune(space, announce=options.say, live=not is_quiet(), **arguments)
    options.show(result.lines(), result.to_dict(), as_json)
